"""What happens after an order is cancelled or items come back: restock them, refund the money.

| the order has | what is done |
| --- | --- |
| units that came back | counted as stock again, once a reference |
| a refund due, and money taken | its key is stored, the provider asked until it answers |
| a refund accepted | waits for the notification, however long |
| | long without one: asked again under the same key, as long as that lives |
| a refund refused, or failed later | it stays failed, on the operator's list |
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from domain.commerce.order.commands import (
    AskRefund,
    RecordRefundAccepted,
    RecordRefundFailed,
    RecordRefundUnanswered,
    RecordRefundUnconfirmed,
    RecordRestocked,
)
from domain.commerce.order.decider import order_stream
from domain.commerce.order.events import CaptureRepeated, ItemsReturned, OrderCancelled
from domain.commerce.order.state import Order, Refund
from domain.commerce.stock.commands import ReceiveStock
from domain.shared.message import Command
from infra.ports import payments
from infra.ports.payments import Accepted, Answer, Refused, Unanswered
from infra.ports.sagas import Answered, Cause, Next, Question, Saga, StockNews
from processes.patience import (
    RETRY_SECONDS_MAX,
    SETTLE_SECONDS_MAX,
    first_word_due,
    lies_ahead,
    may_ask_again,
    retry_wait,
    settle_wait,
)
from processes.payment_news import refund_reference, said_again


def proceed(
    order: Order, cause: Cause, _looked: Mapping[str, Any], _news: StockNews, now: datetime
) -> Next:
    if isinstance(cause, Answered):
        for refund_id, refund in order.refunds.items():
            if refund.key != cause.key:
                continue
            if refund.status == "asked":
                return Next(commands=[answered(order, refund_id, refund, cause.answer, now)])
            late = not lies_ahead(refund.retry_at, SETTLE_SECONDS_MAX, now)
            if refund.status == "accepted" and late:
                return Next(commands=[unconfirmed(order, refund_id, refund, cause.answer, now)])
    found = [*restock(order), *refunds(order)]
    return Next(commands=found) if found else waits(order, now)


def restock(order: Order) -> list[Command]:
    return [
        command
        for reference, items in order.restock_due.items()
        for command in (
            *(
                ReceiveStock(
                    product_id=item.product_id, quantity=item.quantity, reference=reference
                )
                for item in items
            ),
            RecordRestocked(order_id=order.order_id, reference=reference),
        )
    ]


def refunds(order: Order) -> list[Command]:
    return [
        AskRefund(order_id=order.order_id, refund_id=refund_id)
        for refund_id, refund in order.refunds.items()
        if refund.status == "due" and order.captured.value > 0
    ]


def answered(
    order: Order, refund_id: str, refund: Refund, answer: Answer, now: datetime
) -> Command:
    match answer:
        case Accepted():
            return RecordRefundAccepted(
                order_id=order.order_id,
                refund_id=refund_id,
                psp_reference=answer.psp_reference,
                settles_at=first_word_due(now),
            )
        case Refused():
            return RecordRefundFailed(
                order_id=order.order_id,
                refund_id=refund_id,
                psp_reference=answer.psp_reference,
                reason=answer.reason,
            )
        case _:
            odd = f"it answered {type(answer).__name__}"
            reason = answer.reason if isinstance(answer, Unanswered) else odd
            return RecordRefundUnanswered(
                order_id=order.order_id,
                refund_id=refund_id,
                reason=reason,
                retry_at=now + retry_wait(refund.tries),
            )


def unconfirmed(
    order: Order, refund_id: str, refund: Refund, answer: Answer, now: datetime
) -> Command:
    """It was accepted; so neither a no nor silence is a no now: its notification decides."""
    return RecordRefundUnconfirmed(
        order_id=order.order_id,
        refund_id=refund_id,
        said=said_again(answer),
        retry_at=now + settle_wait(refund.tries),
    )


def waits(order: Order, now: datetime) -> Next:
    times = []
    questions = []
    for refund_id, refund in order.refunds.items():
        if refund.status not in {"asked", "accepted"}:
            continue
        longest = RETRY_SECONDS_MAX if refund.status == "asked" else SETTLE_SECONDS_MAX
        if refund.retry_at is not None and lies_ahead(refund.retry_at, longest, now):
            times.append(refund.retry_at)
        elif may_ask_again(refund.settles_at, now):
            questions.append(question(order, refund_id, refund))
    return Next(questions=questions, wake_at=min(times, default=None))


def question(order: Order, refund_id: str, refund: Refund) -> Question:
    return Question(
        refund.key,
        payments.Refund(
            key=refund.key,
            reference=refund_reference(order.checkout_id, order.order_id, refund_id),
            psp_reference=order.psp_reference,
            amount=refund.amount,
        ),
    )


def concerns(event: OrderCancelled | ItemsReturned | CaptureRepeated) -> str:
    return event.order_id


def looks(_order: Order, _cause: Cause) -> Sequence[str]:
    return []


SAGA: Saga[Order] = Saga(
    name="returns",
    handles=frozenset({OrderCancelled, ItemsReturned, CaptureRepeated}),
    concerns=concerns,
    stream=order_stream,
    looks=looks,
    proceed=proceed,
)
