"""What becomes of a payment, by its card and the name on it, as on the provider's test platform."""

from typing import Any, Literal

from msgspec import Struct

ENCRYPTED_PREFIX = "test_"
REFUSED_BY_NAME = {
    "DECLINED": ("Refused", "2"),
    "CARD_EXPIRED": ("Expired Card", "6"),
    "NOT_ENOUGH_BALANCE": ("Not enough balance", "12"),
    "ACQUIRER_FRAUD": ("FRAUD", "20"),
    "ISSUER_UNAVAILABLE": ("Issuer Unavailable", "9"),
}
REDIRECT_CARD = "4212345678901237"
CHALLENGE_CARD = "4917610000000000"
BRANDS = {"4": "visa", "5": "mc", "3": "amex"}
CLEAR_MEMBERS = frozenset({"number", "cvc", "expiryMonth", "expiryYear"})

Course = Literal["authorise", "refuse", "error", "pending", "redirect", "identify"]
Later = Literal["", "pending_refused", "capture_refused", "capture_failed", "capture_failed_once",
                "refund_refused", "refund_failed", "cancel_refused"]  # fmt: skip
LATER_BY_NAME: dict[str, Later] = {
    "PENDING_REFUSED": "pending_refused",
    "CAPTURE_REFUSED": "capture_refused",
    "CAPTURE_FAILED": "capture_failed",
    "CAPTURE_FAILED_ONCE": "capture_failed_once",
    "REFUND_REFUSED": "refund_refused",
    "REFUND_FAILED": "refund_failed",
    "CANCEL_REFUSED": "cancel_refused",
}
"""Names of our own: what goes wrong after the authorisation."""


class Fate(Struct, frozen=True):
    """`refusal` is reason and code; `brand` what notifications call the payment method."""

    course: Course
    brand: str
    refusal: tuple[str, str] = ("", "")
    later: Later = ""


class CardDataInClear(Exception):
    """The merchant may not send card data that it has seen itself."""


def fate_of(method: dict[str, Any]) -> Fate:
    if CLEAR_MEMBERS & method.keys():
        raise CardDataInClear
    number = str(method.get("encryptedCardNumber", "")).removeprefix(ENCRYPTED_PREFIX)
    name = str(method.get("holderName", ""))
    brand = BRANDS.get(number[:1], str(method.get("type", "scheme")))
    later = LATER_BY_NAME.get(name, "")
    if name in REFUSED_BY_NAME:
        return Fate("refuse", brand, REFUSED_BY_NAME[name])
    if name == "ERROR":
        return Fate("error", brand, ("Acquirer Error", "4"))
    if name in {"PENDING", "PENDING_REFUSED"}:
        return Fate("pending", brand, later=later)
    if number == REDIRECT_CARD:
        return Fate("redirect", brand, later=later)
    if number == CHALLENGE_CARD:
        return Fate("identify", brand, later=later)
    return Fate("authorise", brand, later=later)
