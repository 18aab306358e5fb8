"""Reads Adyen's notifications, and believes none whose signature is not right."""

from typing import Annotated, Any

import msgspec
from Adyen import util
from msgspec import Meta, Struct

from domain.commerce.payment.events import PaymentNotified
from domain.shared.identifiers import LENGTH, id_number
from domain.shared.money import Money
from infra.adapters.payments.adyen_payments import harmless
from infra.ports.payments import NotificationMalformed, NotificationUnsigned

TEXT_LENGTH_MAX = 500

Text = Annotated[str, Meta(max_length=TEXT_LENGTH_MAX)]


class Amount(Struct):
    currency: Annotated[str, Meta(max_length=3)]
    value: Annotated[int, Meta(ge=-(2**53), le=2**53)]


class Item(Struct, rename="camel"):
    """The members that we use; what is signed is checked on the item as it came."""

    event_code: Annotated[str, Meta(min_length=1, max_length=100)]
    success: Text
    psp_reference: Annotated[str, Meta(min_length=1, max_length=100)]
    amount: Amount
    merchant_reference: Text = ""
    original_reference: Text | None = None
    reason: str | None = None
    event_date: Text = ""


class Wrapper(Struct):
    item: dict[str, Any] = msgspec.field(name="NotificationRequestItem")


class Envelope(Struct, rename="camel"):
    notification_items: Annotated[list[Wrapper], Meta(min_length=1, max_length=1000)]


_decode = msgspec.json.Decoder(Envelope).decode


class AdyenNotifications:
    """`infra.ports.payments.Notifications`."""

    def __init__(self, hmac_key: str) -> None:
        """The key is hexadecimal. Raises `ValueError` where it is not."""
        bytes.fromhex(hmac_key)
        self._hmac_key = hmac_key

    def read(self, body: bytes) -> list[PaymentNotified]:
        try:
            envelope = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise NotificationMalformed from None
        # The library's own check of an envelope looks at its first item only.
        if not all(self._is_signed(wrapper.item) for wrapper in envelope.notification_items):
            raise NotificationUnsigned
        try:
            items = [msgspec.convert(w.item, Item) for w in envelope.notification_items]
        except msgspec.ValidationError:
            raise NotificationMalformed from None
        return [notified(item) for item in items]

    def _is_signed(self, item: dict[str, Any]) -> bool:
        check: Any = util.is_valid_hmac_notification
        try:
            return check(item, self._hmac_key) is True
        except (KeyError, ValueError, TypeError, AttributeError):
            # It has no signature, an empty one, or nothing that could be signed.
            return False


def notified(item: Item) -> PaymentNotified:
    return PaymentNotified(
        checkout_id=checkout_named(item.merchant_reference),
        event_code=item.event_code,
        success=item.success == "true",
        psp_reference=item.psp_reference,
        original_reference=item.original_reference or "",
        merchant_reference=item.merchant_reference,
        amount=Money(item.amount.currency, item.amount.value),
        # On success the reason may hold the last digits of the card, and when it expires.
        reason="" if item.success == "true" else harmless(item.reason or ""),
        event_date=item.event_date,
    )


def checkout_named(reference: str) -> str:
    """The checkout that one of our references begins with; empty for any other."""
    name = reference[:LENGTH]
    try:
        id_number(name)
    except ValueError:
        return ""
    return name if reference[LENGTH : LENGTH + 1] in {"", "-"} else ""
