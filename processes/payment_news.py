"""What a payment provider's answers and notifications mean for a checkout and its orders.

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

from collections.abc import Mapping
from datetime import datetime
from typing import Any, assert_never

from domain.commerce.checkout import commands
from domain.commerce.checkout.decider import CAPTURE_ATTEMPTS_MAX, capture_meant
from domain.commerce.checkout.state import Call, Checkout
from domain.commerce.order.commands import (
    RecordCaptureRepeated,
    RecordCaptureReversed,
    RecordRefunded,
    RecordRefundFailed,
)
from domain.commerce.order.decider import order_stream
from domain.commerce.order.state import Order
from domain.commerce.payment.events import PaymentNotified
from domain.shared.message import Command
from infra.ports.payments import (
    Accepted,
    ActionRequired,
    Answer,
    Authorised,
    Pending,
    Refused,
    Unanswered,
)
from infra.ports.sagas import Answered, Cause
from processes.patience import (
    SETTLE_SECONDS_MAX,
    first_word_due,
    lies_ahead,
    retry_wait,
    settle_wait,
)

REFUND = "refund"


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


def out_of_place(checkout: Checkout, call: Call, answer: Answer, now: datetime) -> Command:
    """An answer that does not fit the question is none."""
    return unanswered(checkout, call, Unanswered(f"it answered {type(answer).__name__}"), now)


def said_again(answer: Answer) -> str:
    """What the provider said to a question that it had accepted before, in words for people."""
    match answer:
        case Accepted():
            return "accepted it again"
        case Refused() | Unanswered():
            return answer.reason
        case _:
            return f"it answered {type(answer).__name__}"


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
                    settles_at=first_word_due(now),
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
            checkout_id=checkout.checkout_id, psp_reference=psp_reference, reason=reason, live=live
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
