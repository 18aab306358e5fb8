"""What can have happened to a checkout: every step, and every word to and from the provider."""

from datetime import datetime
from typing import Any, ClassVar, Literal

from msgspec import Struct

from domain.commerce.order.events import OrderLine
from domain.shared.message import Event
from domain.shared.money import Money
from domain.shared.personal import Personal

CallStep = Literal["authorise", "details", "capture", "cancel"]
Outcome = Literal["rejected", "cancelled"]


class CheckoutOrder(Struct, frozen=True, kw_only=True):
    """An order that the checkout will make, with the id it will have."""

    order_id: str
    shop_id: str
    seller_id: str
    lines: tuple[OrderLine, ...]


class CheckoutStarted(Event, frozen=True, kw_only=True, tag="checkout.started.v2"):
    """`hold_seconds` is how long units are held, `deadline` when the buyer has taken too long."""

    ordered_by: ClassVar[str] = "checkout_id"
    about: ClassVar[str] = "member_id"
    checkout_id: str
    member_id: str
    orders: tuple[CheckoutOrder, ...]
    total: Money
    shipping_address: Personal[str]
    hold_seconds: int
    deadline: datetime


class ItemsReserved(Event, frozen=True, kw_only=True, tag="checkout.reserved.v1"):
    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    expires_at: datetime


class ProviderAsked(Event, frozen=True, kw_only=True, tag="checkout.provider_asked.v1"):
    """Stored before the call goes out. A call is repeated under its key until it is answered.

    `psp_reference` is the payment that is captured or cancelled; empty for the others. `secrets`
    names what the vault keeps for the call. A capture of less than the whole names its `amount`
    and the orders that it is for.
    """

    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    step: CallStep
    attempt: int
    key: str
    psp_reference: str = ""
    secrets: str = ""
    amount: Money | None = None
    order_ids: tuple[str, ...] = ()


class ProviderUnanswered(Event, frozen=True, kw_only=True, tag="checkout.provider_unanswered.v1"):
    """Nobody knows whether it was done: asked again under the same key at `retry_at`."""

    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    key: str
    reason: str
    retry_at: datetime


class ActionRequired(Event, frozen=True, kw_only=True, tag="checkout.action_required.v1"):
    """The buyer has to go through a redirect or a challenge; `action` is the provider's own."""

    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    action: dict[str, Any]


class PaymentPending(Event, frozen=True, kw_only=True, tag="checkout.payment_pending.v1"):
    """The provider will say later, by a notification."""

    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    psp_reference: str


class PaymentAuthorised(Event, frozen=True, kw_only=True, tag="checkout.authorised.v1"):
    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    psp_reference: str


class PaymentRefused(Event, frozen=True, kw_only=True, tag="checkout.refused.v1"):
    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    psp_reference: str
    reason: str


class UnwantedAuthorised(Event, frozen=True, kw_only=True, tag="checkout.unwanted_authorised.v1"):
    """A payment succeeded that nobody waits for any more: it is cancelled by its reference."""

    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    psp_reference: str


class OrdersCreated(Event, frozen=True, kw_only=True, tag="checkout.orders_created.v1"):
    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str


class CaptureAccepted(Event, frozen=True, kw_only=True, tag="checkout.capture_accepted.v1"):
    """The provider will do it and say so; without a word by `settles_at` it is asked again."""

    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    attempt: int
    psp_reference: str
    settles_at: datetime


class CaptureUnconfirmed(Event, frozen=True, kw_only=True, tag="checkout.capture_unconfirmed.v1"):
    """An accepted capture stays without a word. It was asked again under its key, to which the
    provider `said` this. Only a notification decides; asked again at `retry_at`."""

    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    attempt: int
    said: str
    retry_at: datetime


class PaymentCaptured(Event, frozen=True, kw_only=True, tag="checkout.captured.v1"):
    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    attempt: int
    psp_reference: str


class CaptureFailed(Event, frozen=True, kw_only=True, tag="checkout.capture_failed.v1"):
    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    attempt: int
    psp_reference: str
    reason: str


class CheckoutConfirmed(Event, frozen=True, kw_only=True, tag="checkout.confirmed.v1"):
    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    member_id: str


class CheckoutFailed(Event, frozen=True, kw_only=True, tag="checkout.failed.v1"):
    """A step was refused. What was done is undone from here on, last first, up to `outcome`."""

    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    code: str
    detail: str
    outcome: Outcome


class OrdersUndone(Event, frozen=True, kw_only=True, tag="checkout.orders_undone.v1"):
    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str


class CancelAccepted(Event, frozen=True, kw_only=True, tag="checkout.cancel_accepted.v1"):
    """The provider gives the authorised money of `psp_reference` free."""

    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    psp_reference: str
    key: str


class CancelFailed(Event, frozen=True, kw_only=True, tag="checkout.cancel_failed.v1"):
    """The provider refused to cancel `psp_reference`; `final`: an operator has to look at it."""

    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    psp_reference: str
    key: str
    reason: str
    final: bool


class ItemsReleased(Event, frozen=True, kw_only=True, tag="checkout.released.v1"):
    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str


class CheckoutRejected(Event, frozen=True, kw_only=True, tag="checkout.rejected.v1"):
    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    member_id: str
    code: str
    detail: str


class CheckoutCancelled(Event, frozen=True, kw_only=True, tag="checkout.cancelled.v1"):
    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    member_id: str
    code: str
    detail: str


CheckoutEvent = (
    CheckoutStarted
    | ItemsReserved
    | ProviderAsked
    | ProviderUnanswered
    | ActionRequired
    | PaymentPending
    | PaymentAuthorised
    | PaymentRefused
    | UnwantedAuthorised
    | OrdersCreated
    | CaptureAccepted
    | CaptureUnconfirmed
    | PaymentCaptured
    | CaptureFailed
    | CheckoutConfirmed
    | CheckoutFailed
    | OrdersUndone
    | CancelAccepted
    | CancelFailed
    | ItemsReleased
    | CheckoutRejected
    | CheckoutCancelled
)
