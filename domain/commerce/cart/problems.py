"""What keeps an item of a cart from being bought as it is."""

from typing import Literal

from msgspec import Struct

from domain.commerce.cart.events import CartItem
from domain.shared.money import Money

Code = Literal["price_changed", "unavailable", "insufficient_stock"]


class Offer(Struct, frozen=True):
    """A product as it can be bought now."""

    price: Money
    available: int
    for_sale: bool = True


class CartProblem(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """`price_changed` tells both prices, `insufficient_stock` how many units there are."""

    code: Code
    price: Money | None = None
    seen_price: Money | None = None
    available: int | None = None


def problems(item: CartItem, offer: Offer | None) -> list[CartProblem]:
    """None: there is no such product any more."""
    if offer is None or not offer.for_sale:
        return [CartProblem("unavailable")]
    found = []
    if offer.price != item.seen_price:
        found.append(CartProblem("price_changed", price=offer.price, seen_price=item.seen_price))
    if item.quantity > offer.available:
        found.append(CartProblem("insufficient_stock", available=offer.available))
    return found
