"""What can be asked of a checkout: by the buyer, by its process, and by the provider's word."""

from datetime import datetime
from typing import Any, ClassVar

from domain.commerce.checkout.events import CheckoutOrder, Outcome
from domain.shared.message import Command


class StartCheckout(Command, frozen=True, kw_only=True):
    """`shipping_address` is JSON text."""

    creates: ClassVar[bool] = True
    checkout_id: str
    member_id: str
    orders: tuple[CheckoutOrder, ...]
    shipping_address: str
    hold_seconds: int


class SubmitDetails(Command, frozen=True, kw_only=True):
    """The buyer is back from a redirect or a challenge; the vault keeps what they came with."""

    checkout_id: str
    member_id: str
    secrets: str


class RecordReserved(Command, frozen=True, kw_only=True):
    checkout_id: str
    expires_at: datetime


class RecordUnanswered(Command, frozen=True, kw_only=True):
    checkout_id: str
    key: str
    reason: str
    retry_at: datetime


class RecordActionRequired(Command, frozen=True, kw_only=True):
    checkout_id: str
    key: str
    action: dict[str, Any]


class RecordPending(Command, frozen=True, kw_only=True):
    checkout_id: str
    key: str
    psp_reference: str


class RecordAuthorised(Command, frozen=True, kw_only=True):
    """By an answer or by a notification, whichever comes first."""

    checkout_id: str
    psp_reference: str


class RecordRefused(Command, frozen=True, kw_only=True):
    checkout_id: str
    psp_reference: str
    reason: str


class RecordOrdersCreated(Command, frozen=True, kw_only=True):
    checkout_id: str


class RecordCaptureAccepted(Command, frozen=True, kw_only=True):
    checkout_id: str
    key: str
    psp_reference: str
    settles_at: datetime


class RecordCaptureUnconfirmed(Command, frozen=True, kw_only=True):
    """An accepted capture was asked again, for want of a word."""

    checkout_id: str
    key: str
    said: str
    retry_at: datetime


class RecordCaptured(Command, frozen=True, kw_only=True):
    """`psp_reference` is the capture's own."""

    checkout_id: str
    psp_reference: str


class RecordCaptureFailed(Command, frozen=True, kw_only=True):
    """`live`: the orders that are still to be paid; None where that is all of them."""

    checkout_id: str
    live: tuple[str, ...] | None = None
    psp_reference: str
    reason: str


class RecordConfirmed(Command, frozen=True, kw_only=True):
    checkout_id: str


class FailCheckout(Command, frozen=True, kw_only=True):
    checkout_id: str
    code: str
    detail: str
    outcome: Outcome


class RecordOrdersUndone(Command, frozen=True, kw_only=True):
    checkout_id: str


class CancelPayment(Command, frozen=True, kw_only=True):
    """Ask the provider to give an authorised payment free."""

    checkout_id: str
    psp_reference: str


class RecordCancelAccepted(Command, frozen=True, kw_only=True):
    checkout_id: str
    key: str


class RecordCancelFailed(Command, frozen=True, kw_only=True):
    """By an answer (`key`), or by a notification (then `key` is empty)."""

    checkout_id: str
    psp_reference: str
    key: str
    reason: str


class RecordReleased(Command, frozen=True, kw_only=True):
    checkout_id: str


class FinishCheckout(Command, frozen=True, kw_only=True):
    """Everything is undone."""

    checkout_id: str


CheckoutCommand = (
    StartCheckout
    | SubmitDetails
    | RecordReserved
    | RecordUnanswered
    | RecordActionRequired
    | RecordPending
    | RecordAuthorised
    | RecordRefused
    | RecordOrdersCreated
    | RecordCaptureAccepted
    | RecordCaptureUnconfirmed
    | RecordCaptured
    | RecordCaptureFailed
    | RecordConfirmed
    | FailCheckout
    | RecordOrdersUndone
    | CancelPayment
    | RecordCancelAccepted
    | RecordCancelFailed
    | RecordReleased
    | FinishCheckout
)
