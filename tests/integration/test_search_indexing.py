"""The search indices hold what the log says: on the embedded server, and on OpenSearch."""

import asyncio
import random
import time
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import AsyncOpenSearch

from domain.commerce.product.events import (
    PriceChanged,
    ProductDescribed,
    ProductListed,
    ProductOffered,
    ProductWithdrawn,
)
from domain.commerce.shop.events import ShopOpened
from domain.commerce.stock.events import StockReceived, StockReserved
from domain.shared.money import Money
from domain.shared.personal import Personal
from infra.adapters.search.opensearch_index import OpenSearchStore
from infra.adapters.search.search_client import search_client
from infra.composition.operations.search_keeper import SearchKeeper
from infra.composition.services.search_reads import search_reads
from infra.composition.settings import Settings
from infra.ports.search import Refused, SearchUnavailable, Write
from infra.ports.search_documents import POSTS, SearchIndex, encode
from infra.runtime.indexing.search_indexing import Pace
from infra.servers.osmem import start_osmem
from infra.servers.process import free_port
from projections.search import SEARCH, SEARCH_MEMBERS, SEARCH_POSTS
from tests import waiting
from tests.searching import (
    Searching,
    assert_is_the_fold,
    comes_to_hold,
    empty,
    happen,
    searching,
)
from tests.square import Square

SOCIAL_NAMES = ("search_posts", "search_members")


async def sell(square: Square, chance: random.Random, times: int) -> None:
    seller = await square.member(f"s_{chance.randrange(10**9)}")
    shop = square.new_id()
    await square.record(
        f"shop:{shop}",
        ShopOpened(shop_id=shop, owner_id=seller, name=Personal("Bürstner & Co"), country="DE"),
    )
    for number in range(times):
        key = square.new_id()
        listed = ProductListed(
            product_id=key,
            shop_id=shop,
            seller_id=seller,
            title=Personal(f"Hiking boots {number}"),
            description=Personal("Waterproof boots for walking in mountains"),
            category=chance.choice(("Footwear", "Outdoor")),
            price=Money(currency="EUR", value=chance.randrange(100, 20_000)),
            attributes=Personal({"brand": "Daybird", "size": 42, "waterproof": True}),
        )
        await square.record(f"product:{key}", listed)
        received = StockReceived(product_id=key, quantity=2, reference=key)
        await square.record(f"stock:{key}", received)
        later: Any = chance.choice(
            (
                PriceChanged(product_id=key, price=Money(currency="EUR", value=5)),
                ProductDescribed(
                    product_id=key,
                    seller_id=seller,
                    title=Personal("Sandals"),
                    attributes=Personal({}),
                ),
                ProductWithdrawn(product_id=key),
            )
        )
        await square.record(f"product:{key}", later)
        if isinstance(later, ProductWithdrawn) and number % 2:
            await square.record(f"product:{key}", ProductOffered(product_id=key))
        if number % 3 == 0:
            reserved = StockReserved(
                product_id=key, reservation_id=key, quantity=2, expires_at=square.now
            )
            await square.record(f"stock:{key}", reserved)


async def test_indices_are_the_fold_of_the_log(postgres_url: str, search_url: str) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with searching(postgres_url, search_url) as world:
        await happen(world.square, chance, 40)
        await sell(world.square, chance, 8)
        await world.apply()
        # One part is filled from the tables, the rest comes with frames.
        await world.start()
        await world.settle()
        await assert_is_the_fold(world)
        await happen(world.square, chance, 40)
        await sell(world.square, chance, 8)
        await world.apply()
        await world.settle()
        await assert_is_the_fold(world)


