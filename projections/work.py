"""What processes have still to do: so that one that starts again finds it without the whole log.

A row that holds says that somebody must be looked at: a checkout that is not finished, a call to
the provider that has no answer, units held, units and money on their way back.
"""

from collections.abc import Sequence
from typing import get_args

from domain.commerce.checkout import events as checkouts
from domain.commerce.order import events as orders
from domain.commerce.stock import events as stock
from infra.ports.frames import COMMERCE_PARTITIONS
from infra.ports.log import Recorded
from infra.ports.tables import Change, Close, Column, Insert, RangeTable
from infra.runtime.projecting.projection import Projection

Handled = (
    stock.StockReserved
    | stock.ReservationCommitted
    | stock.ReservationReleased
    | stock.ReservationExpired
    | checkouts.CheckoutStarted
    | checkouts.CheckoutConfirmed
    | checkouts.CheckoutRejected
    | checkouts.CheckoutCancelled
    | checkouts.ProviderAsked
    | checkouts.PaymentCaptured
    | checkouts.CaptureFailed
    | checkouts.UnwantedAuthorised
    | checkouts.CancelAccepted
    | checkouts.CancelFailed
    | orders.OrderCancelled
    | orders.ItemsReturned
    | orders.CaptureRepeated
    | orders.ItemsRestocked
    | orders.OrderRefunded
    | orders.RefundFailed
)

HOLDS, CHECKOUT, RETURNS = "holds", "checkout", "returns"

WORK = RangeTable(
    name="work",
    columns=(
        Column("kind", "text"),
        Column("subject", "text"),
        Column("task", "text"),
        Column("due_at", "timestamptz", nullable=True),
    ),
    primary_key=("kind", "subject", "task", "since"),
    key=("kind", "subject", "task"),
)


def fold(recorded: Recorded) -> Sequence[Change]:
    event: Handled = recorded.event  # type: ignore[assignment]
    match event:
        case stock.StockReserved():
            row = (HOLDS, event.product_id, event.reservation_id, event.expires_at)
            return (Insert(WORK, row),)
        case stock.ReservationCommitted() | stock.ReservationReleased():
            return (done(HOLDS, event.product_id, event.reservation_id),)
        case stock.ReservationExpired():
            return (done(HOLDS, event.product_id, event.reservation_id),)
        case _:
            return of_order(event) if hasattr(event, "order_id") else of_checkout(event)


def of_checkout(event: Handled) -> Sequence[Change]:  # noqa: PLR0911
    match event:
        case checkouts.CheckoutStarted():
            return (to_do(CHECKOUT, event.checkout_id, "finish"),)
        case (
            checkouts.CheckoutConfirmed()
            | checkouts.CheckoutRejected()
            | checkouts.CheckoutCancelled()
        ):
            return (done(CHECKOUT, event.checkout_id, "finish"),)
        case checkouts.ProviderAsked(step="capture"):
            return (to_do(CHECKOUT, event.checkout_id, f"capture {event.attempt}"),)
        case checkouts.PaymentCaptured() | checkouts.CaptureFailed():
            return (done(CHECKOUT, event.checkout_id, f"capture {event.attempt}"),)
        case checkouts.UnwantedAuthorised() | checkouts.ProviderAsked(step="cancel"):
            task = f"cancel {event.psp_reference}"
            return (
                done(CHECKOUT, event.checkout_id, task),
                to_do(CHECKOUT, event.checkout_id, task),
            )
        case checkouts.CancelAccepted() | checkouts.CancelFailed(final=True):
            return (done(CHECKOUT, event.checkout_id, f"cancel {event.psp_reference}"),)
        case checkouts.CancelFailed():
            task = f"cancel {event.psp_reference}"
            return (
                done(CHECKOUT, event.checkout_id, task),
                to_do(CHECKOUT, event.checkout_id, task),
            )
        case _:
            return ()


def of_order(event: Handled) -> Sequence[Change]:
    match event:
        case orders.OrderCancelled():
            return (
                to_do(RETURNS, event.order_id, f"restock {event.order_id}:cancel"),
                *refund(event.order_id, "cancel", needed=event.refund is not None),
            )
        case orders.ItemsReturned():
            return (
                to_do(RETURNS, event.order_id, f"restock {event.order_id}:{event.return_id}"),
                *refund(event.order_id, event.return_id, needed=event.refund.value > 0),
            )
        case orders.CaptureRepeated():
            return refund(event.order_id, "cancel", needed=event.refund is not None)
        case orders.ItemsRestocked():
            return (done(RETURNS, event.order_id, f"restock {event.reference}"),)
        case orders.OrderRefunded() | orders.RefundFailed():
            return (done(RETURNS, event.order_id, f"refund {event.refund_id}"),)
        case _:
            return ()


def refund(order_id: str, refund_id: str, *, needed: bool) -> Sequence[Change]:
    return (to_do(RETURNS, order_id, f"refund {refund_id}"),) if needed else ()


def to_do(kind: str, subject: str, task: str) -> Change:
    return Insert(WORK, (kind, subject, task, None))


def done(kind: str, subject: str, task: str) -> Change:
    return Close(WORK, (kind, subject, task))


PROJECTION = Projection(
    name="work",
    version=1,
    handles=frozenset(get_args(Handled)),
    tables=(WORK,),
    fold=fold,
    partitions=COMMERCE_PARTITIONS,
)
