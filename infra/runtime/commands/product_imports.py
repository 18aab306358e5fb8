"""Brings products in from files, each under its seller, by the same commands that sellers give.

An object has `title, description, category, price, seller`, or `Name, Description, Type, Price,
Brand`; all its other members are kept as attributes. A price is a number of whole units with
decimals, or `{"currency", "value"}` in minor units. A seller's name is written as user names are,
and a seller who has no shop yet opens one.
"""

import asyncio
import hashlib
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from msgspec import Struct

from domain.commerce.product.commands import ListProduct
from domain.commerce.product.events import Attribute
from domain.commerce.shop.commands import OpenShop
from domain.commerce.shop.decider import shop_stream
from domain.commerce.shop.rejections import ShopAlreadyOpen
from domain.commerce.stock.commands import ReceiveStock
from domain.shared.identifiers import make_id
from domain.shared.message import Command
from domain.shared.money import Money
from domain.shared.rejection import Rejection
from infra.ports.log import KeyTaken, StoredAnswer
from infra.runtime.commands.execute import Context
from infra.runtime.commands.imports import Importer, Line, chunks, reason, unmarked

PRODUCTS_AT_ONCE = 500
REFERENCE = "import"
COUNTRY = "ZZ"
"""Where an imported shop is: nobody has said."""

USERNAME_LENGTH_MAX = 30
NAMES = (
    ("title", "Name"),
    ("description", "Description"),
    ("category", "Type"),
    ("price", "Price"),
    ("seller", "Brand"),
)


class NoProduct(ValueError):
    """What is wrong with an object that should be a product."""


class ImportedProduct(Struct, frozen=True, kw_only=True):
    """`seller` as the file has it, `username` as accounts are called."""

    title: str
    description: str
    category: str
    price: Money
    seller: str
    username: str
    attributes: dict[str, Attribute]


class ProductImporter(Importer):
    async def products(self, lines: Iterable[Line], currency: str, stock: int) -> None:
        """Objects in JSON, one a line. `stock`: units of each that are received with it."""
        seen: Counter[bytes] = Counter()
        shops: dict[str, str] = {}
        for chunk in chunks(lines, PRODUCTS_AT_ONCE):
            products = dict(self._parsed(chunk, lambda line: parse_product(line, currency)))
            named = {number: (product.username,) for number, product in products.items()}
            await self._meet({product.username for product in products.values()}, named)
            known = {n: p for n, p in products.items() if p.username in self._members}
            for product in known.values():
                if product.username not in shops:
                    shops[product.username] = await self._shop_of(product)
            listing = []
            for number, product in known.items():
                mark = fingerprint(product)
                seen[mark] += 1
                key = f"import:{mark.hex()}:{seen[mark]}"
                listing.append(self._list(number, product, shops[product.username], key, stock))
            await asyncio.gather(*listing)
            self.told(self.summary)

    async def _shop_of(self, product: ImportedProduct) -> str:
        owner_id = self._members[product.username]
        stream = shop_stream(owner_id)
        state = await self._patiently(lambda: self.executor.state(stream, fresh=True))
        if state.value.shop_id:
            return str(state.value.shop_id)
        shop_id = self._new_id()
        shop = OpenShop(shop_id=shop_id, owner_id=owner_id, name=product.seller, country=COUNTRY)
        try:
            await self._execute([shop])
        except ShopAlreadyOpen as opened:
            return opened.shop_id
        return shop_id

    async def _list(
        self, number: int, product: ImportedProduct, shop_id: str, key: str, stock: int
    ) -> None:
        seller_id, product_id = self._members[product.username], self._new_id()
        commands: list[Command] = [
            ListProduct(
                product_id=product_id,
                shop_id=shop_id,
                seller_id=seller_id,
                title=product.title,
                description=product.description,
                category=product.category,
                price=product.price,
                attributes=product.attributes,
            )
        ]
        if stock:
            commands.append(
                ReceiveStock(product_id=product_id, quantity=stock, reference=REFERENCE)
            )
        answer = StoredAnswer(
            member_id=seller_id,
            key=key,
            body_hash=hashlib.sha256(key.encode()).digest(),
            status=201,
            body=msgspec.json.encode({"productId": product_id}),
        )
        try:
            await self._execute(commands, Context(answer=lambda _: answer))
        except KeyTaken:
            self.summary.unchanged += 1
        except Rejection as refused:
            self.summary.reject(number, reason(refused))
        else:
            self.summary.added += 1

    def _new_id(self) -> str:
        return make_id(int(self.clock().timestamp() * 1000), secrets.randbits(22))


def parse_product(line: Line, currency: str) -> ImportedProduct:
    """Raises `NoProduct`, or what else a decoder of JSON says is wrong."""
    found = msgspec.json.decode(unmarked(line))
    if not isinstance(found, dict):
        raise NoProduct("this is no JSON object")
    values: dict[str, Any] = {}
    for ours, theirs in NAMES:
        values[ours] = found.get(ours, found.get(theirs))
        if values[ours] is None:
            raise NoProduct(f"there is neither {ours} nor {theirs}")
        if ours != "price" and not isinstance(values[ours], str):
            raise NoProduct(f"{ours} is no text")
    meant = {name for pair in NAMES for name in pair}
    return ImportedProduct(
        title=values["title"],
        description=values["description"],
        category=values["category"],
        price=price_of(values["price"], currency),
        seller=values["seller"],
        username=username_of(values["seller"]),
        attributes=attributes_of({k: v for k, v in found.items() if k not in meant}),
    )


def price_of(value: Any, currency: str) -> Money:
    if isinstance(value, dict):
        try:
            return msgspec.convert(value, Money)
        except msgspec.ValidationError as problem:
            raise NoProduct(f"price: {problem}") from problem
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise NoProduct("price is no number")
    try:
        minor = Decimal(str(value)) * 100
    except InvalidOperation:
        raise NoProduct("price is no number") from None
    if not minor.is_finite() or minor != minor.to_integral_value():
        raise NoProduct("price has more than two decimals")
    return Money(currency, int(minor))


def username_of(seller: str) -> str:
    """The seller's name in the letters that user names have."""
    return re.sub(r"[^a-z0-9_]+", "_", seller.lower()).strip("_")[:USERNAME_LENGTH_MAX]


def attributes_of(members: Mapping[str, Any]) -> dict[str, Attribute]:
    """What attributes cannot hold as it is, lists and objects, they hold as JSON text."""
    return {
        name: value if isinstance(value, Attribute) else msgspec.json.encode(value).decode()
        for name, value in members.items()
        if value is not None
    }


def fingerprint(product: ImportedProduct) -> bytes:
    """The same for the same product, whenever it is imported."""
    return hashlib.sha256(msgspec.json.encode(product)).digest()[:16]
