"""Where each checkout stands, and what became of each of its steps."""

from collections.abc import Sequence
from typing import Any, get_args

import msgspec

from domain.commerce.checkout import events
from domain.shared.identifiers import id_number
from infra.ports.frames import COMMERCE_PARTITIONS
from infra.ports.log import Recorded
from infra.ports.tables import Change, Column, Insert, RangeTable, Revise, Table
from infra.runtime.projecting.projection import Projection

Handled = events.CheckoutEvent

CHECKOUTS = RangeTable(
    name="checkouts",
    columns=(
        Column("checkout_id", "bigint"),
        Column("member_id", "bigint"),
        Column("order_ids", "text[]"),
        Column("status", "text"),
        Column("action", "text", nullable=True),
        Column("failure_code", "text", nullable=True),
        Column("failure_detail", "text", nullable=True),
        Column("problem", "text", nullable=True),
        Column("unconfirmed", "boolean"),
    ),
    primary_key=("checkout_id", "since"),
    key=("checkout_id",),
    revisable=True,
    indexes=("(checkout_id) WHERE problem IS NOT NULL", "(checkout_id) WHERE unconfirmed"),
)

CHECKOUT_STEPS = Table(
    name="checkout_steps",
    columns=(
        Column("checkout_id", "bigint"),
        Column("name", "text"),
        Column("status", "text"),
        Column("at", "timestamptz"),
    ),
    primary_key=("checkout_id", "since", "name"),
)

STEPS = ("reserve", "authorise", "create_order", "capture", "confirm")


def fold(recorded: Recorded) -> Sequence[Change]:
    event: Handled = recorded.event  # type: ignore[assignment]
    checkout_id = id_number(event.checkout_id)
    changes: list[Change] = [
        Insert(CHECKOUT_STEPS, (checkout_id, name, status, recorded.recorded_at))
        for name, status in steps(event)
    ]
    if isinstance(event, events.CheckoutStarted):
        order_ids = [order.order_id for order in event.orders]
        row = (
            checkout_id,
            id_number(event.member_id),
            order_ids,
            "pending",
            None,
            None,
            None,
            None,
            False,
        )
        return [Insert(CHECKOUTS, row), *changes]
    new = revised(event)
    return [*changes, Revise(CHECKOUTS, (checkout_id,), new)] if new else changes


def steps(event: Handled) -> Sequence[tuple[str, str]]:  # noqa: C901, PLR0911, PLR0912
    """Which steps this event moves, and to what."""
    match event:
        case events.CheckoutStarted():
            return [("reserve", "started")]
        case events.ItemsReserved():
            return [("reserve", "done")]
        case events.ProviderAsked(step="authorise"):
            return [("authorise", "started")]
        case events.ProviderAsked(step="capture"):
            return [("capture", "started")]
        case events.PaymentAuthorised():
            return [("authorise", "done"), ("create_order", "started")]
        case events.PaymentRefused():
            return [("authorise", "failed")]
        case events.OrdersCreated():
            return [("create_order", "done")]
        case events.PaymentCaptured():
            return [("capture", "done"), ("confirm", "started")]
        case events.CaptureFailed():
            return [("capture", "failed")]
        case events.CheckoutConfirmed():
            return [("confirm", "done")]
        case events.CheckoutFailed(code="expired"):
            return [("authorise", "failed")]
        case events.OrdersUndone():
            return [("create_order", "undone")]
        case events.CancelAccepted():
            return [("authorise", "undone")]
        case events.ItemsReleased():
            return [("reserve", "undone")]
        case events.CheckoutRejected(code="insufficient_stock"):
            return [("reserve", "failed")]
        case _:
            return []


def revised(event: Handled) -> dict[str, Any]:  # noqa: PLR0911
    match event:
        case events.ActionRequired():
            action = msgspec.json.encode(event.action).decode()
            return {"status": "awaiting_action", "action": action}
        case (
            events.ProviderAsked(step="details")
            | events.PaymentPending()
            | events.PaymentAuthorised()
        ):
            return {"status": "pending", "action": None}
        case events.CheckoutFailed():
            return {
                "status": "pending",
                "action": None,
                "failure_code": event.code,
                "failure_detail": event.detail,
                "unconfirmed": False,
            }
        case events.CheckoutConfirmed():
            return {"status": "confirmed", "unconfirmed": False}
        case events.CheckoutRejected():
            return {"status": "rejected"}
        case events.CheckoutCancelled():
            return {"status": "cancelled"}
        case events.CancelFailed(final=True):
            return {"problem": "cancel_failed"}
        case events.CaptureUnconfirmed():
            return {"unconfirmed": True}
        case events.PaymentCaptured() | events.CaptureFailed() if event.attempt > 1:
            # After confirmation too. What follows on the first attempt says it itself.
            return {"unconfirmed": False}
        case _:
            return {}


PROJECTION = Projection(
    name="checkouts",
    version=2,
    handles=frozenset(get_args(Handled)),
    tables=(CHECKOUTS, CHECKOUT_STEPS),
    fold=fold,
    partitions=COMMERCE_PARTITIONS,
)
