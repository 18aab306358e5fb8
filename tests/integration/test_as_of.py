"""Pages as of then are the pages that were served then, and moments name positions exactly."""

import itertools
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from domain.commerce.product.events import (
    PriceChanged,
    ProductDescribed,
    ProductListed,
    ProductOffered,
    ProductWithdrawn,
)
from domain.commerce.shop.events import ShopOpened
from domain.commerce.stock.events import ReservationReleased, StockReceived, StockReserved
from domain.shared.money import Money
from domain.shared.personal import Personal
from domain.social.session.events import SessionEnded
from infra.adapters.log.log_moments import STRETCH, MomentsBehind, extend
from infra.adapters.reads.postgres_reads import PostgresReads
from infra.ports.log import Recorded
from tests.asking import Asking
from tests.builders import NOON
from tests.integration.tables import write_log
from tests.integration.test_pages_follow_the_law import Chance
from tests.square import Square


def recorded(position: int, at: datetime) -> Recorded:
    ended = SessionEnded(session_id=f"s{position}", member_id="m", expires_at=NOON)
    return Recorded(
        stream=f"session:{position}", version=1, recorded_at=at, event=ended, position=position
    )


def reached(events: Sequence[Recorded], moment: datetime) -> int:
    """The prefix of the log before anything was recorded later than that."""
    before = itertools.takewhile(lambda one: one.recorded_at <= moment, events)
    return max((one.position for one in before), default=0)


async def events_at(reads: PostgresReads, events: Sequence[Recorded], moment: datetime) -> int:
    """The position that a moment names, as that of the event it stands at or behind."""
    position = await reads.position_at(moment)
    return max((one.position for one in events if one.position <= position), default=0)


@pytest.mark.parametrize("seed", [1])
async def test_a_moment_is_the_last_position_before_all_that_came_later(
    postgres_url: str, seed: int
) -> None:
    """With gaps, equal times, clocks that differ by moments, and one set back by an hour."""
    dice = random.Random(seed)
    events: list[Recorded] = []
    position, now = 0, NOON
    for number in range(2 * STRETCH + 300):
        position += dice.choice([1, 1, 1, 2, 40])
        now += timedelta(microseconds=dice.choice([0, 0, 1, 1_000, 2_000_000]))
        if number == STRETCH // 2:
            now -= timedelta(hours=1)
        behind = dice.choice([0, 0, 0, 3_000])
        events.append(recorded(position, now - timedelta(microseconds=behind)))
    await write_log(postgres_url, events)
    reads = PostgresReads(postgres_url)
    asked = [one.recorded_at for one in dice.sample(events, 40)]
    asked += [moment + timedelta(microseconds=step) for moment in asked for step in (-1, 1)]
    answers = {}
    for moment in [*asked, NOON - timedelta(days=30_000), now + timedelta(days=1)]:
        answers[moment] = await events_at(reads, events, moment)
        assert answers[moment] == reached(events, moment), f"seed {seed}, {moment}"
    in_order = [answers[moment] for moment in sorted(answers)]
    assert in_order == sorted(in_order)

    # What comes later, whatever its clock says, changes no answer about what was before it.
    latest = max(one.recorded_at for one in events)
    late = [recorded(position + n, NOON - timedelta(days=n)) for n in range(1, STRETCH)]
    await write_log(postgres_url, late)
    for moment, known in answers.items():
        if moment < latest:
            assert await events_at(reads, events, moment) == known
    await reads.close()


async def test_an_index_that_lacks_too_much_is_not_waited_for(postgres_url: str) -> None:
    await write_log(
        postgres_url, [recorded(p, NOON) for p in (1, 200 * STRETCH, 200 * STRETCH + 1)]
    )
    reads = PostgresReads(postgres_url)
    with pytest.raises(MomentsBehind, match="of 204801"):
        await extend(reads._statement, seconds=0)
    assert await extend(reads._statement, seconds=20) == 200 * STRETCH + 1
    assert await reads.position_at(NOON) == 200 * STRETCH + 1
    await reads.close()


