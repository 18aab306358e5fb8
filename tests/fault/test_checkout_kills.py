"""Shoppers buy while their processes are killed: every checkout ends, the provider's books and the
log agree, and no unit is lost or sold twice."""

import asyncio
import http.client
import os
import random
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.contract.provider import StandIn, card
from tests.fault.system import System, running_system
from tests.market import ADDRESS, Market, Member

SEED = int(os.environ.get("PLAZA_FAULT_SEED", "20260101"))
VICTIMS = ("command-api", "commerce-worker", "adyen", "postgres", "query-api", "everything")
NAMES = ("Ann", "Ann", "Ann", "DECLINED", "CAPTURE_REFUSED", "CAPTURE_FAILED_ONCE")
SKUS = 5
UNITS = 100_000
PRICE = 1_999
HOLD_SECONDS = 20
RUSHING = 1_000
SETTLE_SECONDS = 90.0
"""How long nothing at all may come to an end while something is open."""
QUIET_SECONDS = 3.0
TRAVEL = {
    "duplicate": 0.2,
    "reorder": 0.5,
    "delay": [0.0, 0.5],
    "lose": 0.15,
    "forge": 0.1,
    "per_envelope": 3,
}
"""How notifications travel meanwhile; the provider repeats what is lost until it arrives."""


class Shopper:
    """Buys again and again, whatever answers or does not; never gives up on a key."""

    def __init__(self, member: Member, products: list[str], dice: random.Random) -> None:
        self._member = member
        self._products = products
        self._dice = dice
        self.purchases = 0
        self.checkouts: dict[str, int] = {}

    async def live(self, purchases: int) -> None:
        for number in range(purchases):
            self.purchases = number
            product = self._dice.choice(self._products)
            quantity = self._dice.randint(1, 3)
            await self._insist("PUT", f"/api/cart/items/{product}", {"quantity": quantity})
            asked = {
                "paymentMethod": card(name=self._dice.choice(NAMES)),
                "shippingAddress": ADDRESS,
            }
            key = f"{self._member.id}-{number}"
            said = await self._insist("POST", "/api/checkouts", asked, key)
            if said is not None:
                self.checkouts[said["checkoutId"]] = number

    async def _insist(self, method: str, path: str, body: Any, key: str = "") -> Any:
        headers = {"Idempotency_Key": key} if key else {}
        while True:
            try:
                answer = await self._member.try_(method, path, body, **headers)
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                await asyncio.sleep(0.1)
                continue
            if answer.status < 300:
                return answer.body
            if answer.status == 409 and answer.body["type"] != "/problems/request-in-flight":
                return None  # A rejected checkout gave back more than there is, or nothing is left.
            assert answer.status in {409, 503}, answer
            await asyncio.sleep(0.1)


@dataclass
class Chaos:
    """What befalls a system, and when."""

    victims: list[str]
    dice: random.Random

    async def strike(
        self, system: System, provider: StandIn, shoppers: list[Shopper], purchases: int
    ) -> None:
        """In turn, each once its share of all purchases has begun."""
        share = len(shoppers) * (purchases - 1) / len(self.victims)
        for number, victim in enumerate(self.victims):
            while sum(shopper.purchases for shopper in shoppers) < number * share:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            await asyncio.sleep(self.dice.uniform(0.0, 0.3))
            async with asyncio.timeout(60):
                while not system.kill(victim):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            if victim == "everything":
                await system.start()
            if victim in {"everything", "adyen"}:
                # Its switches are in its memory.
                await disturb(provider)


async def disturb(provider: StandIn) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await asyncio.to_thread(provider.switch, notifications=TRAVEL)
            except (OSError, http.client.HTTPException):
                await asyncio.sleep(0.05)
            else:
                return


async def strike_while_buying(
    system: System, provider: StandIn, shoppers: list[Shopper], purchases: int, chaos: Chaos
) -> None:
    await disturb(provider)
    living = [asyncio.create_task(shopper.live(purchases)) for shopper in shoppers]
    await chaos.strike(system, provider, shoppers, purchases)
    await asyncio.gather(*living)
    await system.wait_until_ready()


