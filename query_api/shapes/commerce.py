"""The shapes of the commerce half's pages, as API.md fixes them."""

from datetime import datetime
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from domain.commerce.cart.problems import CartProblem
from domain.shared.money import Money as Amount
from query_api.shapes.social import Money


def money(currency: str, value: int) -> Money:
    return Money(currency, value)


def amount(found: Amount) -> Money:
    return Money(found.currency, found.value)


class Seller(Struct, frozen=True, rename="camel"):
    shop_id: str
    name: str


class ProductPage(Struct, frozen=True, rename="camel", kw_only=True):
    """`available`: units that can be bought now."""

    product_id: str
    title: str
    description: str
    category: str
    price: Money
    available: int
    media_urls: list[str]
    attributes: dict[str, Any]
    seller: Seller
    for_sale: bool


class ProductList(Struct, frozen=True, rename="camel", kw_only=True):
    products: list[ProductPage]
    next_cursor: str | None
    has_more: bool


class CartLine(Struct, frozen=True, rename="camel", kw_only=True):
    """`price` and `title` are null once the product's seller is erased."""

    product_id: str
    title: str | None
    quantity: int
    price: Money | None
    line_total: Money | None
    problems: list[CartProblem]
    source_post_id: str | UnsetType = UNSET


class CartPage(Struct, frozen=True, rename="camel", kw_only=True):
    """`total` counts what can be bought; null where that is in several currencies."""

    items: list[CartLine]
    total: Money | None


class Step(Struct, frozen=True, rename="camel"):
    name: str
    status: str
    at: datetime


class Failure(Struct, frozen=True, rename="camel"):
    code: str
    detail: str


class CheckoutPage(Struct, frozen=True, rename="camel", kw_only=True):
    checkout_id: str
    status: str
    order_ids: list[str]
    steps: list[Step]
    action: dict[str, Any] | UnsetType = UNSET
    failure: Failure | UnsetType = UNSET


class OrderItem(Struct, frozen=True, rename="camel", kw_only=True):
    """`title` is what the product was called when it was bought; null once its seller is erased."""

    product_id: str
    title: str | None
    quantity: int
    price: Money
    source_post_id: str | UnsetType = UNSET


class Payment(Struct, frozen=True, rename="camel"):
    status: str
    authorised: Money
    captured: Money
    refunded: Money


class Shipment(Struct, frozen=True, rename="camel"):
    carrier: str
    tracking_number: str


class Since(Struct, frozen=True, rename="camel"):
    status: str
    at: datetime


class OrderPage(Struct, frozen=True, rename="camel", kw_only=True):
    order_id: str
    checkout_id: str
    shop_id: str
    status: str
    items: list[OrderItem]
    total: Money
    payment: Payment
    history: list[Since]
    shipment: Shipment | UnsetType = UNSET


class OrderList(Struct, frozen=True, rename="camel", kw_only=True):
    orders: list[OrderPage]
    next_cursor: str | None
    has_more: bool
