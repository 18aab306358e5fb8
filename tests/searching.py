"""A square whose documents are kept in a search server, and what they must be by another fold."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from opensearchpy import AsyncOpenSearch, NotFoundError
from opensearchpy import ConnectionError as OpenSearchConnectionError
from prometheus_client import CollectorRegistry

from domain.commerce.product import events as product
from domain.commerce.shop.events import ShopOpened
from domain.commerce.stock import events as stock
from domain.shared.identifiers import EPOCH_MS, RANDOM_BITS, id_number
from domain.shared.personal import Personal
from domain.shared.text import hashtags, mentions
from domain.social.engagement import events as engagement
from domain.social.member import events as member
from domain.social.post import events as post
from domain.social.relation import events as relation
from infra.adapters.search.opensearch_index import OpenSearchStore
from infra.adapters.search.postgres_documents import pairs
from infra.adapters.search.search_client import search_client
from infra.adapters.search.text_analysis import analysed, prefix_words, tokens
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.composition.services.search_indexing import alone, keeping
from infra.composition.settings import Settings
from infra.formats.codec import open_event
from infra.ports.frames import Frame
from infra.ports.log import Recorded
from infra.ports.search import SearchProjection, SearchStore
from infra.ports.search_documents import MEMBERS, POSTS, PRODUCTS
from infra.runtime.frames.frames import frames_between
from infra.runtime.indexing.search_indexing import Pace, SearchIndexing, SearchMetrics
from projections.search import SEARCH
from tests.square import Square
from tests.waiting import PATIENCE_SECONDS

QUICK = Pace(0.01, 0.05, 0.2, 0.02, 0.1)

TEXTS = (
    "Running in the rain #München @anna",
    "Los zapatos nuevos me encantan #Moda #moda",
    "今日は東京タワーに行きました",
    "J'ai mangé des crêpes avec @ben",
    "Die Häuser in #München sind sehr alt",
    "nothing at all :-)",
)

Documents = dict[str, dict[str, Any]]


@dataclass
class Searching:
    """The keepers of some indices over one square; frames go to all of them."""

    square: Square
    url: str
    client: AsyncOpenSearch
    stack: contextlib.AsyncExitStack
    pace: Pace = QUICK
    indexing: dict[str, SearchIndexing] = field(default_factory=dict)
    stores: dict[str, SearchStore] = field(default_factory=dict)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    handed: int = 0

    async def start(self, *names: str, store: SearchStore | None = None) -> None:
        """Begin to keep these indices, as a worker that has just started."""
        metrics = SearchMetrics(CollectorRegistry())
        for name in names or SEARCH:
            await self._start(SEARCH[name], metrics, store)

    async def _start(
        self, projection: SearchProjection, metrics: SearchMetrics, store: SearchStore | None
    ) -> None:
        name, url = projection.name, self.square.url
        keyring = await PostgresKeyring.connect(url)
        self.stack.push_async_callback(keyring.close)
        settings = Settings(postgres_url=url, opensearch_url=self.url)
        kept = await keeping(
            settings,
            projection,
            store or OpenSearchStore(self.client, projection.index, patience_seconds=0.5),
            self.square.log,
            keyring,
            self.stack,
            metrics,
            self.pace,
        )
        self.stores[name], self.indexing[name] = kept.store, kept.indexing
        self.tasks[name] = asyncio.create_task(self.indexing[name].run())
        # Before what it uses is closed.
        self.stack.push_async_callback(self.stop, name)

    async def stop(self, *names: str) -> None:
        """End them at whatever they are doing, as a process that is killed."""
        for name in names or list(self.tasks):
            if (task := self.tasks.pop(name, None)) is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def apply(self, *, hand_over: bool = True) -> None:
        """Fold what has happened into the tables, and hand its frames to the indices."""
        await self.square.apply()
        if hand_over:
            for one in self.indexing.values():
                await one.apply(await self.frames())
        self.handed = self.square.applied

    async def frames(self) -> list[Frame]:
        return await self.frames_after(self.handed)

    async def frames_after(self, position: int) -> list[Frame]:
        lines = await self.square.log.read_lines(position, 100_000)
        return frames_between(position, self.square.applied, lines, range(16))

    async def settle(self, *names: str) -> None:
        """Until everything that has been folded can be found."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        for name in names or list(self.indexing):
            while not await self._is_settled(name):
                assert time.monotonic() < deadline, f"{name} does not get there"
                await asyncio.sleep(0.02)

    async def _is_settled(self, name: str) -> bool:
        one = self.indexing[name]
        return one.filled == 1.0 and one.shows(self.square.applied)

    async def nobody_fills(self, name: str) -> None:
        """Until a rebuild may begin: who has filled an index lets go of it after it is filled."""
        settings = Settings(postgres_url=self.square.url)

        async def free() -> bool:
            async with alone(settings, name)() as first:
                return first

        await comes_to_hold(free)

    async def found(self, name: str) -> Documents:
        """All documents that readers can find."""
        index = SEARCH[name].index
        await self.client.indices.refresh(index=index.alias)
        body = {"size": 10_000, "query": {"match_all": {}}}
        answer = await self.client.search(index=index.alias, body=body)
        return {hit["_id"]: hit["_source"] for hit in answer["hits"]["hits"]}

    async def is_the_fold(self, *names: str) -> bool:
        """Whether readers find now what they must."""
        try:
            return all([await self.found(name) == await self.expected(name) for name in names])
        except (NotFoundError, OpenSearchConnectionError):
            return False

    async def expected(self, name: str) -> Documents:
        return oracle(name, self.square.history, self.square.keyring)