async def survives(folder: Path, chaos: Chaos, buyers: int, purchases: int) -> None:
    print(f"seed {SEED}")
    async with running_system(folder, settings={"PLAZA_RESERVATION_SECONDS": "600"}) as system:
        async with Market.open(system.command_url, system.query_url) as market:
            seller = await market.seller()
            products = [await seller.list_product(PRICE, UNITS) for _ in range(SKUS)]
            members = [await market.member() for _ in range(buyers)]
            shoppers = [
                Shopper(member, products, random.Random(f"{SEED} {index}"))
                for index, member in enumerate(members)
            ]
            provider = await provider_of(system)
            await strike_while_buying(system, provider, shoppers, purchases, chaos)
            await settled(system, provider, shoppers)
            statuses = await check(system, provider, products)
        print("killed", dict(Counter(chaos.victims)))
        print("checkouts", dict(statuses), "ledger", provider.books()["totals"])


async def settled(system: System, provider: StandIn, shoppers: list[Shopper]) -> None:
    """Every checkout is final, and nobody has anything to say any more."""
    # From here on nothing is lost any more, and what was is sent again at once.
    provider.switch()
    deadline, counted, seen = 0.0, 0, (-1, -1)
    while True:
        events = await system.events()
        started = {e["data"]["checkoutId"] for e in events if e["type"] == "checkout.started.v2"}
        kinds = {"checkout.confirmed.v1", "checkout.rejected.v1", "checkout.cancelled.v1"}
        ended = {e["data"]["checkoutId"] for e in events if e["type"] in kinds}
        shown = {id_ for shopper in shoppers for id_ in shopper.checkouts}
        assert shown <= started
        waiting = provider.books()["notificationsWaiting"]
        if started == ended and not waiting and len(events) == counted:
            return
        counted = len(events)
        now = asyncio.get_running_loop().time()
        if seen != (seen := (len(ended), waiting)):
            deadline = now + SETTLE_SECONDS
        assert now < deadline, (started - ended, waiting)
        await asyncio.sleep(QUIET_SECONDS)


async def provider_of(system: System) -> StandIn:
    rows = msgspec.json.decode(await system.plaza("config", "--json"))
    (url,) = [row["value"] for row in rows if row["name"] == "PLAZA_ADYEN_BASE_URL"]
    return StandIn(None, url)  # type: ignore[arg-type]


async def check(system: System, provider: StandIn, products: list[str]) -> Counter[str]:
    """A few lines that share nothing with the product but the words of its events."""
    events = await system.events()
    by_type: dict[str, list[Any]] = {}
    for event in events:
        by_type.setdefault(event["type"], []).append(event["data"])
    confirmed = [data["checkoutId"] for data in by_type["checkout.confirmed.v1"]]
    assert len(confirmed) == len(set(confirmed))
    orders = Counter(data["orderId"] for data in by_type["order.confirmed.v1"])
    assert set(orders.values()) == {1}
    started = {data["checkoutId"]: data for data in by_type["checkout.started.v2"]}
    check_money(provider.books()["payments"], [started[id_] for id_ in confirmed])
    check_units(events, [started[id_] for id_ in confirmed], products)
    ends = ("confirmed", "rejected", "cancelled")
    return Counter({end: len(by_type.get(f"checkout.{end}.v1", ())) for end in ends})


def check_money(payments: list[Any], confirmed: list[Any]) -> None:
    """What the provider captured is what was confirmed, and no money is held and forgotten."""
    captured: Counter[str] = Counter()
    for payment in payments:
        moved = [m for m in payment["movements"] if not m["failed"]]
        taken = sum(m["value"] for m in moved if m["kind"] == "capture")
        assert taken or payment["state"] != "authorised", f"{payment['reference']} is forgotten"
        captured[payment["reference"]] += taken
    assert +captured == {data["checkoutId"]: data["total"]["value"] for data in confirmed}


