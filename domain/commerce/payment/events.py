"""What the payment provider can have told us."""

from typing import ClassVar

from domain.shared.message import Event
from domain.shared.money import Money


class PaymentNotified(Event, frozen=True, kw_only=True, tag="payment.notified.v1"):
    """One item of a webhook whose signature was right, in the provider's own words.

    `checkout_id` is the part of `merchant_reference` that names one; empty where none does.
    """

    ordered_by: ClassVar[str] = "checkout_id"
    checkout_id: str
    event_code: str
    success: bool
    psp_reference: str
    original_reference: str
    merchant_reference: str
    amount: Money
    reason: str
    event_date: str


PaymentEvent = PaymentNotified