async def test_frames_that_come_twice_late_or_never_change_nothing(
    postgres_url: str, osmem_server: str
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with searching(postgres_url, osmem_server) as world:
        await world.start(*SOCIAL_NAMES)
        kept = []
        for _ in range(6):
            await happen(world.square, chance, 10)
            await world.square.apply()
            kept += await world.frames()
            world.handed = world.square.applied
            handed = [frame for frame in kept if chance.random() < 0.6]
            chance.shuffle(handed)
            for frame in handed:
                for one in world.indexing.values():
                    await one.apply([frame])
            await asyncio.sleep(chance.random() * 0.1)
        # A frame of each partition has to come for what is missing before it to be noticed.
        for one in world.indexing.values():
            await one.apply(kept[-16:])
        await world.settle()
        await assert_is_the_fold(world)


async def test_a_worker_that_is_killed_at_any_moment_leaves_nothing_out(
    postgres_url: str, osmem_server: str
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with searching(postgres_url, osmem_server) as world:
        for _ in range(8):
            await world.start("search_posts")
            await happen(world.square, chance, 15)
            await world.apply()
            await asyncio.sleep(chance.random() * 0.15)
            await world.stop()
        await world.start("search_posts")
        await world.settle()
        await assert_is_the_fold(world)


async def test_an_older_version_changes_nothing_not_even_what_was_deleted(
    postgres_url: str, search_url: str
) -> None:
    async with searching(postgres_url, search_url) as world:
        store = OpenSearchStore(world.client, POSTS)
        build = await store.begin(dict.fromkeys(POSTS.partitions, 0), 0)
        old, new = post_fields("a", 1), post_fields("a", 2)
        await store.write(build, [write(new, 8), write(old, 7)])
        assert (await served(store, build))["a"] == new
        await store.write(build, [gone(new, 9), write(new, 8)])
        assert await served(store, build) == {}


async def test_a_document_that_does_not_fit_is_refused_and_the_others_are_taken(
    postgres_url: str, search_url: str
) -> None:
    async with searching(postgres_url, search_url) as world:
        store = OpenSearchStore(world.client, POSTS, patience_seconds=0.2)
        build = await store.begin(dict.fromkeys(POSTS.partitions, 0), 0)
        good, unknown = post_fields("a", 1), {**post_fields("b", 1), "color": "red"}
        wrong = {**post_fields("c", 1), "likes": "many"}
        refused = await store.write(build, [write(one, 1) for one in (good, unknown, wrong)])
        assert [one.id for one in refused] == ["b", "c"]
        assert "color" in refused[0].error
        assert "likes" in refused[1].error
        assert await served(store, build) == {"a": good}
        # When nothing at all is taken, the documents are not to blame.
        many = [write({**unknown, "postId": str(number)}, 1) for number in range(30)]
        with pytest.raises(SearchUnavailable):
            await store.write(build, many)


def post_fields(post_id: str, likes: int) -> dict[str, Any]:
    return {"postId": post_id, "createdAt": 1_790_000_000_000, "likes": likes, "tags": ["x"]}


def write(fields: dict[str, Any], version: int) -> Write:
    moment = datetime.fromtimestamp(fields["createdAt"] / 1000, UTC)
    return Write(fields["postId"], moment, version, encode(fields))


def gone(fields: dict[str, Any], version: int) -> Write:
    moment = datetime.fromtimestamp(fields["createdAt"] / 1000, UTC)
    return Write(fields["postId"], moment, version, None)


async def served(store: OpenSearchStore, build: int) -> dict[str, Any]:
    await store.refresh(build)
    return {one.id: one.fields async for page in store.by_id(build) for one in page}


class Picky(OpenSearchStore):
    """Takes everything, but refuses some ids for as long as they are in `refused`."""

    def __init__(self, client: AsyncOpenSearch, index: SearchIndex) -> None:
        super().__init__(client, index)
        self.refused: frozenset[str] = frozenset()
        self.written: list[list[str]] = []

    async def write(self, build: int, writes: Sequence[Write]) -> Sequence[Refused]:
        self.written.append([one.id for one in writes])
        kept = [one for one in writes if one.id not in self.refused]
        await super().write(build, kept)
        return [
            Refused(one.id, "mapper_parsing_exception: no") for one in writes if one not in kept
        ]


async def test_a_refused_document_is_set_aside_until_it_is_taken(
    postgres_url: str, osmem_server: str
) -> None:
    async with searching(postgres_url, osmem_server) as world:
        square = world.square
        store = Picky(world.client, POSTS)
        await world.start("search_posts", store=store)
        anna = await square.member("anna")
        await world.apply()
        await world.settle()
        bad, good = await square.post(anna, "bad"), await square.post(anna, "good")
        store.refused = frozenset({bad})
        await world.apply()
        await world.settle()
        assert list(await world.found("search_posts")) == [good]
        assert await letters(world) == [(bad, "parked", "mapper_parsing_exception: no")]
        settings = Settings(postgres_url=postgres_url, opensearch_url=osmem_server)
        assert await SearchKeeper(settings, SEARCH_POSTS).retry(bad) == ""
        assert set(await world.found("search_posts")) == {bad, good}
        assert [status for _, status, _ in await letters(world)] == ["retried"]

        # What an event touches again is tried again by itself.
        store.refused = frozenset({good})
        await square.like(anna, good)
        await world.apply()
        await world.settle()
        assert [status for _, status, _ in await letters(world)] == ["retried", "parked"]
        store.refused = frozenset()
        await square.unlike(anna, good)
        await world.apply()
        await world.settle()
        assert [status for _, status, _ in await letters(world)] == ["retried", "retried"]


async def letters(world: Searching) -> list[tuple[str, str, str]]:
    return [
        (letter.key, letter.status, letter.error)
        for letter in await world.square.tables.dead_letters()
    ]


async def test_a_hot_post_is_written_once_in_a_while_and_a_deletion_at_once(
    postgres_url: str, osmem_server: str
) -> None:
    pace = Pace(0.01, 0.5, 2.0, 0.02, 0.1)
    async with searching(postgres_url, osmem_server, pace=pace) as world:
        square = world.square
        store = Picky(world.client, POSTS)
        await world.start("search_posts", store=store)
        anna, fans = await square.member("anna"), [await square.member(f"f{n}") for n in range(30)]
        post = await square.post(anna, "hot")
        await world.apply()
        await world.settle()
        before, began = len(store.written), time.monotonic()
        for fan in fans:
            await square.like(fan, post)
            await world.apply()
            await asyncio.sleep(0.01)
        await world.settle()
        written = [ids for ids in store.written[before:] if post in ids]
        assert 1 <= len(written) <= (time.monotonic() - began) / pace.window_seconds + 1
        assert (await world.found("search_posts"))[post]["likes"] == 30
        await square.unlike(fans[0], post)
        await square.delete(post)
        began = time.monotonic()
        await world.apply()
        while await world.found("search_posts"):
            assert time.monotonic() < began + 60
            await asyncio.sleep(0.01)


async def test_what_a_document_shows_already_is_not_written_again(
    postgres_url: str, osmem_server: str
) -> None:
    async with searching(postgres_url, osmem_server) as world:
        square = world.square
        store = Picky(world.client, POSTS)
        await world.start("search_posts", store=store)
        anna, fans = await square.member("anna"), [await square.member(f"f{n}") for n in range(9)]
        post = await square.post(anna, "hot")
        await world.apply()
        await world.settle()
        late = []
        for fan in fans:
            await square.like(fan, post)
            await world.apply(hand_over=False)
            late.append(await world.frames_after(square.applied - 1))
        indexing = world.indexing["search_posts"]
        await indexing.apply(late[0])
        await comes_to_hold(lambda: world.is_the_fold("search_posts"))
        # The tables had all of them when the document was read for the first.
        before = len([ids for ids in store.written if post in ids])
        for frames in late[1:]:
            await indexing.apply(frames)
        await world.settle()
        assert len([ids for ids in store.written if post in ids]) == before
        await square.unlike(fans[0], post)
        await world.apply()
        await world.settle()
        assert (await world.found("search_posts"))[post]["likes"] == len(fans) - 1


class Worn(Picky):
    """Wants everything to be written anew, once."""

    is_worn = False

    def worn(self, documents: int) -> bool:
        return self.is_worn and documents >= 0

    def renewed(self) -> None:
        self.is_worn = False


async def test_a_worn_server_is_given_everything_anew_while_events_go_on(
    postgres_url: str, osmem_server: str
) -> None:
    async with searching(postgres_url, osmem_server) as world:
        store = Worn(world.client, POSTS)
        await happen(world.square, random.Random(7), 30)
        await world.apply()
        await world.start("search_posts", store=store)
        await world.settle()
        before, there = len(store.written), set(await world.found("search_posts"))
        store.is_worn = True
        await happen(world.square, random.Random(8), 30)
        await world.apply()
        await waiting.until(lambda: not store.is_worn)
        await world.settle()
        await assert_is_the_fold(world)
        assert there & set(await world.found("search_posts")) <= {
            one for ids in store.written[before:] for one in ids
        }


class Halting(OpenSearchStore):
    """Writes nothing while `goes` is clear."""

    def __init__(self, client: AsyncOpenSearch, index: SearchIndex) -> None:
        super().__init__(client, index)
        self.goes = asyncio.Event()
        self.goes.set()
        self.halted = 0

    async def write(self, build: int, writes: Sequence[Write]) -> Sequence[Refused]:
        self.halted += not self.goes.is_set()
        await self.goes.wait()
        return await super().write(build, writes)


async def test_a_server_that_lost_everything_is_filled_again(
    postgres_url: str, search_url: str
) -> None:
    async with searching(postgres_url, search_url) as world:
        store = Halting(world.client, POSTS)
        await happen(world.square, random.Random(5), 30)
        await world.apply()
        await world.start("search_posts", store=store)
        await world.start("search_members")
        await world.settle()
        store.goes.clear()
        await empty(world.client)
        await world.square.post(await world.square.member("late"), "later")
        await world.apply()
        await waiting.until(lambda: store.halted)
        reads = search_reads(Settings(opensearch_url=search_url))
        assert (await reads.state("posts")).filled < 1
        store.goes.set()
        await comes_to_hold(lambda: world.is_the_fold(*SOCIAL_NAMES))
        assert (await reads.state("posts")).complete
        await reads.close()


async def test_a_dead_server_holds_nothing_up_and_is_caught_up_with(
    postgres_url: str, tmp_path: Path
) -> None:
    port = free_port()
    server, url = start_osmem(tmp_path, port)
    async with searching(postgres_url, url) as world:
        await world.start("search_posts")
        anna = await world.square.member("anna")
        await world.square.post(anna, "before")
        await world.apply()
        await world.settle()
        server.stop()
        one = world.indexing["search_posts"]
        for number in range(8):
            await world.square.post(anna, f"meanwhile {number}")
            frames = await frames_after_apply(world)
            with pytest.raises(StopIteration):
                # It has been noted before anything could be waited for.
                one.apply(frames).send(None)
        assert one.delay(time.time()) > 0
        assert one.put_off()
        server, _ = start_osmem(tmp_path, port)
        try:
            await comes_to_hold(lambda: world.is_the_fold("search_posts"))
            await comes_to_hold(lambda: caught_up(world))
        finally:
            server.stop()


async def frames_after_apply(world: Searching) -> Any:
    await world.square.apply()
    frames = await world.frames()
    world.handed = world.square.applied
    return frames


async def caught_up(world: Searching) -> bool:
    one = world.indexing["search_posts"]
    return not one.put_off() and one.delay(time.time()) == 0


async def test_the_delay_is_that_of_the_oldest_event_that_is_not_shown(
    postgres_url: str, search_url: str
) -> None:
    async with searching(postgres_url, search_url, pace=Pace(0.01, 3_600.0, 3.0, 0.02, 0.1)) as w:
        await w.start("search_posts")
        one, anna = w.indexing["search_posts"], await w.square.member("anna")
        first, second = [await w.square.post(anna, "liked") for _ in range(2)]
        await w.apply()
        await w.settle()
        await w.square.like(anna, first)
        await w.square.like(anna, second)
        await w.apply()
        liked = [recorded.recorded_at.timestamp() for recorded in w.square.history[-2:]]
        # Their numbers wait for an hour, but the first is written at once for its end.
        await w.square.delete(first)
        await w.apply()
        await until_equal(lambda: one.delay(liked[1]), 0.0)
        assert one.delay(liked[1] + 5) == pytest.approx(5)


async def until_equal(ask: Any, wanted: Any) -> None:
    async def holds() -> bool:
        return bool(ask() == wanted)

    await comes_to_hold(holds)


async def test_an_erased_members_documents_go_at_once(postgres_url: str, search_url: str) -> None:
    async with searching(postgres_url, search_url) as world:
        square = world.square
        await world.start(*SOCIAL_NAMES)
        anna, ben = await square.member("anna"), await square.member("ben")
        posts = [await square.post(anna, f"secret {number}") for number in range(3)]
        await square.post(ben, "open")
        await world.apply()
        await world.settle()
        await square.erase(anna)
        # What others do with the posts of who was erased brings nothing back.
        await square.like(ben, posts[0])
        await world.apply()
        await world.settle()
        assert [one["author"] for one in (await world.found("search_posts")).values()] == ["ben"]
        assert list(await world.found("search_members")) == [ben]


async def test_posts_are_sliced_by_month_under_one_alias(
    postgres_url: str, search_url: str
) -> None:
    async with searching(postgres_url, search_url) as world:
        square = world.square
        await world.start("search_posts")
        anna = await square.member("anna")
        moments = [square.now, square.now - timedelta(days=70), square.now - timedelta(days=9000)]
        for moment in moments:
            event = square.published(anna, "hello")
            event = type(event)(**{**fields(event), "created_at": moment})
            await square.record(f"post:{event.post_id}", event)
        await world.apply()
        await world.settle()
        await assert_is_the_fold(world)
        slices = set(await world.client.indices.get_alias(name="plaza-posts"))
        named = {f"plaza-posts-b1-{moment:%Y-%m}" for moment in moments[:2]}
        assert slices >= {*named, "plaza-posts-b1-earlier"}


def fields(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


async def test_an_address_may_hold_a_password(osmem_server: str) -> None:
    client = search_client(osmem_server.replace("://", "://plaza:p%40ss@"))
    try:
        assert (await client.info())["version"]["distribution"] == "opensearch"
        (connection,) = client.transport.connection_pool.connections
        assert connection.headers["authorization"] == "Basic " + b64encode(b"plaza:p@ss").decode()
    finally:
        await client.close()


def test_every_index_has_a_projection_of_its_name() -> None:
    assert {name: one.index.name for name, one in SEARCH.items()} == {n: n for n in SEARCH}
    assert SEARCH_MEMBERS.index.name == "search_members"