@contextlib.asynccontextmanager
async def searching(
    postgres_url: str, search_url: str, *, pace: Pace = QUICK
) -> AsyncIterator[Searching]:
    """A new square over an empty search server; nothing keeps an index yet."""
    client = search_client(search_url)
    square = await Square.open(postgres_url, commerce=True)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        stack.push_async_callback(square.close)
        await empty(client)
        world = Searching(square, search_url, client, stack, pace)
        yield world


async def empty(client: AsyncOpenSearch) -> None:
    """Take everything of ours out of a search server, as its loss would."""
    for name in list(await client.indices.get_alias(index="plaza-*")):
        await client.indices.delete(index=name, ignore_unavailable=True)
    for alias in (POSTS.alias, MEMBERS.alias, PRODUCTS.alias, "plaza-search-progress"):
        await client.indices.delete_index_template(name=alias, ignore=404)


async def happen(square: Square, chance: random.Random, times: int) -> None:
    """So many things, as members and shops do them."""
    members = [await square.member(f"m_{chance.randrange(10**9)}") for _ in range(6)]
    posts: list[str] = []
    gone: set[str] = set()
    liked: set[tuple[str, str]] = set()
    followed: set[tuple[str, str]] = set()
    for _ in range(times):
        who, other = chance.sample(members, 2)
        kind = chance.choice(["post", "post", "reply", "like", "follow", "rename", "delete"])
        standing = [one for one in posts if one not in gone]
        post = chance.choice(standing) if standing else ""
        if kind == "post" or not post:
            posts.append(await square.post(who, chance.choice(TEXTS)))
        elif kind == "reply":
            posts.append(await square.reply(who, post, chance.choice(TEXTS)))
        elif kind == "like":
            await (square.unlike if (who, post) in liked else square.like)(who, post)
            liked ^= {(who, post)}
        elif kind == "follow":
            await (square.unfollow if (who, other) in followed else square.follow)(who, other)
            followed ^= {(who, other)}
        elif kind == "rename":
            await square.rename(who, f"{chance.choice(('Änna', 'Łukasz', '東京'))} {who[:4]}")
        else:
            gone.add(post)
            await square.delete(post)
    await square.erase(members[0])


