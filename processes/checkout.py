"""What happens next in a checkout: reserve → authorise → create_order → capture → confirm.

Everything follows from the checkout's own state. What is done at once goes into one append, with
the key of the next call to the provider; the call is made after that, and repeated under its key
until it is answered. A refused step undoes what was done, last first.

| phase | what is done at once | if that is refused |
| --- | --- | --- |
| reserve | hold every line, ask authorise | too little: fail |
| authorise, details | wait for the answer: authorised, refused, action, pending | |
| action | wait for the buyer's details; from the deadline on: fail | |
| pending | wait for the notification; from the deadline on: fail | |
| create_orders | sell every hold, create orders, ask capture | too little: fail |
| | a hold that ran out is taken again first | |
| capture | wait: accepted, then captured or failed | |
| | accepted and long without a word: ask again under the same key, and wait | |
| confirm | confirm orders | |
| confirmed | wait: a capture that fails late is asked once more, then given up | |
| undo: orders | reject them and restock their units | |
| undo: payments | ask cancel for each, and wait for the answers | |
| undo: holds | release them | |
| undo: nothing left | put the cart back; rejected, or cancelled | |
| rejected, cancelled | ask cancel for a payment that came late | |

What answers and notifications mean for it is `processes.payment_news`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, assert_never

from domain.commerce.cart.commands import RestoreCart
from domain.commerce.cart.events import CartItem
from domain.commerce.checkout import commands
from domain.commerce.checkout.commands import CheckoutCommand
from domain.commerce.checkout.decider import CHECKOUT, checkout_stream
from domain.commerce.checkout.events import CheckoutStarted, ProviderAsked
from domain.commerce.checkout.rejections import StepPassed
from domain.commerce.checkout.state import Call, Checkout
from domain.commerce.order.commands import ConfirmOrder, CreateOrder, RejectOrder
from domain.commerce.order.decider import order_stream
from domain.commerce.order.events import OrderLine
from domain.commerce.payment.events import PaymentNotified
from domain.commerce.stock.commands import (
    CommitReservation,
    ReceiveStock,
    ReleaseReservation,
    ReserveStock,
)
from domain.shared.message import Command
from infra.ports.payments import Authorise, Cancel, Capture, PaymentRequest, Refused, SubmitDetails
from infra.ports.sagas import Answered, Cause, Next, Question, Saga, StockNews
from processes.patience import RETRY_SECONDS_MAX, SETTLE_SECONDS_MAX, lies_ahead, may_ask_again
from processes.payment_news import consequences

ROUNDS_MAX = 12


def proceed(
    checkout: Checkout, cause: Cause, looked: Mapping[str, Any], news: StockNews, now: datetime
) -> Next:
    """What follows from what came in, and from that, as far as it goes without waiting."""
    came = recordable(checkout, consequences(checkout, cause, looked, now), now)
    found = carry_on(checkout, came, news, now)
    if found:
        return Next(commands=found)
    return waits(checkout, now)


def carry_on(
    checkout: Checkout, came: Sequence[Command], news: StockNews, now: datetime
) -> list[Command]:
    """`came`, and all that can be done at once after it: one append for the lot."""
    found = list(came)
    checkout = after(checkout, came, now)
    for _ in range(ROUNDS_MAX):
        more = steps(checkout, news, now)
        if not more:
            return found
        found += more
        checkout = after(checkout, more, now)
    raise AssertionError(f"checkout {checkout.checkout_id} does not come to rest")


def after(checkout: Checkout, asked: Iterable[Command], now: datetime) -> Checkout:
    """The checkout once these commands are recorded."""
    for command in asked:
        if isinstance(command, CheckoutCommand):
            for event in CHECKOUT.decide(command, checkout, now):
                checkout = CHECKOUT.evolve(checkout, event)
    return checkout


def recordable(checkout: Checkout, asked: Sequence[Command], now: datetime) -> Sequence[Command]:
    """The commands, or nothing where the checkout already knows."""
    try:
        after(checkout, asked, now)
    except StepPassed:
        return ()
    return asked


# What is done at once.


def steps(  # noqa: PLR0911
    checkout: Checkout, news: StockNews, now: datetime
) -> list[Command]:
    match checkout.phase:
        case "reserve":
            return reserve(checkout, news, now)
        case "create_orders":
            return create_orders(checkout, news, now)
        case "confirm":
            return confirm(checkout)
        case "action" | "pending":
            return give_up_waiting(checkout, now)
        case "undo":
            return undo(checkout)
        case "confirmed" | "rejected" | "cancelled":
            return cancel_unwanted(checkout)
        case _:
            return []


def lines(checkout: Checkout) -> list[OrderLine]:
    return [line for order in checkout.orders for line in order.lines]


def reservation_id(checkout: Checkout, hold: int = 1) -> str:
    return f"{checkout.checkout_id}.{hold}"


def held(checkout: Checkout, line: OrderLine, hold: int, until: datetime) -> ReserveStock:
    return ReserveStock(
        product_id=line.product_id,
        reservation_id=reservation_id(checkout, hold),
        quantity=line.quantity,
        expires_at=until,
    )


def reserve(checkout: Checkout, news: StockNews, now: datetime) -> list[Command]:
    if news.short:
        return [fail(checkout, "insufficient_stock", news.short)]
    until = now + timedelta(seconds=checkout.hold_seconds)
    return [
        *(held(checkout, line, 1, until) for line in lines(checkout)),
        commands.RecordReserved(checkout_id=checkout.checkout_id, expires_at=until),
    ]


def create_orders(checkout: Checkout, news: StockNews, now: datetime) -> list[Command]:
    if news.short:
        return [fail(checkout, "insufficient_stock", news.short)]
    return [
        *(step for line in lines(checkout) for step in sell(checkout, line, news, now)),
        *(
            CreateOrder(
                order_id=order.order_id,
                checkout_id=checkout.checkout_id,
                member_id=checkout.member_id,
                shop_id=order.shop_id,
                seller_id=order.seller_id,
                lines=order.lines,
                psp_reference=checkout.psp_reference,
            )
            for order in checkout.orders
        ),
        commands.RecordOrdersCreated(checkout_id=checkout.checkout_id),
    ]


def sell(checkout: Checkout, line: OrderLine, news: StockNews, now: datetime) -> list[Command]:
    """Make a sale of the hold; one that has run out is taken again first, if there still is any."""
    if line.product_id not in news.ended:
        return [
            CommitReservation(product_id=line.product_id, reservation_id=reservation_id(checkout))
        ]
    until = now + timedelta(seconds=checkout.hold_seconds)
    return [
        held(checkout, line, 2, until),
        CommitReservation(product_id=line.product_id, reservation_id=reservation_id(checkout, 2)),
    ]


def confirm(checkout: Checkout) -> list[Command]:
    return [
        *(ConfirmOrder(order_id=order.order_id) for order in checkout.orders),
        commands.RecordConfirmed(checkout_id=checkout.checkout_id),
    ]


def give_up_waiting(checkout: Checkout, now: datetime) -> list[Command]:
    if checkout.deadline is None or now < checkout.deadline:
        return []
    detail = "The payment was not completed in time"
    return [
        commands.FailCheckout(
            checkout_id=checkout.checkout_id, code="expired", detail=detail, outcome="cancelled"
        )
    ]


def fail(checkout: Checkout, code: str, detail: str) -> Command:
    return commands.FailCheckout(
        checkout_id=checkout.checkout_id, code=code, detail=detail, outcome="rejected"
    )


def undo(checkout: Checkout) -> list[Command]:
    """The last thing that is still done, undone."""
    if checkout.ordered:
        return undo_orders(checkout)
    if checkout.unwanted:
        return cancel_unwanted(checkout)
    if checkout.reserved:
        return [
            *(
                ReleaseReservation(
                    product_id=line.product_id, reservation_id=reservation_id(checkout)
                )
                for line in lines(checkout)
            ),
            commands.RecordReleased(checkout_id=checkout.checkout_id),
        ]
    return [
        RestoreCart(
            member_id=checkout.member_id,
            checkout_id=checkout.checkout_id,
            items=tuple(cart_item(line) for line in lines(checkout)),
        ),
        commands.FinishCheckout(checkout_id=checkout.checkout_id),
    ]


def undo_orders(checkout: Checkout) -> list[Command]:
    code = checkout.failure.code if checkout.failure else ""
    return [
        *(RejectOrder(order_id=order.order_id, because_of=code) for order in checkout.orders),
        *(
            ReceiveStock(
                product_id=line.product_id,
                quantity=line.quantity,
                reference=f"{order.order_id}:rejected",
            )
            for order in checkout.orders
            for line in order.lines
        ),
        commands.RecordOrdersUndone(checkout_id=checkout.checkout_id),
    ]


def cart_item(line: OrderLine) -> CartItem:
    return CartItem(
        product_id=line.product_id,
        quantity=line.quantity,
        seen_price=line.price,
        source_post_id=line.source_post_id,
    )


def cancel_unwanted(checkout: Checkout) -> list[Command]:
    asked = {call.psp_reference for call in checkout.open_calls if call.step == "cancel"}
    return [
        commands.CancelPayment(checkout_id=checkout.checkout_id, psp_reference=psp)
        for psp in sorted(checkout.unwanted - asked)
    ]


# What is waited for.


def waits(checkout: Checkout, now: datetime) -> Next:
    times = []
    questions = []
    unsettled = [call for call in checkout.calls.values() if call.status in {"asked", "accepted"}]
    for call in unsettled:
        longest = RETRY_SECONDS_MAX if call.status == "asked" else SETTLE_SECONDS_MAX
        if call.retry_at is not None and lies_ahead(call.retry_at, longest, now):
            times.append(call.retry_at)
        elif may_ask_again(call.settles_at, now):
            questions.append(question(checkout, call))
    if checkout.phase in {"action", "pending"} and checkout.deadline is not None:
        times.append(checkout.deadline)
    over = checkout.phase in {"confirmed", "rejected", "cancelled"} and not unsettled
    return Next(questions=questions, wake_at=min(times, default=None), over=over)


def question(checkout: Checkout, call: Call) -> Question:
    return Question(call.key, requested(checkout, call), call.secrets)


def requested(checkout: Checkout, call: Call) -> PaymentRequest:
    reference = f"{checkout.checkout_id}-{call.step}-{call.attempt}"
    match call.step:
        case "authorise":
            return Authorise(
                key=call.key,
                reference=checkout.checkout_id,
                amount=checkout.total,
                buyer_id=checkout.member_id,
                secrets={},
            )
        case "details":
            return SubmitDetails(key=call.key, secrets={})
        case "capture":
            return Capture(
                key=call.key,
                reference=reference,
                psp_reference=call.psp_reference,
                amount=call.amount or checkout.total,
            )
        case "cancel":
            return Cancel(key=call.key, reference=reference, psp_reference=call.psp_reference)
        case _:
            assert_never(call.step)


def concerns(event: CheckoutStarted | ProviderAsked | PaymentNotified) -> str:
    # Questions of the process itself need no waking: it is awake.
    if isinstance(event, ProviderAsked) and event.step != "details":
        return ""
    return event.checkout_id


def looks(checkout: Checkout, cause: Cause) -> Sequence[str]:
    """Orders matter where a capture fails after they were confirmed, and for refunds."""
    match cause:
        case (
            PaymentNotified(event_code="AUTHORISATION")
            | PaymentNotified(event_code="CAPTURE", success=True)
        ):
            late = False
        case PaymentNotified() | Answered(answer=Refused()):
            late = checkout.phase == "confirmed"
        case _:
            late = False
    return [order_stream(order.order_id) for order in checkout.orders] if late else []


SAGA: Saga[Checkout] = Saga(
    name="checkout",
    handles=frozenset({CheckoutStarted, ProviderAsked, PaymentNotified}),
    concerns=concerns,
    stream=checkout_stream,
    looks=looks,
    proceed=proceed,
)