def check_units(
    events: list[Any], confirmed: list[Any], products: list[str], units: int = UNITS
) -> None:
    """Never negative at any position; in the end nothing is held, and what is gone was bought."""
    on_hand: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for event in events:
        data = event["data"]
        if event["type"] == "stock.received.v1":
            on_hand[data["productId"]] += data["quantity"]
        elif event["type"] == "stock.reserved.v1":
            held[data["productId"]] += data["quantity"]
        elif event["type"].startswith("stock."):
            held[data["productId"]] -= data["quantity"]
            if event["type"] == "stock.reservation_committed.v1":
                on_hand[data["productId"]] -= data["quantity"]
        assert all(on_hand[product] >= held[product] for product in products)
    assert not +held
    lines = [line for data in confirmed for order in data["orders"] for line in order["lines"]]
    for product in products:
        bought = sum(line["quantity"] for line in lines if line["productId"] == product)
        assert on_hand[product] == units - bought


@pytest.mark.timeout(600)
async def test_killing_processes_while_members_buy(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    victims = list(VICTIMS)
    dice.shuffle(victims)
    await survives(tmp_path, Chaos(victims, dice), buyers=12, purchases=12)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_held_units_are_back_in_time_though_their_timers_host_dies(tmp_path: Path) -> None:
    """Also if it dies in the middle of the hold: its successor knows the time from the log."""
    settings = {"PLAZA_RESERVATION_SECONDS": str(HOLD_SECONDS)}
    async with running_system(tmp_path, settings=settings) as system:
        async with Market.open(system.command_url, system.query_url) as market:
            seller, buyer = await market.seller(), await market.member()
            product = await seller.list_product(PRICE, 1)
            await buyer.put(product)
            checkout_id = (await buyer.buy(card("4212345678901237")))["checkoutId"]
            await buyer.until(checkout_id, {"awaiting_action"})
            await asyncio.sleep(HOLD_SECONDS / 2)
            assert system.kill("commerce-worker")
            assert (await buyer.finished(checkout_id, 60))["status"] == "cancelled"
        events = await system.events()
    (held,) = [event for event in events if event["type"] == "stock.reserved.v1"]
    (back,) = [event for event in events if event["type"] == "stock.reservation_expired.v1"]
    began, ended = (datetime.fromisoformat(event["recordedAt"]) for event in (held, back))
    assert (ended - began).total_seconds() == pytest.approx(HOLD_SECONDS, abs=1.0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_a_thousand_buyers_want_ten_units(tmp_path: Path) -> None:
    async with running_system(tmp_path) as system:
        async with Market.open(system.command_url, system.query_url) as market:
            seller = await market.seller()
            product = await seller.list_product(PRICE, 10)
            buyers: list[Member] = []
            while len(buyers) < RUSHING:
                buyers += await asyncio.gather(*(market.member() for _ in range(50)))
            await asyncio.gather(*(buyer.put(product) for buyer in buyers))
            found = Counter(await asyncio.gather(*(rush(buyer) for buyer in buyers)))
            assert (await seller.see(f"/api/products/{product}"))["available"] == 0
        print(dict(found))
        assert found["confirmed"] == 10
        assert found["insufficient_stock"] == RUSHING - 10
        await settled(system, await provider_of(system), [])
        events = await system.events()
    confirmed = {e["data"]["checkoutId"] for e in events if e["type"] == "checkout.confirmed.v1"}
    started = [e["data"] for e in events if e["type"] == "checkout.started.v2"]
    check_units(events, [d for d in started if d["checkoutId"] in confirmed], [product], 10)


async def rush(buyer: Member) -> str:
    """How one buyer's purchase ends: confirmed, or why not."""
    while (answer := await buyer.try_to_buy(key="rush")).status == 503:  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    if answer.status == 409:
        (problem,) = answer.body["problems"]
        return str(problem["code"])
    assert answer.status == 202, answer
    done = await buyer.finished(answer.body["checkoutId"], 300)
    return str(done["failure"]["code"] if done["status"] == "rejected" else done["status"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_killing_processes_two_hundred_times(tmp_path: Path) -> None:
    dice = random.Random(SEED + 1)
    victims = dice.choices(VICTIMS[:-1], k=190) + ["everything"] * 10
    dice.shuffle(victims)
    await survives(tmp_path, Chaos(victims, dice), buyers=40, purchases=50)