async def comes_to_hold(holds: Callable[[], Awaitable[object]]) -> None:
    """`tests.waiting.until` for what has to be asked of a server."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def assert_is_the_fold(world: Searching, *names: str) -> None:
    for name in names or list(world.indexing):
        assert await world.found(name) == await world.expected(name), name


# What the documents must be: folded event by event, in memory, from what was written.


@dataclass
class _State:
    names: dict[str, str] = field(default_factory=dict)
    members: Documents = field(default_factory=dict)
    posts: Documents = field(default_factory=dict)
    shops: dict[str, str] = field(default_factory=dict)
    products: Documents = field(default_factory=dict)
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    followers: dict[str, int] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


def oracle(name: str, history: Sequence[Recorded], keyring: PostgresKeyring) -> Documents:
    state = _State()
    for recorded in sorted(history, key=lambda one: one.position):
        step(state, recorded, keyring)
    if name == POSTS.name:
        none = {"likes": 0, "reposts": 0, "replies": 0}
        return {
            key: {**one, **none, **state.counts.get(key, {})} for key, one in state.posts.items()
        }
    if name == MEMBERS.name:
        followers = state.followers
        return {
            key: {**one, "followers": followers.get(key, 0)} for key, one in state.members.items()
        }
    return {
        key: {**one, "available": state.units.get(key, 0) > 0}
        for key, one in state.products.items()
        if key not in state.withdrawn
    }


def step(state: _State, recorded: Recorded, keyring: PostgresKeyring) -> None:  # noqa: C901, PLR0912
    event: Any = recorded.event
    match event:
        case member.MemberRegistered() | member.ProfileChanged():
            profile(state, recorded, event, keyring)
        case member.MemberErased():
            state.members.pop(event.member_id, None)
            written = [k for k, p in state.posts.items() if p["authorId"] == event.member_id]
            for key in written:
                del state.posts[key]
        case post.PostPublished():
            if event.reply_to is not None:
                count(state, event.reply_to.post_id, "replies", 1)
            publish(state, recorded, event, keyring)
        case post.PostDeleted():
            if event.reply_to is not None:
                count(state, event.reply_to.post_id, "replies", -1)
            state.posts.pop(event.post_id, None)
        case engagement.PostLiked():
            count(state, event.post_id, "likes", 1)
        case engagement.PostUnliked():
            count(state, event.post_id, "likes", -1)
        case engagement.PostReposted():
            count(state, event.post_id, "reposts", 1)
        case engagement.RepostRemoved():
            count(state, event.post_id, "reposts", -1)
        case relation.Followed():
            state.followers[event.followee_id] = state.followers.get(event.followee_id, 0) + 1
        case relation.Unfollowed():
            state.followers[event.followee_id] -= 1
        case ShopOpened():
            state.shops[event.shop_id] = open_event(event, keyring).name.value or ""
        case product.ProductListed():
            sell(state, recorded.position, readable(event, keyring))
        case product.ProductDescribed() | product.PriceChanged():
            changed = {k: v for k, v in readable(event, keyring).items() if v is not None}
            before = state.listed[event.product_id]
            sell(state, state.products[event.product_id]["position"], {**before, **changed})
        case product.ProductWithdrawn():
            state.withdrawn.add(event.product_id)
        case product.ProductOffered():
            state.withdrawn.discard(event.product_id)
        case stock.StockReceived() | stock.ReservationReleased() | stock.ReservationExpired():
            state.units[event.product_id] = state.units.get(event.product_id, 0) + event.quantity
        case stock.StockReserved():
            state.units[event.product_id] -= event.quantity


def count(state: _State, post_id: str, what: str, more: int) -> None:
    counts = state.counts.setdefault(post_id, {})
    counts[what] = counts.get(what, 0) + more


def profile(state: _State, recorded: Recorded, event: Any, keyring: PostgresKeyring) -> None:
    def opened(text: Any) -> str | None:
        return keyring.open(event.member_id, text.sealed) if text is not None else None

    key = event.member_id
    if isinstance(event, member.MemberRegistered):
        username = opened(event.username)
        if username is None:
            return
        state.names[key] = username
        state.members[key] = {
            "memberId": key,
            "username": username.lower(),
            "createdAt": round(event.created_at.timestamp() * 1000),
            "position": recorded.position,
        }
    if key not in state.members:
        return
    kept = state.members[key]
    if (name := opened(event.display_name)) is not None:
        kept["displayName"] = " ".join(tokens(name))
        kept["words"] = list(prefix_words(state.names[key], name))
    if (bio := opened(event.bio)) is not None:
        kept["bio"] = " ".join(tokens(bio))


def publish(
    state: _State, recorded: Recorded, event: post.PostPublished, keyring: PostgresKeyring
) -> None:
    text = keyring.open(event.author_id, event.content.sealed)
    if text is None or event.author_id not in state.members:
        return
    language, plain, stemmed = analysed(text)
    state.posts[event.post_id] = {
        "postId": event.post_id,
        "authorId": event.author_id,
        "author": state.names[event.author_id].lower(),
        "createdAt": round(event.created_at.timestamp() * 1000),
        "position": recorded.position,
        "language": language,
        "text": " ".join(plain),
        "stemmed": " ".join(stemmed),
        "tags": list(hashtags(text)),
        "mentions": list(mentions(text)),
    }


def readable(event: Any, keyring: PostgresKeyring) -> dict[str, Any]:
    """An event's fields, with what is personal open."""
    fields = msgspec.structs.asdict(open_event(event, keyring))
    return {k: v.value if isinstance(v, Personal) else v for k, v in fields.items()}


def sell(state: _State, position: int, listed: Mapping[str, Any]) -> None:
    key = listed["product_id"]
    state.listed[key] = dict(listed)
    language, _, stemmed = analysed(f"{listed['title']}\n{listed['description']}")
    state.products[key] = {
        "productId": key,
        "shopId": listed["shop_id"],
        "sellerId": listed["seller_id"],
        "seller": state.shops[listed["shop_id"]],
        "shopWords": " ".join(tokens(state.shops[listed["shop_id"]])),
        "language": language,
        "title": " ".join(tokens(listed["title"])),
        "description": " ".join(tokens(listed["description"])),
        "stemmed": " ".join(stemmed),
        "words": list(prefix_words(listed["title"])),
        "category": listed["category"],
        "price": listed["price"].value,
        "currency": listed["price"].currency,
        "attributes": pairs(listed["attributes"]),
        "createdAt": (id_number(key) >> RANDOM_BITS) + EPOCH_MS,
        "position": position,
    }
