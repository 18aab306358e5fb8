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

| came in | recorded |
| --- | --- |
| authorised: answer or AUTHORISATION yes | authorised; unwanted where nobody waits for it |
| refused: answer or AUTHORISATION no | refused, and failed |
| capture: CAPTURE yes | captured |
| capture: accepted | accepted; its notification is waited for, however long |
| capture: refused, CAPTURE no, CAPTURE_FAILED | failed and asked again once; then given up |
| capture, accepted before: any answer | unconfirmed: asked again later, as long as its key lives |
| cancel: accepted, CANCELLATION yes | cancelled |
| cancel: refused, CANCELLATION no | asked again, at most three times |
| refund: REFUND yes, REFUND no, REFUND_FAILED | refunded, or failed, on the order it belongs to |
| no answer | unanswered: asked again later, under the same key |
| anything known already | nothing |
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, assert_never

from domain.commerce.cart.commands import RestoreCart
from domain.commerce.cart.events import CartItem
from domain.commerce.checkout import commands
from domain.commerce.checkout.commands import CheckoutCommand
from domain.commerce.checkout.decider import (
    CAPTURE_ATTEMPTS_MAX,
    CHECKOUT,
    capture_meant,
    checkout_stream,
)
from domain.commerce.checkout.events import CheckoutStarted, ProviderAsked
from domain.commerce.checkout.rejections import StepPassed
from domain.commerce.checkout.state import Call, Checkout
from domain.commerce.order.commands import (
    ConfirmOrder,
    CreateOrder,
    RecordCaptureRepeated,
    RecordCaptureReversed,
    RecordRefunded,
    RecordRefundFailed,
    RejectOrder,
)
from domain.commerce.order.decider import order_stream
from domain.commerce.order.events import OrderLine
from domain.commerce.order.state import Order
from domain.commerce.payment.events import PaymentNotified
from domain.commerce.stock.commands import (
    CommitReservation,
    ReceiveStock,
    ReleaseReservation,
    ReserveStock,
)
from domain.shared.message import Command
from infra.ports.payments import (
    Accepted,
    ActionRequired,
    Answer,
    Authorise,
    Authorised,
    Cancel,
    Capture,
    PaymentRequest,
    Pending,
    Refused,
    SubmitDetails,
    Unanswered,
)
from infra.ports.sagas import Answered, Cause, Next, Question, Saga, StockNews

SETTLE_SECONDS, SETTLE_SECONDS_MAX = 60.0, 3_600.0
"""How long an accepted capture or refund may stay without a notification before it is asked again,
and how far that wait grows, doubling."""
KEY_DAYS = 6.0
"""How long the provider surely knows a key: to ask again later could move the money twice."""
RETRY_SECONDS, RETRY_SECONDS_MAX = 0.25, 10.0
ROUNDS_MAX = 12
REFUND = "refund"


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


# What came in.


def consequences(
    checkout: Checkout, cause: Cause, looked: Mapping[str, Any], now: datetime
) -> list[Command]:
    match cause:
        case None:
            return []
        case Answered():
            call = checkout.calls.get(cause.key)
            return [] if call is None else answered(checkout, call, cause.answer, looked, now)
        case PaymentNotified():
            return notified(checkout, cause, looked)
        case _:
            assert_never(cause)


def answered(
    checkout: Checkout, call: Call, answer: Answer, looked: Mapping[str, Any], now: datetime
) -> list[Command]:
    if call.status == "accepted":
        return unconfirmed(checkout, call, answer, now)
    if isinstance(answer, Unanswered):
        return [unanswered(checkout, call, answer, now)]
    match call.step:
        case "authorise" | "details":
            return authorisation_answered(checkout, call, answer, now)
        case "capture" if call.status == "asked":
            return capture_answered(checkout, call, answer, looked, now)
        case "capture":
            return []  # A notification was faster.
        case "cancel":
            return [cancel_answered(checkout, call, answer, now)]
        case _:
            assert_never(call.step)


def unanswered(checkout: Checkout, call: Call, answer: Unanswered, now: datetime) -> Command:
    return commands.RecordUnanswered(
        checkout_id=checkout.checkout_id,
        key=call.key,
        reason=answer.reason,
        retry_at=now + retry_wait(call.tries),
    )


