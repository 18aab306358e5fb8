"""A product: listed once by a seller, described anew, priced anew, withdrawn and offered again."""

from datetime import datetime
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.commerce.product import commands, events
from domain.commerce.product.commands import ProductCommand
from domain.commerce.product.events import ProductEvent
from domain.commerce.product.rejections import NotTheSeller, ProductIdTaken, ProductUnknown
from domain.commerce.product.values import (
    check_attributes,
    check_category,
    check_description,
    check_media_urls,
    check_title,
)
from domain.shared.decider import Decider
from domain.shared.money import Money, check_price
from domain.shared.personal import Personal, given

ERASURE = "erasure"


class Product(Struct, frozen=True):
    """`seller_id` is empty until the product is listed."""

    shop_id: str = ""
    seller_id: str = ""
    category: str = ""
    price: Money | None = None
    for_sale: bool = False
    erased: bool = False


def decide(command: ProductCommand, product: Product, _now: datetime) -> list[ProductEvent]:
    match command:
        case commands.ListProduct():
            return list_product(command, product)
        case commands.ChangeProduct():
            return change(command, product)
        case _:
            assert_never(command)


def list_product(command: commands.ListProduct, product: Product) -> list[ProductEvent]:
    check_title(command.title)
    check_description(command.description)
    check_category(command.category)
    check_price(command.price)
    check_media_urls(command.media_urls)
    check_attributes(command.attributes)
    if product.seller_id:
        raise ProductIdTaken(command.product_id)
    return [
        events.ProductListed(
            product_id=command.product_id,
            shop_id=command.shop_id,
            seller_id=command.seller_id,
            title=Personal(command.title),
            description=Personal(command.description),
            category=command.category,
            price=command.price,
            media_urls=Personal(command.media_urls),
            attributes=Personal(command.attributes),
        )
    ]


def change(command: commands.ChangeProduct, product: Product) -> list[ProductEvent]:
    if not product.seller_id:
        raise ProductUnknown(command.product_id)
    if product.seller_id != command.seller_id:
        raise NotTheSeller(command.product_id)
    return [
        *describe(command, product),
        *change_price(command, product),
        *offer_or_withdraw(command, product),
    ]


def describe(command: commands.ChangeProduct, product: Product) -> list[ProductEvent]:
    if command.title is not None:
        check_title(command.title)
    if command.description is not None:
        check_description(command.description)
    if command.category is not None:
        check_category(command.category)
    if command.media_urls is not None:
        check_media_urls(command.media_urls)
    if command.attributes is not None:
        check_attributes(command.attributes)
    # What was said before is sealed: the same said again is not told from something new.
    described = events.ProductDescribed(
        product_id=command.product_id,
        seller_id=command.seller_id,
        title=given(command.title),
        description=given(command.description),
        category=None if command.category == product.category else command.category,
        media_urls=given(command.media_urls),
        attributes=given(command.attributes),
    )
    nothing = events.ProductDescribed(product_id=command.product_id, seller_id=command.seller_id)
    return [] if described == nothing else [described]


def change_price(command: commands.ChangeProduct, product: Product) -> list[ProductEvent]:
    if command.price is None:
        return []
    check_price(command.price)
    if command.price == product.price:
        return []
    return [events.PriceChanged(product_id=command.product_id, price=command.price)]


def offer_or_withdraw(command: commands.ChangeProduct, product: Product) -> list[ProductEvent]:
    if command.because_of == ERASURE and not product.erased:
        # Whether or not it was for sale: its texts are forgotten with this.
        return [events.ProductWithdrawn(product_id=command.product_id, because_of=ERASURE)]
    if command.for_sale is None or command.for_sale == product.for_sale:
        return []
    if command.for_sale:
        return [events.ProductOffered(product_id=command.product_id)]
    return [events.ProductWithdrawn(product_id=command.product_id)]


def evolve(product: Product, event: ProductEvent) -> Product:
    match event:
        case events.ProductListed():
            return Product(
                shop_id=event.shop_id,
                seller_id=event.seller_id,
                category=event.category,
                price=event.price,
                for_sale=True,
            )
        case events.ProductDescribed():
            return replace(product, category=event.category or product.category)
        case events.PriceChanged():
            return replace(product, price=event.price)
        case events.ProductWithdrawn():
            return replace(product, for_sale=False, erased=event.because_of == ERASURE)
        case events.ProductOffered():
            return replace(product, for_sale=True)
        case _:
            assert_never(event)


def product_stream(product_id: str) -> str:
    return f"product:{product_id}"


PRODUCT = Decider(
    prefix="product",
    stream=lambda command: product_stream(command.product_id),
    initial=Product(),
    decide=decide,
    evolve=evolve,
)