@dataclass
class Stall:
    """Products that change at random, and posts that show them."""

    square: Square
    chance: Chance
    dice: random.Random
    products: list[str] = field(default_factory=list)
    held: list[StockReserved] = field(default_factory=list)

    async def open(self) -> None:
        owner = self.chance.members[0]
        shop = ShopOpened(
            shop_id=self.square.new_id(), owner_id=owner, name=Personal("Mugs"), country="DE"
        )
        await self.square.record(f"shop:{shop.shop_id}", shop)
        for number in range(3):
            product_id = self.square.new_id()
            listed = ProductListed(
                product_id=product_id,
                shop_id=shop.shop_id,
                seller_id=owner,
                title=Personal(f"Mug {number}"),
                description=Personal("Holds tea."),
                category="Kitchen",
                price=Money(currency="EUR", value=1000 + number),
            )
            await self.square.record(f"product:{product_id}", listed)
            self.products.append(product_id)

    async def act(self) -> None:
        product_id = self.dice.choice(self.products)
        number = self.dice.randint(1, 9)
        happened: list[Any] = [
            PriceChanged(product_id=product_id, price=Money(currency="EUR", value=number)),
            ProductDescribed(
                product_id=product_id,
                seller_id=self.chance.members[0],
                title=Personal(f"Mug of {number}"),
            ),
            StockReceived(product_id=product_id, quantity=number, reference="r"),
            StockReserved(
                product_id=product_id,
                reservation_id=self.square.new_id(),
                quantity=number,
                expires_at=NOON,
            ),
            *(
                ReservationReleased(
                    product_id=one.product_id,
                    reservation_id=one.reservation_id,
                    quantity=one.quantity,
                )
                for one in self.held[:1]
            ),
            ProductWithdrawn(product_id=product_id),
            ProductOffered(product_id=product_id),
        ]
        event = self.dice.choice(happened)
        if isinstance(event, StockReserved):
            self.held.append(event)
        if isinstance(event, ReservationReleased):
            del self.held[0]
        kind = "stock" if "stock" in event.__struct_config__.tag else "product"
        await self.square.record(f"{kind}:{event.product_id}", event)

    async def post(self) -> None:
        shown = tuple(self.dice.sample(self.products, self.dice.randint(1, 2)))
        author = self.dice.choice(self.chance.members)
        post = await self.square.post(author, "look at these", product_ids=shown)
        self.chance.standing.append(post)


@pytest.fixture
async def square(postgres_url: str) -> AsyncIterator[Square]:
    opened = await Square.open(postgres_url, commerce=True)
    yield opened
    await opened.close()


async def pages(asking: Asking, chance: Chance, stall: Stall, **then: Any) -> dict[str, Any]:
    """What a reader sees of everything, feeds as all of their pages."""
    dice = random.Random(asking.square.applied if not then else then["asOf"])
    reader = dice.choice(chance.members)
    posts = dice.sample(stall.chance.standing, min(4, len(chance.standing)))
    found: dict[str, Any] = {}
    for path in [
        *(f"/api/posts/{post}" for post in posts),
        *(f"/api/users/{member}" for member in dice.sample(chance.members, 2)),
        *(f"/api/products/{product}" for product in stall.products),
    ]:
        answer = await asking.raw(path, reader, asking.square.applied, **then)
        found[path] = (answer.status_code, answer.json() if answer.status_code == 200 else None)
    page: dict[str, Any] = {"nextCursor": None, "hasMore": True}
    feed: list[Any] = []
    while page["hasMore"]:
        cursor = {"cursor": page["nextCursor"]} if page["nextCursor"] else {}
        page = await asking.get("/api/feed", reader, limit=30, **cursor, **then)
        feed += page["posts"]
    found["feed"] = feed
    return found


@pytest.mark.parametrize("seed", [3])
async def test_pages_as_of_then_are_what_was_served_then(square: Square, seed: int) -> None:
    dice = random.Random(seed)
    chance = Chance(square, dice)
    await chance.gather()
    stall = Stall(square, chance, dice)
    await stall.open()
    served: dict[int, tuple[list[str], dict[str, Any]]] = {}
    async with Asking.open(square) as asking:
        for _ in range(12):
            for _ in range(8):
                await dice.choice([chance.act, chance.act, stall.act, stall.post])()
            position = await square.apply()
            served[position] = list(chance.standing), await pages(asking, chance, stall)
        for position, (standing, then) in served.items():
            chance.standing = standing
            found = await pages(asking, chance, stall, asOf=position)
            assert found == then, f"seed {seed}, as of {position}"
        products = [
            item for _, then in served.values() for item in then["feed"] if item["products"]
        ]
        assert len({str(item["products"]) for item in products}) > 5, "nothing was shown to change"

        # By the moment of its event a position is found again.
        for one in dice.sample(square.history, 10):
            moment = one.recorded_at.isoformat().replace("+00:00", "Z")
            path = f"/api/users/{chance.members[0]}"
            assert await asking.get(path, asOf=moment) == await asking.get(path, asOf=one.position)