def retry_wait(tries: int) -> timedelta:
    return timedelta(seconds=min(RETRY_SECONDS * 2 ** min(tries, 10), RETRY_SECONDS_MAX))


def unconfirmed(checkout: Checkout, call: Call, answer: Answer, now: datetime) -> list[Command]:
    """It was accepted; so neither a no nor silence is a no now: its notification decides."""
    if lies_ahead(call.retry_at, SETTLE_SECONDS_MAX, now):
        return []
    return [
        commands.RecordCaptureUnconfirmed(
            checkout_id=checkout.checkout_id,
            key=call.key,
            said=said_again(answer),
            retry_at=now + settle_wait(call.tries),
        )
    ]


def said_again(answer: Answer) -> str:
    """What the provider said to a question that it had accepted before, in words for people."""
    match answer:
        case Accepted():
            return "accepted it again"
        case Refused() | Unanswered():
            return answer.reason
        case _:
            return f"it answered {type(answer).__name__}"


def settle_wait(tries: int) -> timedelta:
    return timedelta(seconds=min(SETTLE_SECONDS * 2 ** min(tries + 1, 10), SETTLE_SECONDS_MAX))


def lies_ahead(retry_at: datetime | None, longest_seconds: float, now: datetime) -> bool:
    """Whether it is still to be waited for. What lies further ahead than anything is ever put off
    was put off before the clock was set back."""
    return retry_at is not None and now < retry_at <= now + timedelta(seconds=longest_seconds)


def may_ask_again(settles_at: datetime | None, now: datetime) -> bool:
    """Whether the key of what was accepted, and is without a word since, is still known."""
    return settles_at is None or now < settles_at + timedelta(days=KEY_DAYS)


def out_of_place(checkout: Checkout, call: Call, answer: Answer, now: datetime) -> Command:
    """An answer that does not fit the question is none."""
    return unanswered(checkout, call, Unanswered(f"it answered {type(answer).__name__}"), now)


def authorisation_answered(
    checkout: Checkout, call: Call, answer: Answer, now: datetime
) -> list[Command]:
    id_ = checkout.checkout_id
    match answer:
        case Authorised():
            return [commands.RecordAuthorised(checkout_id=id_, psp_reference=answer.psp_reference)]
        case Refused():
            return [
                commands.RecordRefused(
                    checkout_id=id_, psp_reference=answer.psp_reference, reason=answer.reason
                )
            ]
        case ActionRequired():
            return [
                commands.RecordActionRequired(checkout_id=id_, key=call.key, action=answer.action)
            ]
        case Pending():
            return [
                commands.RecordPending(
                    checkout_id=id_, key=call.key, psp_reference=answer.psp_reference
                )
            ]
        case _:
            return [out_of_place(checkout, call, answer, now)]


def capture_answered(
    checkout: Checkout, call: Call, answer: Answer, looked: Mapping[str, Any], now: datetime
) -> list[Command]:
    match answer:
        case Accepted():
            return [
                commands.RecordCaptureAccepted(
                    checkout_id=checkout.checkout_id,
                    key=call.key,
                    psp_reference=answer.psp_reference,
                    settles_at=now + timedelta(seconds=SETTLE_SECONDS),
                )
            ]
        case Refused():
            return capture_failed(checkout, "", answer.reason, looked)
        case _:
            return [out_of_place(checkout, call, answer, now)]


def cancel_answered(checkout: Checkout, call: Call, answer: Answer, now: datetime) -> Command:
    match answer:
        case Accepted():
            return commands.RecordCancelAccepted(checkout_id=checkout.checkout_id, key=call.key)
        case Refused():
            return commands.RecordCancelFailed(
                checkout_id=checkout.checkout_id,
                psp_reference=call.psp_reference,
                key=call.key,
                reason=answer.reason,
            )
        case _:
            return out_of_place(checkout, call, answer, now)


