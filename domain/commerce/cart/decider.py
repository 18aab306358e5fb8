"""A member's cart: one line a product, in the order in which they were first put in."""

from collections.abc import Mapping
from datetime import datetime
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.commerce.cart import commands, events
from domain.commerce.cart.commands import CartCommand
from domain.commerce.cart.events import CartEvent, CartItem
from domain.commerce.cart.rejections import CartChanged, CartEmpty
from domain.shared.decider import Decider
from domain.shared.rejection import Invalid

QUANTITY_MAX = 99
LINES_MAX = 100


class Cart(Struct, frozen=True):
    """`out` are the checkouts that took a cart along: each is given back once at most."""

    items: Mapping[str, CartItem] = {}
    out: frozenset[str] = frozenset()


def decide(command: CartCommand, cart: Cart, _now: datetime) -> list[CartEvent]:
    match command:
        case commands.PutCartItem():
            return put(command, cart)
        case commands.RemoveCartItem():
            return remove(command, cart)
        case commands.CheckOutCart():
            return check_out(command, cart)
        case commands.RestoreCart():
            return restore(command, cart)
        case _:
            assert_never(command)


def put(command: commands.PutCartItem, cart: Cart) -> list[CartEvent]:
    item = command.item
    if not 1 <= item.quantity <= QUANTITY_MAX:
        raise Invalid("/quantity", f"must be 1 to {QUANTITY_MAX}")
    there = cart.items.get(item.product_id)
    if there is None and len(cart.items) >= LINES_MAX:
        raise Invalid("/productId", f"a cart holds at most {LINES_MAX} products")
    if there is not None and item.source_post_id is None:
        item = replace(item, source_post_id=there.source_post_id)
    if item == there:
        return []
    return [events.CartItemPut(member_id=command.member_id, item=item)]


def remove(command: commands.RemoveCartItem, cart: Cart) -> list[CartEvent]:
    if command.product_id not in cart.items:
        return []
    return [events.CartItemRemoved(member_id=command.member_id, product_id=command.product_id)]


def check_out(command: commands.CheckOutCart, cart: Cart) -> list[CartEvent]:
    if not cart.items:
        raise CartEmpty
    if tuple(cart.items.values()) != command.items:
        raise CartChanged
    return [
        events.CartCheckedOut(
            member_id=command.member_id,
            checkout_id=command.checkout_id,
            product_ids=tuple(cart.items),
        )
    ]


def restore(command: commands.RestoreCart, cart: Cart) -> list[CartEvent]:
    """What has been put in since stays; a product that is in both has the units of both."""
    if command.checkout_id not in cart.out:
        return []
    items = dict(cart.items)
    for item in command.items:
        there = items.get(item.product_id)
        units = item.quantity + (there.quantity if there else 0)
        items[item.product_id] = replace(there or item, quantity=min(units, QUANTITY_MAX))
    return [
        events.CartRestored(
            member_id=command.member_id,
            checkout_id=command.checkout_id,
            items=tuple(items.values()),
        )
    ]


def evolve(cart: Cart, event: CartEvent) -> Cart:
    match event:
        case events.CartItemPut():
            return replace(cart, items={**cart.items, event.item.product_id: event.item})
        case events.CartItemRemoved():
            items = {id_: item for id_, item in cart.items.items() if id_ != event.product_id}
            return replace(cart, items=items)
        case events.CartCheckedOut():
            return Cart(out=cart.out | {event.checkout_id})
        case events.CartRestored():
            items = {item.product_id: item for item in event.items}
            return Cart(items=items, out=cart.out - {event.checkout_id})
        case _:
            assert_never(event)


def cart_stream(member_id: str) -> str:
    return f"cart:{member_id}"


CART = Decider(
    prefix="cart",
    stream=lambda command: cart_stream(command.member_id),
    initial=Cart(),
    decide=decide,
    evolve=evolve,
)
