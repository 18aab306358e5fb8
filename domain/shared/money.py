"""Money: a whole number of a currency's minor units (cents), never a fraction."""

from collections.abc import Iterable

from msgspec import Struct

from domain.shared.rejection import Invalid

CURRENCY_LENGTH = 3
VALUE_MAX = 10**12
"""The most that one price may be: it leaves room to add and multiply within 64 bits."""


class CurrenciesDiffer(Exception):
    """Two amounts of different currencies have no sum: whoever adds them checks before."""


class Money(Struct, frozen=True):
    currency: str
    value: int

    def __add__(self, other: "Money") -> "Money":
        return Money(self.currency, self.value + self._same(other))

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.currency, self.value - self._same(other))

    def __mul__(self, quantity: int) -> "Money":
        return Money(self.currency, self.value * quantity)

    def __le__(self, other: "Money") -> bool:
        return self.value <= self._same(other)

    def _same(self, other: "Money") -> int:
        if self.currency != other.currency:
            raise CurrenciesDiffer(self.currency, other.currency)
        return other.value

    @property
    def nothing(self) -> "Money":
        return Money(self.currency, 0)


def total(amounts: Iterable[Money]) -> Money:
    """The sum of at least one amount. Raises `CurrenciesDiffer`."""
    first, *rest = amounts
    for amount in rest:
        first = first + amount
    return first


def check_price(price: Money, pointer: str = "/price") -> None:
    currency = price.currency
    if len(currency) != CURRENCY_LENGTH or not (currency.isascii() and currency.isupper()):
        raise Invalid(f"{pointer}/currency", "must be a currency code such as EUR")
    if not currency.isalpha():
        raise Invalid(f"{pointer}/currency", "must be a currency code such as EUR")
    if not 0 < price.value <= VALUE_MAX:
        raise Invalid(f"{pointer}/value", f"must be 1 to {VALUE_MAX} minor units")
