"""What can have happened to a cart."""

from typing import ClassVar

from msgspec import Struct

from domain.shared.message import Event
from domain.shared.money import Money


class CartItem(Struct, frozen=True, kw_only=True):
    """`seen_price` is the price of one unit when the member put it in, and so accepted it."""

    product_id: str
    quantity: int
    seen_price: Money
    source_post_id: str | None = None


class CartItemPut(Event, frozen=True, kw_only=True, tag="cart.item_put.v1"):
    ordered_by: ClassVar[str] = "member_id"
    member_id: str
    item: CartItem


class CartItemRemoved(Event, frozen=True, kw_only=True, tag="cart.item_removed.v1"):
    ordered_by: ClassVar[str] = "member_id"
    member_id: str
    product_id: str


class CartCheckedOut(Event, frozen=True, kw_only=True, tag="cart.checked_out.v1"):
    """The cart is empty: what was in it, these products, is in the checkout."""

    ordered_by: ClassVar[str] = "member_id"
    member_id: str
    checkout_id: str
    product_ids: tuple[str, ...] = ()


class CartRestored(Event, frozen=True, kw_only=True, tag="cart.restored.v1"):
    """A checkout came to nothing; `items` are the lines as they are now."""

    ordered_by: ClassVar[str] = "member_id"
    member_id: str
    checkout_id: str
    items: tuple[CartItem, ...]


CartEvent = CartItemPut | CartItemRemoved | CartCheckedOut | CartRestored
