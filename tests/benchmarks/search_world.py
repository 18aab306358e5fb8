"""Many posts, members and products in read tables and in OpenSearch, for the benchmarks of search.

Rows and documents are written directly, as the projections and the index would have left them, so
that a million of them are there in minutes. What is asked then goes through a real query service.
"""

import asyncio
import contextlib
import http.client
import itertools
import math
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
import psycopg
from opensearchpy import OpenSearch

from domain.shared.identifiers import id_number, make_id
from infra.adapters.reads.postgres_reads import set_search_path
from infra.adapters.search.opensearch_index import OpenSearchStore
from infra.adapters.search.search_client import search_client
from infra.composition.settings import Settings
from infra.ports.log import OPEN
from infra.ports.search import Write
from infra.ports.search_documents import (
    MEMBERS,
    POSTS,
    PRODUCTS,
    Document,
    MemberDocument,
    PostDocument,
    ProductDocument,
    SearchIndex,
)
from infra.runtime.indexing.search_filling import encode
from infra.servers.opensearch import start_opensearch
from infra.servers.postgres import start_postgres
from infra.servers.valkey import start_valkey
from tests.benchmarks.feed_world import Served, serve_feeds, served
from tests.benchmarks.harness import Result
from tests.square import Square

ROWS_AT_ONCE = 5_000
AUTHORS = 1_000
SHOPS = 50
DAYS = 60
VOCABULARY = 30_000
COMMONEST = 30
"""So many words of the vocabulary are in nearly every text, and nobody looks for them."""

REQUEST_SECONDS = 120.0
SYLLABLES = [
    "ba",
    "co",
    "di",
    "fu",
    "ga",
    "he",
    "lo",
    "mi",
    "no",
    "pe",
    "ra",
    "si",
    "tu",
    "ve",
    "zo",
]

Row = tuple[Any, ...]
Fill = Callable[["SearchWorld", Square, int], Awaitable[None]]


@dataclass
class SearchWorld:
    """What there is, and who asks: one member who has blocked and muted some authors."""

    settings: Settings
    chance: random.Random
    vocabulary: Sequence[str]
    weights: Sequence[float]
    now: datetime
    authors: Sequence[str] = ()
    token: str = ""

    @classmethod
    def new(cls, settings: Settings) -> "SearchWorld":
        chance = random.Random(1)
        made = {
            "".join(chance.choices(SYLLABLES, k=chance.randint(2, 5))) for _ in range(VOCABULARY)
        }
        weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(len(made))))
        now = datetime.now(UTC).replace(microsecond=0)
        return cls(settings, chance, sorted(made, key=lambda _: chance.random()), weights, now)

    def words(self, count: int) -> list[str]:
        """Words as often as they come in what people write."""
        return self.chance.choices(self.vocabulary, cum_weights=self.weights, k=count)

    def question(self, words_max: int) -> str:
        """One word to a few out of one text, none of those that are everywhere."""
        common = set(self.vocabulary[:COMMONEST])
        while True:
            said = list(dict.fromkeys(word for word in self.words(20) if word not in common))
            if len(said) >= words_max:
                return " ".join(said[: self.chance.randint(1, words_max)])


@contextlib.contextmanager
def stores() -> Iterator[Settings]:
    """Empty stores with OpenSearch. Raises `JavaMissing`."""
    with (
        tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder,
        contextlib.ExitStack() as stack,
    ):
        Path(folder).chmod(0o755)
        opensearch, search_url = start_opensearch(Path(folder, "opensearch"), os.environ)
        stack.callback(opensearch.stop)
        postgres, url = start_postgres(Path(folder, "postgres"))
        stack.callback(postgres.stop)
        valkey, redis_url = start_valkey(Path(folder, "valkey"))
        stack.callback(valkey.stop)
        yield Settings(
            postgres_url=url,
            redis_url=redis_url,
            opensearch_url=search_url,
            query_api_port=0,
            # Answers that were kept would be measured, else.
            search_cache_seconds=0.0,
        )


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[SearchWorld, Square]]:
    """A world with authors and a reader, and nothing to find in it yet."""
    world = SearchWorld.new(settings)
    square = await Square.open(settings.postgres_url, commerce=True)
    try:
        world.authors = [await square.member(f"author_{number}") for number in range(AUTHORS)]
        reader = await square.member("reader")
        for number, author in enumerate(world.authors[:40]):
            await square.hide(reader, author, "block" if number % 2 else "mute")
            await square.follow(reader, world.authors[-1 - number])
        await square.apply()
        world.token = square.tokens.sign(square.session(reader))
        yield world, square
    finally:
        await square.close()


