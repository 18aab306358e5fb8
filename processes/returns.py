"""What happens after an order is cancelled or items come back: restock them, refund the money.

| the order has | what is done |
| --- | --- |
| units that came back | counted as stock again, once a reference |
| a refund due, and money taken | its key is stored, the provider asked until it answers |
| a refund accepted | waits for the notification; long without one it counts as done |
| a refund refused, or failed later | it stays failed, on the operator's list |
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from domain.commerce.order.commands import (
    AskRefund,
    RecordRefundAccepted,
    RecordRefunded,
    RecordRefundFailed,
    RecordRefundUnanswered,
    RecordRestocked,
)
from domain.commerce.order.decider import Order, Refund, order_stream
from domain.commerce.order.events import CaptureRepeated, ItemsReturned, OrderCancelled
from domain.commerce.stock.commands import ReceiveStock
from domain.shared.message import Command
from infra import payments
from infra.payments import Accepted, Answer, Refused, Unanswered
from infra.sagas import Answered, Cause, Next, Question, Saga, StockNews
from processes.checkout import SETTLE_SECONDS, refund_reference, retry_wait


def proceed(
    order: Order, cause: Cause, _looked: Mapping[str, Any], _news: StockNews, now: datetime
) -> Next:
    if isinstance(cause, Answered):
        for refund_id, refund in order.refunds.items():
            if refund.key == cause.key and refund.status == "asked":
                return Next(commands=[answered(order, refund_id, refund, cause.answer, now)])
    found = [*restock(order), *refunds(order, now)]
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


def refunds(order: Order, now: datetime) -> list[Command]:
    found: list[Command] = []
    for refund_id, refund in order.refunds.items():
        if refund.status == "due" and order.captured.value > 0:
            found.append(AskRefund(order_id=order.order_id, refund_id=refund_id))
        elif refund.status == "accepted" and refund.retry_at and refund.retry_at <= now:
            psp = refund.psp_reference
            found.append(
                RecordRefunded(order_id=order.order_id, refund_id=refund_id, psp_reference=psp)
            )
    return found


def answered(
    order: Order, refund_id: str, refund: Refund, answer: Answer, now: datetime
) -> Command:
    match answer:
        case Accepted():
            return RecordRefundAccepted(
                order_id=order.order_id,
                refund_id=refund_id,
                psp_reference=answer.psp_reference,
                settles_at=now + timedelta(seconds=SETTLE_SECONDS),
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


def waits(order: Order, now: datetime) -> Next:
    times = []
    questions = []
    for refund_id, refund in order.refunds.items():
        if refund.status not in {"asked", "accepted"}:
            continue
        if refund.retry_at is not None and refund.retry_at > now:
            times.append(refund.retry_at)
        elif refund.status == "asked":
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
