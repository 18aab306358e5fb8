"""What the pages of the commerce half are given: products from memory, and who asks."""

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from domain.shared.identifiers import id_number, id_text
from infra.formats.personal_values import attributes_in, urls_in
from infra.http.authentication import Authenticator, header
from infra.http.consistency import Applied as AppliedPosition
from infra.http.consistency import required_position
from infra.http.cursors import Cursors
from infra.http.problems import not_found
from infra.ports.commerce_reads import CommerceReads, ProductRow
from infra.ports.frames import Applied
from infra.ports.log import OPEN, Clock
from infra.ports.reads import ReadsUnavailable
from infra.ports.secrets import Keyring
from query_api.as_of import position_asked
from query_api.caches.generations import Generations
from query_api.shapes.commerce import ProductPage, Seller, money
from query_api.shapes.social import ProductCard

PRODUCTS_MAX = 50_000
CARDS_SECONDS = 1.0
encode = msgspec.json.Encoder().encode

Headers = Iterable[tuple[bytes, bytes]]


class Product:
    """A product as pages show it: its page's JSON is made once."""

    __slots__ = ("card", "json", "number", "page")

    def __init__(self, number: int, page: ProductPage) -> None:
        self.number = number
        self.page = page
        self.json = encode(page)
        self.card = ProductCard(page.product_id, page.title, page.price, page.available)


def page_of(row: ProductRow, keyring: Keyring) -> ProductPage | None:
    """A product's page, once its seller's key is in memory; None where the seller is erased."""
    seller = id_text(row.seller_id)
    title = keyring.open(seller, row.title)
    if title is None:
        return None
    return ProductPage(
        product_id=id_text(row.product_id),
        title=title,
        description=keyring.open(seller, row.description) or "",
        category=row.category,
        price=money(row.currency, row.price),
        available=row.available if row.for_sale else 0,
        media_urls=urls_in(keyring.open(seller, row.media_urls)),
        attributes=attributes_in(keyring.open(seller, row.attributes)),
        seller=Seller(id_text(row.shop_id), keyring.open(seller, row.shop_name) or ""),
        for_sale=row.for_sale,
    )


class Products:
    """The local cache of products, and `ProductCards` for posts that show them.

    Nothing cached outlives its truth: what projections tell of is forgotten, and while nobody
    tells us nothing is kept. What was being fetched when it changed is not kept either.
    """

    def __init__(
        self, reads: CommerceReads, keyring: Keyring, products_max: int = PRODUCTS_MAX
    ) -> None:
        self._reads = reads
        self._keyring = keyring
        self._known: Generations[int, Product] = Generations(products_max)
        self._numbers: Generations[str, int] = Generations(products_max)
        self._fetching: set[Fetch] = set()
        self._keeping = False

    def begin(self) -> None:
        self._keeping = True

    def end(self) -> None:
        self._keeping = False
        self._forget_all()

    def changed(self, applied: Applied) -> None:
        if applied.everything:
            self._forget_all()
            return
        for number in applied.products:
            self._known.drop(number)
        for fetch in self._fetching:
            fetch.changed.update(applied.products)

    def _forget_all(self) -> None:
        self._known.clear()
        for fetch in self._fetching:
            fetch.spoiled = True

    def named(self, product_id: str) -> Product | None:
        """A product by its id as text, if it is kept."""
        number = self._numbers.get(product_id)
        return None if number is None else self._known.get(number)

    async def get(self, numbers: Collection[int]) -> Mapping[int, Product]:
        """Those of these products that there are. Raises `ReadsUnavailable`."""
        found = {number: known for number in numbers if (known := self._known.get(number))}
        missing = [number for number in numbers if number not in found]
        if not missing:
            return found
        fetch = Fetch()
        self._fetching.add(fetch)
        try:
            fetched = await self.read(missing)
        finally:
            self._fetching.discard(fetch)
        for number, product in fetched.items():
            found[number] = product
            if self._keeping and not fetch.spoiled and number not in fetch.changed:
                self._known.put(number, product)
                self._numbers.put(product.card.product_id, number)
        return found

    async def read(self, numbers: Collection[int], position: int = OPEN) -> Mapping[int, Product]:
        """The same past the cache, as they are now or were at a position."""
        products = await self.opened(await self._reads.products(numbers, position))
        return {product.number: product for product in products}

    async def opened(self, rows: Sequence[ProductRow]) -> Sequence[Product]:
        """These as pages show them, but for those whose seller is erased."""
        await self._keyring.fetch({id_text(row.seller_id) for row in rows})
        pages = [(row.product_id, page_of(row, self._keyring)) for row in rows]
        return [Product(number, page) for number, page in pages if page is not None]

    async def cards(self, product_ids: Collection[str]) -> Mapping[str, ProductCard]:
        """See `ProductCards`: posts are shown without what cannot be read now."""
        return await shown(self.get(numbers_of(product_ids)))

    async def cards_at(
        self, position: int, product_ids: Collection[str]
    ) -> Mapping[str, ProductCard]:
        return await shown(self.read(numbers_of(product_ids), position))


async def shown(looking: Awaitable[Mapping[int, Product]]) -> Mapping[str, ProductCard]:
    """The cards of what is found in time; none where it cannot be looked for."""
    try:
        async with asyncio.timeout(CARDS_SECONDS):
            found = await looking
    except (ReadsUnavailable, TimeoutError):
        return {}
    return {product.card.product_id: product.card for product in found.values()}


class Fetch:
    """A look at the tables that is under way, and what has changed since it began."""

    __slots__ = ("changed", "spoiled")

    def __init__(self) -> None:
        self.changed: set[int] = set()
        self.spoiled = False


def numbers_of(product_ids: Collection[str]) -> list[int]:
    """Those of these that are ids at all, as numbers."""
    return [number for text in product_ids if (number := number_of(text)) is not None]


def number_of(text: str) -> int | None:
    try:
        return id_number(text)
    except ValueError:
        return None


@dataclass(frozen=True, kw_only=True)
class Market:
    """The parts that the pages are made with."""

    reads: CommerceReads
    products: Products
    keyring: Keyring
    authenticator: Authenticator
    applied: AppliedPosition
    cursors: Cursors
    clock: Clock

    async def member(self, headers: Headers) -> str:
        """Who asks, once what they must not miss is applied. Raises a 401 problem for nobody."""
        authorization = header(headers, b"authorization")
        session = self.authenticator.authenticate(authorization)
        if await self.caught_up(headers):
            session = self.authenticator.authenticate(authorization)
        return session.member_id

    async def anybody(self, headers: Headers) -> None:
        """Refuse a session that does not hold; none is as good as one."""
        self.authenticator.identify(header(headers, b"authorization"))
        await self.caught_up(headers)

    async def caught_up(self, headers: Headers) -> bool:
        """Wait for what the caller must not miss; answers whether that took any waiting."""
        position = required_position(headers)
        if position <= self.applied.position:
            return False
        await self.applied.require(position)
        return True

    async def as_of(self, parameters: Mapping[str, str]) -> int | None:
        """See `query_api.as_of.position_asked`."""
        return await position_asked(parameters, self.reads, self.applied, self.clock)


def id_in_path(request: Request, name: str, what: str) -> int:
    """Raises a 404 problem for what is not even an id."""
    number = number_of(request.path_params[name])
    if number is None:
        raise not_found(what)
    return number


def answer(page: object) -> Response:
    return Response(encode(page), media_type="application/json")