async def made(settings: Settings, *parts: tuple[Fill, int]) -> SearchWorld:
    """A world with so many of each of these."""
    async with opened(settings) as (world, square):
        for write, count in parts:
            await write(world, square, count)
    return world


# Writing.


class Rows(NamedTuple):
    """What a document's read models hold, as rows of one table."""

    table: str
    columns: str
    row_of: Callable[[Any], Row]


async def filled(
    world: SearchWorld, index: SearchIndex, documents: Iterable[Document], tables: Sequence[Rows]
) -> None:
    """Write these documents into a build that is then served, and their rows into the tables."""
    client = search_client(world.settings.opensearch_url, REQUEST_SECONDS)
    store = OpenSearchStore(client, index, patience_seconds=REQUEST_SECONDS)
    connection = await psycopg.AsyncConnection.connect(world.settings.postgres_url, autocommit=True)
    async with connection:
        await set_search_path(connection)
        build = await store.begin(dict.fromkeys(index.partitions, 0), 0)
        for chunk in chunked(documents, ROWS_AT_ONCE):
            writing = asyncio.create_task(store.write(build, [written(one) for one in chunk]))
            # The tables are written while the search server indexes.
            for rows in tables:
                copying = f"COPY {rows.table} ({rows.columns}) FROM STDIN"
                async with connection.cursor() as cursor, cursor.copy(copying) as copy:
                    for one in chunk:
                        await copy.write_row(rows.row_of(one))
            assert not await writing
        for rows in tables:
            await connection.execute(f"ANALYZE {rows.table}")
        await store.filled(build, "complete", 0, 0)
        await store.serve(build)
        await client.indices.forcemerge(index=index.every_build, max_num_segments=1)
        await store.refresh(build)
    await client.close()


def written(document: Document) -> Write:
    return Write(document.id, moment(document.created_at), 1, encode(document))


def moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def chunked(found: Iterable[Document], size: int) -> Iterator[list[Document]]:
    rest = iter(found)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk


async def posts_written(world: SearchWorld, square: Square, count: int) -> None:
    """Posts of the last sixty days, some of them liked by many."""
    await square.keyring.fetch(world.authors)
    positions = itertools.count(square.applied + 1)

    def row_of(post: PostDocument) -> Row:
        sealed = square.keyring.seal(post.author_id, post.text)
        numbers = id_number(post.post_id), id_number(post.author_id)
        return next(positions), OPEN, *numbers, moment(post.created_at), sealed, None, [], False

    columns = (
        "position, until, post_id, author_id, created_at, content, media_urls, product_ids,"
        " continues_thread"
    )
    await filled(world, POSTS, made_posts(world, count), [Rows("posts", columns, row_of)])


def made_posts(world: SearchWorld, count: int) -> Iterator[PostDocument]:
    chance, step = world.chance, timedelta(days=DAYS) / count
    for number in range(count):
        at = round((world.now - step * (count - number)).timestamp() * 1000)
        text = " ".join(world.words(chance.randint(4, 24)))
        yield PostDocument(
            post_id=make_id(at, number % 2**20),
            author_id=chance.choice(world.authors),
            author="author",
            created_at=at,
            position=number,
            language="und",
            text=text,
            stemmed=text,
            tags=[],
            mentions=[],
            likes=int(chance.paretovariate(1)) - 1,
            reposts=0,
            replies=0,
        )


async def members_written(world: SearchWorld, square: Square, count: int) -> None:
    """Members with names of two words, some of them followed by many."""
    person = world.authors[0]
    await square.keyring.fetch([person])
    sealed = square.keyring.seal(person, "a name")

    def row_of(member: MemberDocument) -> Row:
        number = id_number(member.member_id)
        return 1, OPEN, number, sealed, sealed, sealed, False, world.now, False

    def count_of(member: MemberDocument) -> Row:
        return id_number(member.member_id), member.followers, 0, 1

    columns = (
        "since, until, member_id, username, display_name, bio, is_verified, created_at, erased"
    )
    tables = [
        Rows("members", columns, row_of),
        Rows("member_counts", "member_id, followers, following, position", count_of),
    ]
    await filled(world, MEMBERS, made_members(world, count), tables)


def made_members(world: SearchWorld, count: int) -> Iterator[MemberDocument]:
    chance = world.chance
    for number in range(count):
        at = round(world.now.timestamp() * 1000) - count + number
        names = [*world.words(2), f"{chance.choice(world.vocabulary)}_{number}"]
        yield MemberDocument(
            member_id=make_id(at, number % 2**20),
            username=names[-1],
            display_name=" ".join(names[:2]),
            words=[*names, *names[-1].split("_")],
            bio="",
            followers=int(chance.paretovariate(0.8)) - 1,
            created_at=at,
            position=number,
        )


