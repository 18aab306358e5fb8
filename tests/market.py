"""Members who buy and sell on a running system, over HTTP as a client would."""

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
import msgspec

from tests.contract.provider import card

WAIT_SECONDS = 30.0
FINAL = {"confirmed", "rejected", "cancelled"}
ADDRESS = {
    "street": "Square",
    "houseNumberOrName": "1",
    "postalCode": "10115",
    "city": "Berlin",
    "country": "DE",
}
_numbers = itertools.count()


@dataclass
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass
class Market:
    """A running system, and whoever asks it something."""

    http: aiohttp.ClientSession
    commands: str
    queries: str

    @classmethod
    @asynccontextmanager
    async def open(cls, commands: str, queries: str) -> AsyncIterator[Self]:
        timeout = aiohttp.ClientTimeout(total=60)
        connector = aiohttp.TCPConnector(limit=200)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
            yield cls(http, commands, queries)

    async def ask(self, method: str, url: str, body: Any = None, **headers: str) -> Answer:
        data = body if isinstance(body, bytes) else None
        encoded = None if body is None or data is not None else msgspec.json.encode(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, url, data=data or encoded, headers=named) as answer:
            said = await answer.read()
            try:
                found = msgspec.json.decode(said) if said else None
            except msgspec.DecodeError:
                found = said
            return Answer(answer.status, found, answer.headers)

    async def member(self, prefix: str = "m") -> "Member":
        name = f"{prefix}_{secrets.token_hex(5)}{next(_numbers)}"
        log_in = {"username": name, "password": "correct horse"}
        asked = {**log_in, "displayName": name}
        answer = await self.ask("POST", f"{self.commands}/api/users", asked)
        assert answer.status == 201, answer
        session = await self.ask("POST", f"{self.commands}/api/sessions", log_in)
        assert session.status == 201, session
        return Member(self, answer.body["userId"], session.body["token"])

    async def seller(self) -> "Member":
        seller = await self.member("s")
        seller.shop_id = (
            await seller.do("POST", "/api/shops", {"name": "Mugs", "country": "DE"})
        ).body["shopId"]
        return seller


@dataclass
class Member:
    market: Market
    id: str
    token: str
    shop_id: str = ""
    position: str = "0"
    keys: Any = field(default_factory=itertools.count)

    async def try_(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}", **headers}
        answer = await self.market.ask(method, f"{self.market.commands}{path}", body, **headers)
        if answer.status < 400:
            self.position = answer.headers["Log-Position"]
        return answer

    async def do(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        answer = await self.try_(method, path, body, **headers)
        assert answer.status < 300, answer
        return answer

    async def look(self, path: str, after: str | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}"}
        headers["Log-Position"] = self.position if after is None else after
        return await self.market.ask("GET", f"{self.market.queries}{path}", **headers)

    async def see(self, path: str, after: str | None = None) -> Any:
        answer = await self.look(path, after)
        assert answer.status == 200, answer
        return answer.body

    # Selling.

    async def list_product(self, price: int = 1999, units: int = 10, **more: Any) -> str:
        asked = {
            "title": "Mug",
            "description": "Holds tea.",
            "category": "Kitchen",
            "price": {"currency": "EUR", "value": price},
            **more,
        }
        product_id = str((await self.do("POST", "/api/products", asked)).body["productId"])
        if units:
            await self.stock(product_id, units)
        return product_id

    async def stock(self, product_id: str, units: int, reference: str = "") -> Any:
        asked = {"quantity": units, "reference": reference or secrets.token_hex(6)}
        return (await self.do("POST", f"/api/products/{product_id}/stock", asked)).body

    # Buying.

    async def put(self, product_id: str, quantity: int = 1, **more: Any) -> None:
        path = f"/api/cart/items/{product_id}"
        await self.do("PUT", path, {"quantity": quantity, **more})

    def payment(self, method: Mapping[str, str] | None = None) -> dict[str, Any]:
        return {"paymentMethod": dict(method or card()), "shippingAddress": ADDRESS}

    async def try_to_buy(
        self, method: Mapping[str, str] | None = None, key: str = "", **more: Any
    ) -> Answer:
        key = key or f"buy-{next(self.keys)}-{secrets.token_hex(4)}"
        asked = {**self.payment(method), **more}
        return await self.try_("POST", "/api/checkouts", asked, Idempotency_Key=key)

    async def buy(self, method: Mapping[str, str] | None = None, **more: Any) -> Any:
        """Start a checkout; answers what 202 said."""
        answer = await self.try_to_buy(method, **more)
        assert answer.status == 202, answer
        return answer.body

    async def bought(self, product_id: str, quantity: int = 1, name: str = "Ann") -> Any:
        """Buy one thing, and wait until that is decided."""
        await self.put(product_id, quantity)
        started = await self.buy(card(name=name))
        return await self.finished(started["checkoutId"])

    async def finished(self, checkout_id: str, seconds: float = WAIT_SECONDS) -> Any:
        return await self.until(checkout_id, FINAL, seconds)

    async def until(
        self, checkout_id: str, statuses: set[str], seconds: float = WAIT_SECONDS
    ) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            answer = await self.look(f"/api/checkouts/{checkout_id}")
            if answer.status == 200 and answer.body["status"] in statuses:
                return answer.body
            assert answer.status in {200, 404, 503}, answer
            assert time.monotonic() < deadline, answer
            await asyncio.sleep(0.03)

    async def order_until(self, order_id: str, holds: Any, seconds: float = WAIT_SECONDS) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            answer = await self.look(f"/api/orders/{order_id}", after="0")
            if answer.status == 200 and holds(answer.body):
                return answer.body
            assert time.monotonic() < deadline, answer
            await asyncio.sleep(0.03)
