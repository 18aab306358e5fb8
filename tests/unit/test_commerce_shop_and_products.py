"""The rules of money, shops and products, one sentence per test."""

from datetime import UTC, datetime

import pytest

from domain.commerce.product.commands import ChangeProduct, ListProduct
from domain.commerce.product.decider import PRODUCT
from domain.commerce.product.events import (
    PriceChanged,
    ProductDescribed,
    ProductListed,
    ProductOffered,
    ProductWithdrawn,
)
from domain.commerce.product.rejections import NotTheSeller, ProductIdTaken, ProductUnknown
from domain.commerce.shop.commands import OpenShop
from domain.commerce.shop.decider import SHOP
from domain.commerce.shop.events import ShopOpened
from domain.commerce.shop.rejections import ShopAlreadyOpen
from domain.shared.money import CurrenciesDiffer, Money, check_price, total
from domain.shared.personal import Personal
from domain.shared.rejection import Invalid
from tests.unit.spec import Spec

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

shop = Spec(SHOP)
product = Spec(PRODUCT)

OPEN = OpenShop(shop_id="s1", owner_id="sue", name="Mugs", country="DE")
OPENED = ShopOpened(shop_id="s1", owner_id="sue", name=Personal("Mugs"), country="DE")

LIST = ListProduct(
    product_id="mug",
    shop_id="s1",
    seller_id="sue",
    title="Mug",
    description="Holds tea.",
    category="Kitchen",
    price=Money("EUR", 1999),
    media_urls=("https://example.org/mug.jpg",),
    attributes={"Colour": "blue", "Litres": 0.3},
)
LISTED = ProductListed(
    product_id="mug",
    shop_id="s1",
    seller_id="sue",
    title=Personal("Mug"),
    description=Personal("Holds tea."),
    category="Kitchen",
    price=Money("EUR", 1999),
    media_urls=Personal(("https://example.org/mug.jpg",)),
    attributes=Personal({"Colour": "blue", "Litres": 0.3}),
)


def change(**fields: object) -> ChangeProduct:
    return ChangeProduct(product_id="mug", seller_id="sue", **fields)  # type: ignore[arg-type]


def test_money_adds_and_multiplies_in_minor_units() -> None:
    assert total([Money("EUR", 1) * 3, Money("EUR", 4) - Money("EUR", 1)]) == Money("EUR", 6)


def test_money_of_two_currencies_has_no_sum() -> None:
    with pytest.raises(CurrenciesDiffer):
        Money("EUR", 1) + Money("USD", 1)


@pytest.mark.parametrize(
    ("price", "pointer"),
    [
        (Money("eur", 1), "/price/currency"),
        (Money("EURO", 1), "/price/currency"),
        (Money("E1R", 1), "/price/currency"),
        (Money("EUR", 0), "/price/value"),
        (Money("EUR", -5), "/price/value"),
        (Money("EUR", 10**12 + 1), "/price/value"),
    ],
)
def test_a_price_has_a_currency_and_is_above_zero(price: Money, pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_price(price)
    assert caught.value.pointer == pointer


def test_a_member_opens_a_shop() -> None:
    shop.given().when(OPEN, at=NOON).then(OPENED)


def test_a_member_has_one_shop() -> None:
    again = OpenShop(shop_id="s2", owner_id="sue", name="More", country="DE")
    shop.given(OPENED).when(again, at=NOON).then_rejected(ShopAlreadyOpen("s1"))


@pytest.mark.parametrize("country", ["D", "DEU", "de", "D1"])
def test_a_shop_is_in_a_country(country: str) -> None:
    open_shop = OpenShop(shop_id="s1", owner_id="sue", name="Mugs", country=country)
    with pytest.raises(Invalid, match="/country"):
        SHOP.decide(open_shop, SHOP.initial, NOON)


def test_a_seller_lists_a_product() -> None:
    product.given().when(LIST, at=NOON).then(LISTED)


def test_a_product_id_is_used_once() -> None:
    product.given(LISTED).when(LIST, at=NOON).then_rejected(ProductIdTaken("mug"))


def test_a_price_change_says_nothing_else() -> None:
    product.given(LISTED).when(change(price=Money("EUR", 1500)), at=NOON).then(
        PriceChanged(product_id="mug", price=Money("EUR", 1500))
    )


def test_a_description_names_what_is_new_only() -> None:
    product.given(LISTED).when(change(title="Big mug", category="Kitchen"), at=NOON).then(
        ProductDescribed(product_id="mug", seller_id="sue", title=Personal("Big mug"))
    )


def test_changing_nothing_records_nothing() -> None:
    same = change(category="Kitchen", price=Money("EUR", 1999), for_sale=True)
    product.given(LISTED).when(same, at=NOON).then_nothing()


def test_a_product_is_withdrawn_and_offered_again() -> None:
    withdrawn = ProductWithdrawn(product_id="mug")
    product.given(LISTED).when(change(for_sale=False), at=NOON).then(withdrawn)
    product.given(LISTED, withdrawn).when(change(for_sale=True), at=NOON).then(
        ProductOffered(product_id="mug")
    )


def test_what_is_said_again_is_recorded_since_nobody_remembers_what_was_said() -> None:
    product.given(LISTED).when(change(title="Mug"), at=NOON).then(
        ProductDescribed(product_id="mug", seller_id="sue", title=Personal("Mug"))
    )


def test_an_erasure_withdraws_a_product_once_for_sale_or_not() -> None:
    erase = change(for_sale=False, because_of="erasure")
    withdrawn = ProductWithdrawn(product_id="mug")
    erased = ProductWithdrawn(product_id="mug", because_of="erasure")
    product.given(LISTED).when(erase, at=NOON).then(erased)
    product.given(LISTED, withdrawn).when(erase, at=NOON).then(erased)
    product.given(LISTED, erased).when(erase, at=NOON).then_nothing()


def test_only_its_seller_changes_a_product() -> None:
    theirs = ChangeProduct(product_id="mug", seller_id="bob", title="Mine")
    product.given(LISTED).when(theirs, at=NOON).then_rejected(NotTheSeller("mug"))


def test_a_product_that_was_never_listed_is_unknown() -> None:
    product.given().when(change(title="x"), at=NOON).then_rejected(ProductUnknown("mug"))
