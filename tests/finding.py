"""A square and a market that can be searched: what happens, what is found, and what should be."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from domain.commerce.product.events import ProductListed
from domain.commerce.shop.events import ShopOpened
from domain.commerce.stock.events import StockReceived
from domain.shared.money import Money
from domain.shared.personal import Personal
from infra.adapters.reads.postgres_discovery import PostgresDiscovery
from infra.adapters.search.search_guard import Guard, Limits
from infra.composition.services.search_reads import search_reads
from infra.composition.settings import Settings
from tests.asking import Asking
from tests.searching import Searching, searching
from tests.square import Square

Page = dict[str, Any]

PATIENT = Limits(seconds=60.0)
"""What is asked is answered, however slow the machine."""


@dataclass
class Finding:
    """Asks for results in members' names, of a service whose indices are kept."""

    world: Searching
    asking: Asking
    owners: dict[str, str] = field(default_factory=dict)

    @property
    def square(self) -> Square:
        return self.world.square

    async def settled(self) -> None:
        """Everything that has happened can be found."""
        await self.world.apply()
        await self.world.settle()
        for index in ("plaza-posts", "plaza-members", "plaza-products"):
            await self.world.client.indices.refresh(index=index)

    async def page(self, q: str = "", member: str = "", **parameters: Any) -> Page:
        asked = {"q": q, **parameters} if q else parameters
        answer = await self.asking.raw("/api/search", member, **asked)
        assert answer.status_code == 200, answer.text
        found: Page = answer.json()
        return found

    async def refused(self, path: str = "/api/search", **parameters: Any) -> Any:
        answer = await self.asking.raw(path, **parameters)
        assert answer.status_code == 422, answer.text
        return answer.json()

    async def found(self, q: str = "", member: str = "", **parameters: Any) -> list[Any]:
        """The results of all pages."""
        results: list[Any] = []
        while True:
            page = await self.page(q, member, **parameters)
            results += page["results"]
            assert page["hasMore"] == (page["nextCursor"] is not None)
            if not page["hasMore"]:
                return results
            parameters["cursor"] = page["nextCursor"]

    async def posts(self, q: str, member: str = "", **parameters: Any) -> list[str]:
        return [post["postId"] for post in await self.found(q, member, **parameters)]

    async def users(self, q: str, member: str = "", **parameters: Any) -> list[str]:
        found = await self.found(q, member, type="users", **parameters)
        return [user["username"] for user in found]

    async def products(self, q: str = "", **parameters: Any) -> list[str]:
        found = await self.found(q, type="products", **parameters)
        return [product["productId"] for product in found]

    # Selling.

    async def shop(self, name: str = "Mugs") -> str:
        seller = await self.square.member(f"seller_{next(self.square.chances)}")
        shop_id = self.square.new_id()
        event = ShopOpened(shop_id=shop_id, owner_id=seller, name=Personal(name), country="DE")
        await self.square.record(f"shop:{shop_id}", event)
        self.owners[shop_id] = seller
        return shop_id

    async def product(
        self,
        shop_id: str,
        title: str,
        *,
        description: str = "",
        category: str = "Things",
        price: int = 1_000,
        units: int = 1,
        **attributes: Any,
    ) -> str:
        product_id = self.square.new_id()
        event = ProductListed(
            product_id=product_id,
            shop_id=shop_id,
            seller_id=self.owners[shop_id],
            title=Personal(title),
            description=Personal(description),
            category=category,
            price=Money("EUR", price),
            attributes=Personal(attributes),
        )
        await self.square.record(f"product:{product_id}", event)
        if units:
            await self.receive(product_id, units)
        return product_id

    async def receive(self, product_id: str, units: int) -> int:
        event = StockReceived(product_id=product_id, quantity=units, reference=self.square.new_id())
        return await self.square.record(f"stock:{product_id}", event)


@contextlib.asynccontextmanager
async def finding(
    postgres_url: str,
    search_url: str,
    *,
    asked_through: str = "",
    cache_seconds: float = 0.0,
    guard: Guard | None = None,
) -> AsyncIterator[Finding]:
    """A new square over an empty search server, and a service that asks both; it may ask the search
    server at another address than whoever writes to it."""
    async with searching(postgres_url, search_url) as world, contextlib.AsyncExitStack() as stack:
        await world.start()
        settings = Settings(postgres_url=postgres_url, opensearch_url=asked_through or search_url)
        reads = search_reads(settings, guard or Guard(PATIENT))
        stack.push_async_callback(reads.close)
        discovery = PostgresDiscovery(postgres_url)
        stack.push_async_callback(discovery.close)
        more: dict[str, Any] = {
            "discovery": discovery,
            "search": reads,
            "search_cache_seconds": cache_seconds,
        }
        asking = await stack.enter_async_context(Asking.open(world.square, **more))
        yield Finding(world, asking)