async def products_written(world: SearchWorld, square: Square, count: int) -> None:
    """Products of fifty shops in thirty categories, half of them with attributes."""
    shops = [make_id(round(world.now.timestamp() * 1000), number) for number in range(SHOPS)]
    await square.keyring.create_many(shops)
    await square.keyring.fetch(shops)

    def row_of(product: ProductDocument) -> Row:
        seller = product.seller_id
        numbers = [id_number(one) for one in (product.product_id, product.shop_id, seller)]
        texts = [square.keyring.seal(seller, one) for one in (product.title, product.description)]
        return 1, OPEN, *numbers, *texts, product.category, product.currency, product.price, True

    def available_of(product: ProductDocument) -> Row:
        return id_number(product.product_id), int(product.available), int(product.available), 1

    columns = (
        "since, until, product_id, shop_id, seller_id, title, description, category, currency,"
        " price, for_sale"
    )
    tables = [
        Rows("products", columns, row_of),
        Rows("availability", "product_id, available, on_hand, position", available_of),
    ]
    await filled(world, PRODUCTS, made_products(world, shops, count), tables)


def made_products(
    world: SearchWorld, shops: Sequence[str], count: int
) -> Iterator[ProductDocument]:
    chance = world.chance
    for number in range(count):
        at = round(world.now.timestamp() * 1000) - count + number
        title, description = world.words(3), world.words(25)
        shop = chance.randrange(SHOPS)
        yield ProductDocument(
            product_id=make_id(at, number % 2**20),
            shop_id=shops[shop],
            seller_id=shops[shop],
            seller=f"Shop {shop}",
            shop_words=f"shop {shop}",
            language="und",
            title=" ".join(title),
            description=" ".join(description),
            stemmed=" ".join([*title, *description]),
            words=title,
            category=f"Category {int(chance.paretovariate(1)) % 30}",
            price=int(chance.lognormvariate(8, 1)),
            currency="EUR",
            available=chance.random() < 0.7,
            attributes=[f"colour={chance.choice('rgbcmyk')}", f"size={chance.randrange(20)}"]
            if number % 2
            else [],
            created_at=at,
            position=number,
        )


# Asking.


@contextlib.contextmanager
def service(world: SearchWorld) -> Iterator["Asker"]:
    with served(serve_feeds, world.settings) as process:
        yield Asker(process, world.token)


class Asker:
    """Asks a service over one connection, in the reader's name."""

    def __init__(self, process: Served, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", process.port)
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str, **parameters: Any) -> Any:
        self._connection.request("GET", f"{path}?{urlencode(parameters)}", headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise AssertionError(f"{answer.status}: {body!r}")
        return msgspec.json.decode(body)


def bare(settings: Settings) -> OpenSearch:
    return OpenSearch([settings.opensearch_url], timeout=REQUEST_SECONDS, max_retries=0)


def milliseconds(ask: Callable[[], Any]) -> float:
    began = time.perf_counter()
    ask()
    return (time.perf_counter() - began) * 1000


def percentile(times: Sequence[float], part: float) -> float:
    return sorted(times)[min(len(times) - 1, math.ceil(len(times) * part) - 1)]


def beside(
    name: str, questions: Sequence[Any], ask: Callable[[Any], Any], probe: Callable[[Any], Any],
    rounds: int,
) -> Result:  # fmt: skip
    """The 95th percentile of ours beside that of the bare query, question by question in turns."""
    for question in questions[: len(questions) // 4]:
        ask(question)
        probe(question)
    values, probes = [], []
    for _ in range(rounds):
        ours, theirs = [], []
        for question in questions:
            theirs.append(milliseconds(partial(probe, question)))
            ours.append(milliseconds(partial(ask, question)))
        values.append(percentile(ours, 0.95))
        probes.append(percentile(theirs, 0.95))
    ratios = [theirs / ours for ours, theirs in zip(values, probes, strict=True)]
    return Result(
        name=name,
        value=median(values),
        unit="ms p95",
        probe=median(probes),
        ratio=median(ratios),
        target=1 / 1.5,
        spread=(min(ratios), max(ratios)),
    )


def at_most(name: str, unit: str, target: float, values: Sequence[float]) -> Result:
    """A figure without a probe."""
    return Result(
        name, median(values), unit, math.nan, math.nan, target, (min(values), max(values))
    )
