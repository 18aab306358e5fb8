"""Each order as buyer and seller see it: where it stands, what was paid, and how it got there."""

from collections.abc import Sequence
from typing import Any, get_args

import msgspec

from domain.commerce.order import events
from domain.shared.identifiers import id_number
from infra.ports.frames import COMMERCE_PARTITIONS
from infra.ports.log import Recorded
from infra.ports.tables import (
    Add,
    Change,
    Close,
    Column,
    CountTable,
    Insert,
    RangeTable,
    Revise,
    Table,
)
from infra.runtime.projecting.projection import Projection

Handled = events.OrderEvent

ORDERS = RangeTable(
    name="orders",
    columns=(
        Column("order_id", "bigint"),
        Column("checkout_id", "bigint"),
        Column("member_id", "bigint"),
        Column("seller_id", "bigint"),
        Column("shop_id", "bigint"),
        Column("status", "text"),
        Column("lines", "text"),
        Column("currency", "text"),
        Column("total", "bigint"),
        Column("captured", "bigint"),
        Column("carrier", "text", nullable=True),
        Column("tracking_number", "text", nullable=True),
        Column("problem", "text", nullable=True),
    ),
    primary_key=("order_id", "since"),
    key=("order_id",),
    indexes=(
        "(member_id, order_id DESC)",
        "(seller_id, order_id DESC)",
        "(checkout_id) WHERE problem IS NOT NULL",
    ),
    revisable=True,
)

ORDER_HISTORY = Table(
    name="order_history",
    columns=(
        Column("order_id", "bigint"),
        Column("status", "text"),
        Column("at", "timestamptz"),
    ),
    primary_key=("order_id", "since"),
)

UNCONFIRMED_REFUNDS = RangeTable(
    name="unconfirmed_refunds",
    columns=(
        Column("order_id", "bigint"),
        Column("refund_id", "text"),
    ),
    primary_key=("order_id", "refund_id", "since"),
    key=("order_id", "refund_id"),
)

ORDER_REFUNDS = CountTable(name="order_refunds", key="order_id", counts=("refunded",))

_encode = msgspec.json.Encoder().encode


def fold(recorded: Recorded) -> Sequence[Change]:
    event: Handled = recorded.event  # type: ignore[assignment]
    order_id = id_number(event.order_id)
    changes: list[Change] = []
    if isinstance(event, events.OrderCreated):
        changes.append(Insert(ORDERS, created(order_id, event)))
    elif new := revised(event):
        changes.append(Revise(ORDERS, (order_id,), new))
    if isinstance(event, events.RefundUnconfirmed | events.OrderRefunded | events.RefundFailed):
        changes.append(Close(UNCONFIRMED_REFUNDS, (order_id, event.refund_id)))
    if isinstance(event, events.RefundUnconfirmed):
        changes.append(Insert(UNCONFIRMED_REFUNDS, (order_id, event.refund_id)))
    if isinstance(event, events.OrderRefunded):
        changes.append(Add(ORDER_REFUNDS, order_id, (event.amount.value,)))
    if status := status_after(event):
        changes.append(Insert(ORDER_HISTORY, (order_id, status, recorded.recorded_at)))
    return changes


def created(order_id: int, event: events.OrderCreated) -> tuple[object, ...]:
    return (
        order_id,
        id_number(event.checkout_id),
        id_number(event.member_id),
        id_number(event.seller_id),
        id_number(event.shop_id),
        "pending",
        _encode(event.lines).decode(),
        event.total.currency,
        event.total.value,
        0,
        None,
        None,
        None,
    )


def status_after(event: Handled) -> str:  # noqa: PLR0911
    """The status that begins with this event; empty where it goes on."""
    match event:
        case events.OrderCreated():
            return "pending"
        case events.OrderConfirmed():
            return "confirmed"
        case events.OrderRejected():
            return "rejected"
        case events.OrderCancelled():
            return "cancelled"
        case events.OrderShipped():
            return "shipped"
        case events.OrderDelivered():
            return "delivered"
        case events.ItemsReturned(complete=True):
            return "returned"
        case _:
            return ""


def revised(event: Handled) -> dict[str, Any]:
    status = status_after(event)
    new: dict[str, Any] = {"status": status} if status else {}
    match event:
        case events.OrderConfirmed() | events.CaptureRepeated():
            new["captured"] = event.captured.value
        case events.OrderShipped():
            new["carrier"] = event.carrier
            new["tracking_number"] = event.tracking_number
        case events.CaptureReversed():
            new["captured"] = 0
            new["problem"] = "capture_failed" if event.final else None
        case events.RefundFailed():
            new["problem"] = "refund_failed"
        case _:
            pass
    return new


PROJECTION = Projection(
    name="orders",
    version=3,
    handles=frozenset(get_args(Handled)),
    tables=(ORDERS, ORDER_HISTORY, ORDER_REFUNDS, UNCONFIRMED_REFUNDS),
    fold=fold,
    partitions=COMMERCE_PARTITIONS,
)