def notified(  # noqa: PLR0911
    checkout: Checkout, told: PaymentNotified, looked: Mapping[str, Any]
) -> list[Command]:
    id_, psp = checkout.checkout_id, told.psp_reference
    match (told.event_code, told.success):
        case ("AUTHORISATION", True):
            return [commands.RecordAuthorised(checkout_id=id_, psp_reference=psp)]
        case ("AUTHORISATION", False):
            return [commands.RecordRefused(checkout_id=id_, psp_reference=psp, reason=told.reason)]
        case ("CAPTURE", True):
            return captured(checkout, psp)
        case ("CAPTURE", False) | ("CAPTURE_FAILED", _):
            return capture_failed(checkout, psp, told.reason, looked)
        case ("CANCELLATION" | "TECHNICAL_CANCEL", _):
            return cancellation(checkout, told)
        case ("REFUND" | "REFUND_FAILED" | "REFUNDED_REVERSED", _):
            return refund_told(checkout, told, looked)
        case _:
            return []


def captured(checkout: Checkout, psp_reference: str) -> list[Command]:
    done = commands.RecordCaptured(checkout_id=checkout.checkout_id, psp_reference=psp_reference)
    if checkout.phase != "confirmed":
        return [done]
    call = capture_meant(psp_reference, checkout)
    if call is None or call.attempt == 1:
        return [done]
    every = tuple(order.order_id for order in checkout.orders)
    return [done, *(RecordCaptureRepeated(order_id=id_) for id_ in call.order_ids or every)]


def capture_failed(
    checkout: Checkout, psp_reference: str, reason: str, looked: Mapping[str, Any]
) -> list[Command]:
    def failed(live: tuple[str, ...] | None) -> Command:
        return commands.RecordCaptureFailed(
            checkout_id=checkout.checkout_id,
            psp_reference=psp_reference,
            reason=reason,
            live=live,
        )

    if checkout.phase != "confirmed":
        return [failed(None)]
    known = orders(checkout, looked)
    call = capture_meant(psp_reference, checkout)
    last = call is not None and call.attempt >= CAPTURE_ATTEMPTS_MAX
    live = tuple(id_ for id_, order in known.items() if order.status != "cancelled")
    found = [failed(live)]
    found += [RecordCaptureReversed(order_id=id_, final=last or id_ not in live) for id_ in known]
    given_up = last or not live
    if given_up and not any(is_shipped(order) for order in known.values()):
        # Nothing of it will be captured any more, so the authorised money is given free.
        psp = checkout.psp_reference
        found.append(commands.CancelPayment(checkout_id=checkout.checkout_id, psp_reference=psp))
    return found


def is_shipped(order: Order) -> bool:
    return order.status in {"shipped", "delivered", "returned"}


def orders(checkout: Checkout, looked: Mapping[str, Any]) -> dict[str, Order]:
    streams = {order.order_id: order_stream(order.order_id) for order in checkout.orders}
    return {id_: looked[stream] for id_, stream in streams.items() if stream in looked}


def cancellation(checkout: Checkout, told: PaymentNotified) -> list[Command]:
    psp = told.original_reference or told.psp_reference
    if not told.success:
        return [
            commands.RecordCancelFailed(
                checkout_id=checkout.checkout_id, psp_reference=psp, key="", reason=told.reason
            )
        ]
    return [
        commands.RecordCancelAccepted(checkout_id=checkout.checkout_id, key=call.key)
        for call in checkout.open_calls
        if call.step == "cancel" and call.psp_reference == psp
    ]


def refund_told(
    checkout: Checkout, told: PaymentNotified, looked: Mapping[str, Any]
) -> list[Command]:
    order_id, refund_id = refund_named(told.merchant_reference)
    for id_, order in orders(checkout, looked).items():
        known = {refund.psp_reference for refund in order.refunds.values()} - {""}
        if id_ != order_id and told.psp_reference not in known:
            continue
        if told.event_code == "REFUND" and told.success:
            return [
                RecordRefunded(order_id=id_, refund_id=refund_id, psp_reference=told.psp_reference)
            ]
        return [
            RecordRefundFailed(
                order_id=id_,
                refund_id=refund_id,
                psp_reference=told.psp_reference,
                reason=told.reason,
            )
        ]
    return []


def refund_reference(checkout_id: str, order_id: str, refund_id: str) -> str:
    """What a refund is called towards the provider, which repeats it in its notifications."""
    return f"{checkout_id}-{REFUND}-{order_id}-{refund_id}"


def refund_named(reference: str) -> tuple[str, str]:
    """The order and the refund that a reference names; empty where it names none."""
    parts = reference.split("-")
    return (parts[2], parts[3]) if len(parts) == 4 and parts[1] == REFUND else ("", "")


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
