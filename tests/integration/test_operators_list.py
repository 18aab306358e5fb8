"""What `plaza checkouts list --problem` reads: money that failed, or of which nobody was told."""

from datetime import UTC, datetime
from typing import Any

from domain.commerce.checkout import events as checkouts
from domain.commerce.checkout.events import CheckoutOrder
from domain.commerce.order import events as orders
from domain.commerce.order.events import OrderLine
from domain.shared.identifiers import id_number, make_id
from domain.shared.money import Money
from domain.shared.personal import Personal
from infra.adapters.reads.postgres_commerce_reads import PostgresCommerceReads
from infra.formats.codec import Line, encode_state
from infra.ports.frames import COMMERCE_PARTITIONS
from infra.ports.log import Recorded
from infra.runtime.frames.frames import frames_between
from projections import COMMERCE
from tests.integration.tables import projector, write_log

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PRICE = Money("EUR", 1000)
BUYER, SELLER, SHOP, MUG, CHECKOUT, ORDER = (
    make_id(int(NOON.timestamp() * 1000), number) for number in range(6)
)
LINE = OrderLine(product_id=MUG, quantity=1, price=PRICE)

STARTED = checkouts.CheckoutStarted(
    checkout_id=CHECKOUT,
    member_id=BUYER,
    orders=(CheckoutOrder(order_id=ORDER, shop_id=SHOP, seller_id=SELLER, lines=(LINE,)),),
    total=PRICE,
    shipping_address=Personal(sealed=b""),
    hold_seconds=600,
    deadline=NOON,
)
ACCEPTED = checkouts.CaptureAccepted(
    checkout_id=CHECKOUT, attempt=1, psp_reference="CAP", settles_at=NOON
)
UNCONFIRMED = checkouts.CaptureUnconfirmed(
    checkout_id=CHECKOUT, attempt=1, said="accepted it again", retry_at=NOON
)
CONFIRMED = checkouts.CheckoutConfirmed(checkout_id=CHECKOUT, member_id=BUYER)
CREATED = orders.OrderCreated(
    order_id=ORDER,
    checkout_id=CHECKOUT,
    member_id=BUYER,
    shop_id=SHOP,
    seller_id=SELLER,
    lines=(LINE,),
    total=PRICE,
    psp_reference="PSP",
)
ORDERED = orders.OrderConfirmed(order_id=ORDER, member_id=BUYER, captured=PRICE)
CANCELLED = orders.OrderCancelled(order_id=ORDER, member_id=BUYER, because_of="buyer", refund=PRICE)
REFUND_UNCONFIRMED = orders.RefundUnconfirmed(
    order_id=ORDER, refund_id="cancel", said="timed out", retry_at=NOON
)
REFUNDED = orders.OrderRefunded(
    order_id=ORDER, refund_id="cancel", amount=PRICE, psp_reference="REF"
)
REFUND_FAILED = orders.RefundFailed(order_id=ORDER, refund_id="cancel", reason="closed")


def recorded(told: list[Any]) -> list[Recorded]:
    streams = {f"checkout:{CHECKOUT}": 0, f"order:{ORDER}": 0}
    found = []
    for position, event in enumerate(told, start=1):
        stream = f"order:{ORDER}" if hasattr(event, "order_id") else f"checkout:{CHECKOUT}"
        streams[stream] += 1
        found.append(
            Recorded(
                stream=stream,
                version=streams[stream],
                recorded_at=NOON,
                event=event,
                position=position,
            )
        )
    return found


async def test_what_stays_without_a_word_is_listed_until_there_is_one(postgres_url: str) -> None:
    parts: list[tuple[Any, set[str]]] = [
        (STARTED, set()),
        (ACCEPTED, set()),
        (UNCONFIRMED, {"capture_unconfirmed"}),
        (UNCONFIRMED, {"capture_unconfirmed"}),
        (CREATED, {"capture_unconfirmed"}),
        (CONFIRMED, set()),
        (ORDERED, set()),
        (CANCELLED, set()),
        (REFUND_UNCONFIRMED, {"refund_unconfirmed"}),
        (REFUND_UNCONFIRMED, {"refund_unconfirmed"}),
        (REFUNDED, set()),
        (REFUND_FAILED, {"refund_failed"}),
    ]
    events = recorded([event for event, _ in parts])
    await write_log(postgres_url, events)
    reads = PostgresCommerceReads(postgres_url, 1)
    try:
        async with projector(postgres_url, COMMERCE) as target:
            for one, (_, expected) in zip(events, parts, strict=True):
                line = Line(one.position, one.stream, one.version, encode_state(one))
                frames = frames_between(one.position - 1, one.position, [line], COMMERCE_PARTITIONS)
                await target.apply(frames)
                found = await reads.problems()
                assert {problem.problem for problem in found} == expected
                for problem in found:
                    assert problem.checkout_id == id_number(CHECKOUT)
                    of_order = problem.problem.startswith("refund")
                    assert problem.order_id == (id_number(ORDER) if of_order else None)
    finally:
        await reads.close()
