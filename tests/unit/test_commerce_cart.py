"""The rules of the cart, one sentence per test."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from domain.commerce.cart.commands import CheckOutCart, PutCartItem, RemoveCartItem, RestoreCart
from domain.commerce.cart.decider import CART
from domain.commerce.cart.events import (
    CartCheckedOut,
    CartItem,
    CartItemPut,
    CartItemRemoved,
    CartRestored,
)
from domain.commerce.cart.rejections import CartChanged, CartEmpty
from domain.shared.money import Money
from domain.shared.rejection import Invalid
from tests.unit.spec import Spec

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
cart = Spec(CART)

MUG = CartItem(product_id="mug", quantity=2, seen_price=Money("EUR", 1999), source_post_id="p1")
POT = CartItem(product_id="pot", quantity=1, seen_price=Money("EUR", 3000))
MUG_PUT = CartItemPut(member_id="ann", item=MUG)
POT_PUT = CartItemPut(member_id="ann", item=POT)
OUT = CartCheckedOut(member_id="ann", checkout_id="c1", product_ids=("mug", "pot"))


def put(item: CartItem) -> PutCartItem:
    return PutCartItem(member_id="ann", item=item)


def test_an_item_is_put_with_the_price_that_was_seen() -> None:
    cart.given().when(put(MUG), at=NOON).then(MUG_PUT)


def test_putting_the_same_again_changes_nothing() -> None:
    cart.given(MUG_PUT).when(put(MUG), at=NOON).then_nothing()


def test_putting_an_item_again_sets_its_quantity_and_keeps_its_post() -> None:
    again = CartItem(product_id="mug", quantity=5, seen_price=Money("EUR", 1500))
    cart.given(MUG_PUT).when(put(again), at=NOON).then(
        CartItemPut(member_id="ann", item=replace(again, source_post_id="p1"))
    )


@pytest.mark.parametrize("quantity", [0, 100])
def test_a_line_has_1_to_99_units(quantity: int) -> None:
    item = replace(MUG, quantity=quantity)
    cart.given().when(put(item), at=NOON).then_rejected(Invalid("/quantity", "must be 1 to 99"))


def test_removing_what_is_not_there_changes_nothing() -> None:
    remove = RemoveCartItem(member_id="ann", product_id="mug")
    cart.given(POT_PUT).when(remove, at=NOON).then_nothing()
    cart.given(MUG_PUT).when(remove, at=NOON).then(
        CartItemRemoved(member_id="ann", product_id="mug")
    )


def test_a_checkout_takes_everything_out() -> None:
    check_out = CheckOutCart(member_id="ann", checkout_id="c1", items=(MUG, POT))
    cart.given(MUG_PUT, POT_PUT).when(check_out, at=NOON).then(OUT)


def test_an_empty_cart_is_not_checked_out() -> None:
    check_out = CheckOutCart(member_id="ann", checkout_id="c2", items=())
    cart.given(MUG_PUT, OUT).when(check_out, at=NOON).then_rejected(CartEmpty())


def test_a_cart_that_changed_in_between_is_not_checked_out() -> None:
    check_out = CheckOutCart(member_id="ann", checkout_id="c1", items=(MUG,))
    cart.given(MUG_PUT, POT_PUT).when(check_out, at=NOON).then_rejected(CartChanged())


def test_a_failed_checkout_puts_its_items_back_beside_what_came_since() -> None:
    restore = RestoreCart(member_id="ann", checkout_id="c1", items=(MUG, POT))
    more = CartItemPut(member_id="ann", item=replace(MUG, quantity=3))
    cart.given(MUG_PUT, POT_PUT, OUT, more).when(restore, at=NOON).then(
        CartRestored(member_id="ann", checkout_id="c1", items=(replace(MUG, quantity=5), POT))
    )


def test_a_checkout_is_put_back_once() -> None:
    restore = RestoreCart(member_id="ann", checkout_id="c1", items=(MUG,))
    restored = CartRestored(member_id="ann", checkout_id="c1", items=(MUG,))
    cart.given(MUG_PUT, OUT, restored).when(restore, at=NOON).then_nothing()
