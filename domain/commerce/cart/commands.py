"""What can be asked of a cart."""

from domain.commerce.cart.events import CartItem
from domain.shared.message import Command


class PutCartItem(Command, frozen=True, kw_only=True):
    """Set how many of a product there are; the price is accepted as it is now."""

    member_id: str
    item: CartItem


class RemoveCartItem(Command, frozen=True, kw_only=True):
    member_id: str
    product_id: str


class CheckOutCart(Command, frozen=True, kw_only=True):
    """`items` is what the checkout was made from: a cart that has changed since is refused."""

    member_id: str
    checkout_id: str
    items: tuple[CartItem, ...]


class RestoreCart(Command, frozen=True, kw_only=True):
    member_id: str
    checkout_id: str
    items: tuple[CartItem, ...]


CartCommand = PutCartItem | RemoveCartItem | CheckOutCart | RestoreCart
