"""`ports.search.DocumentSource`: documents for search, made from the read tables in PostgreSQL.

Everything of one reading comes from one snapshot. Sealed texts are opened here, and cut into the
tokens that search compares; whoever was erased has no texts any more, whatever keys are in memory.
"""

import asyncio
import contextlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import msgspec
import psycopg

from domain.commerce.product.events import Attribute
from domain.shared.identifiers import EPOCH_MS, RANDOM_BITS, id_text
from domain.shared.text import hashtags, mentions
from infra.adapters.connections import connected
from infra.adapters.reads.postgres_reads import Connections, set_search_path
from infra.adapters.search import text_analysis
from infra.adapters.search.text_analysis import analysed, prefix_words, tokens
from infra.formats.personal_values import attributes_in
from infra.ports.log import OPEN
from infra.ports.search import Found, Read, SearchProjection
from infra.ports.search_documents import (
    ATTRIBUTE_LENGTH_MAX,
    MEMBERS,
    POSTS,
    PRODUCTS,
    MemberDocument,
    PostDocument,
    ProductDocument,
)
from infra.ports.secrets import Keyring
from infra.ports.tables import StoreUnavailable

CONNECTIONS_MAX = 2
ROWS_AT_ONCE = 1_000
MADE_AT_ONCE = 20
"""So many documents are made before whatever else waits in this process has its turn."""

LOOK_AGAIN_MAX = 5

# How far the tables are that are served, and whether they are those of the search path.
REACHED = """
SELECT c.partition, min(c.position), sum(c.position)::bigint, count(*),
       bool_and(current_schemas(false) @> ARRAY[(b.name || '_b' || b.build)::name])
FROM public.projection_builds b
JOIN public.checkpoints c ON c.projection = b.name AND c.build = b.build
WHERE b.name = ANY(%(reads)s) AND b.status = 'live' GROUP BY c.partition
"""

POST_ROWS = """
SELECT p.post_id, p.author_id, p.created_at, p.position, p.until < 9223372036854775807,
       coalesce(m.erased, true), m.username, p.content,
       coalesce(e.likes, 0), coalesce(e.reposts, 0), coalesce(r.replies, 0)
FROM posts p
LEFT JOIN members m ON m.member_id = p.author_id AND m.until = 9223372036854775807
LEFT JOIN engagement_counts e ON e.post_id = p.post_id
LEFT JOIN post_counts r ON r.post_id = p.post_id
"""

MEMBER_ROWS = """
SELECT m.member_id, m.created_at,
       (SELECT min(f.since) FROM members f WHERE f.member_id = m.member_id),
       m.erased, m.username, m.display_name, m.bio, coalesce(c.followers, 0)
FROM members m LEFT JOIN member_counts c ON c.member_id = m.member_id
"""

PRODUCT_ROWS = """
SELECT p.product_id, p.shop_id, p.seller_id, s.name,
       (SELECT min(f.since) FROM products f WHERE f.product_id = p.product_id),
       p.for_sale, p.category, p.price, p.currency, coalesce(a.available, 0) > 0,
       p.title, p.description, p.attributes
FROM products p
LEFT JOIN shops s ON s.shop_id = p.shop_id
LEFT JOIN availability a ON a.product_id = p.product_id
"""

OF_AUTHOR = """
SELECT post_id, position FROM posts WHERE author_id = %(author)s AND position < %(before)s
ORDER BY position DESC LIMIT %(limit)s
"""


@dataclass(frozen=True)
class Rows:
    """How the rows of an index are asked for: by their id, `key`, or all that are `held`."""

    select: str
    key: str
    held: str
    newest_first: str
    table: str


ROWS = {
    POSTS.name: Rows(
        POST_ROWS, "p.post_id", "p.until = 9223372036854775807", "p.position DESC", "posts p"
    ),
    MEMBERS.name: Rows(
        MEMBER_ROWS,
        "m.member_id",
        "m.until = 9223372036854775807 AND NOT m.erased",
        "m.member_id DESC",
        "members m",
    ),
    PRODUCTS.name: Rows(
        PRODUCT_ROWS,
        "p.product_id",
        "p.until = 9223372036854775807 AND p.for_sale",
        "p.product_id DESC",
        "products p",
    ),
}

# Of members and products the row that holds now says all; a post's row says that it has ended.
CURRENT = {
    POSTS.name: "true",
    MEMBERS.name: "m.until = 9223372036854775807",
    PRODUCTS.name: "p.until = 9223372036854775807",
}

T = TypeVar("T")
Row = Sequence[Any]
Connection = psycopg.AsyncConnection[Any]


class _Reached(NamedTuple):
    version: int
    checkpoints: Mapping[int, int]


class _PathMoved(Exception):
    """Other tables are served than this connection looks at."""


class PostgresDocuments:
    """The documents of one index."""

    def __init__(self, url: str, projection: SearchProjection, keyring: Keyring) -> None:
        self._url = url
        self._projection = projection
        self._rows = ROWS[projection.name]
        self._make = Makers(keyring).of(projection.name)
        self._keyring = keyring
        self._connections = Connections(url, CONNECTIONS_MAX)

    async def close(self) -> None:
        await self._connections.close()

    def forget(self, person_id: str) -> None:
        self._keyring.forget(person_id)

    async def checkpoints(self) -> Mapping[int, int]:
        async def ask(connection: Connection) -> Mapping[int, int]:
            return (await self._reached(connection)).checkpoints

        return await self._with_connection(ask)

    async def read(self, ids: Collection[int]) -> Read:
        current = CURRENT[self._projection.name]
        query = f"{self._rows.select} WHERE {self._rows.key} = ANY(%(ids)s) AND {current}"
        return await self._read(query, {"ids": list(ids)})

    async def following(self, after: int, count: int) -> Read:
        rows = self._rows
        query = (
            f"{rows.select} WHERE {rows.key} > %(after)s AND {rows.held}"
            f" ORDER BY {rows.key} LIMIT %(count)s"
        )
        return await self._read(query, {"after": after, "count": count})

    async def of_author(self, author_id: int) -> AsyncGenerator[Sequence[int], None]:
        before = OPEN
        while True:
            place = {"author": author_id, "before": before, "limit": ROWS_AT_ONCE}

            async def ask(
                connection: Connection, place: Mapping[str, Any] = place
            ) -> Sequence[Row]:
                return await fetched(connection, OF_AUTHOR, place)

            rows = await self._with_connection(ask)
            if rows:
                yield [post_id for post_id, _ in rows]
            if len(rows) < ROWS_AT_ONCE:
                return
            before = rows[-1][1]

    @contextlib.asynccontextmanager
    async def pinned(self) -> AsyncIterator["PinnedDocuments"]:
        """See `DocumentSource.pinned`. Holds a snapshot, and with it dead rows, until its end."""
        try:
            async with connected(self._url, "plaza-search-fill") as connection:
                await set_search_path(connection)
                async with snapshot(connection):
                    version, checkpoints = await self._reached(connection)
                    yield PinnedDocuments(connection, self._rows, self._made, version, checkpoints)
        except (psycopg.Error, OSError, _PathMoved) as error:
            raise StoreUnavailable(str(error)) from error

    async def _read(self, query: str, parameters: Mapping[str, Any]) -> Read:
        async def ask(connection: Connection) -> tuple[_Reached, Sequence[Row]]:
            async with snapshot(connection):
                reached = await self._reached(connection)
                rows = await fetched(connection, query, parameters)
            return reached, rows

        reached, rows = await self._with_connection(ask)
        return Read(reached.version, reached.checkpoints, await self._made(rows))

    async def _made(self, rows: Sequence[Row]) -> list[Found]:
        await self._make.prepare(rows)
        made: list[Found] = []
        for start in range(0, len(rows), MADE_AT_ONCE):
            made += [self._make.found(row) for row in rows[start : start + MADE_AT_ONCE]]
            await asyncio.sleep(0)
        return made

    async def _reached(self, connection: Connection) -> _Reached:
        reads = list(self._projection.reads)
        rows = await fetched(connection, REACHED, {"reads": reads})
        checkpoints: dict[int, int] = {}
        version = 0
        for partition, position, total, tables, on_path in rows:
            if not on_path:
                raise _PathMoved
            if tables == len(reads):
                checkpoints[partition] = position
            version += total
        if set(checkpoints) != set(self._projection.partitions):
            raise StoreUnavailable("the tables have not been made yet")
        return _Reached(version, checkpoints)

    async def _with_connection(self, ask: Callable[[Connection], Awaitable[T]]) -> T:
        """Ask, and ask again on a new connection where that one is dead or looks elsewhere."""
        for _ in range(LOOK_AGAIN_MAX):
            try:
                async with self._connections.take() as connection:
                    return await ask(connection)
            except (_PathMoved, psycopg.errors.UndefinedTable) as moved:
                problem = str(moved) or "other tables are being served"
            except (psycopg.OperationalError, OSError) as error:
                problem = str(error)
            await self._connections.renew()
        raise StoreUnavailable(problem)


class PinnedDocuments:
    """`infra.ports.search.Pinned` in one transaction."""

    def __init__(
        self,
        connection: Connection,
        rows: Rows,
        make: Callable[[Sequence[Row]], Any],
        version: int,
        checkpoints: Mapping[int, int],
    ) -> None:
        self.version = version
        self.checkpoints = checkpoints
        self._connection = connection
        self._rows = rows
        self._make = make

    async def total(self) -> int:
        query = f"SELECT count(*) FROM {self._rows.table} WHERE {self._rows.held}"  # noqa: S608
        return int((await fetched(self._connection, query, {}))[0][0])

    def newest_first(self) -> AsyncGenerator[Sequence[Found], None]:
        return self._all(self._rows.newest_first)

    def by_id(self) -> AsyncGenerator[Sequence[Found], None]:
        return self._all(self._rows.key)

    async def _all(self, order: str) -> AsyncGenerator[Sequence[Found], None]:
        query = f"{self._rows.select} WHERE {self._rows.held} ORDER BY {order}"
        async with self._connection.cursor("documents", binary=True) as cursor:
            await cursor.execute(query.encode())
            while rows := await cursor.fetchmany(ROWS_AT_ONCE):
                yield await self._make(rows)


@contextlib.asynccontextmanager
async def snapshot(connection: Connection) -> AsyncIterator[None]:
    """All that is asked inside is answered as of one moment."""
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield


async def fetched(
    connection: Connection, query: str, parameters: Mapping[str, Any]
) -> Sequence[Row]:
    cursor = connection.cursor(binary=True)
    await cursor.execute(query.encode(), parameters)
    return await cursor.fetchall()


class Maker(NamedTuple):
    prepare: Callable[[Sequence[Row]], Any]
    found: Callable[[Row], Found]


class Makers:
    """Make documents of rows: one pair of functions an index."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._usernames: dict[bytes, str | None] = {}

    def of(self, name: str) -> Maker:
        return {
            POSTS.name: Maker(self._prepare_posts, self._post),
            MEMBERS.name: Maker(self._prepare_members, self._member),
            PRODUCTS.name: Maker(self._prepare_products, self._product),
        }[name]

    async def _prepare_posts(self, rows: Sequence[Row]) -> None:
        await asyncio.to_thread(text_analysis.prepare)
        await self._keyring.fetch({id_text(row[1]) for row in rows})
        self._usernames.clear()

    async def _prepare_members(self, rows: Sequence[Row]) -> None:
        await self._keyring.fetch({id_text(row[0]) for row in rows})

    def _post(self, row: Row) -> Found:
        post_id, author_id, created_at, position, ended, erased, name, content, *counts = row
        author = id_text(author_id)
        text = None if ended or erased else self._keyring.open(author, content)
        username = None if text is None else self._username(author, name)
        document: PostDocument | None = None
        if text is not None and username is not None:
            language, plain, stemmed = analysed(text)
            likes, reposts, replies = counts
            document = PostDocument(
                post_id=id_text(post_id),
                author_id=author,
                author=username.lower(),
                created_at=milliseconds(created_at),
                position=position,
                language=language,
                text=" ".join(plain),
                stemmed=" ".join(stemmed),
                tags=hashtags(text),
                mentions=mentions(text),
                likes=likes,
                reposts=reposts,
                replies=replies,
            )
        return Found(id_text(post_id), created_at, document)

    def _username(self, author: str, sealed: bytes) -> str | None:
        """An author's name, opened once for all their posts of one reading."""
        if sealed not in self._usernames:
            self._usernames[sealed] = self._keyring.open(author, sealed)
        return self._usernames[sealed]

    def _member(self, row: Row) -> Found:
        member_id, created_at, position, erased, *sealed, followers = row
        member = id_text(member_id)
        opened = [None if erased else self._keyring.open(member, text) for text in sealed]
        username, display_name, bio = opened
        document: MemberDocument | None = None
        if username is not None:
            document = MemberDocument(
                member_id=member,
                username=username.lower(),
                display_name=" ".join(tokens(display_name or "")),
                words=prefix_words(username, display_name or ""),
                bio=" ".join(tokens(bio or "")),
                followers=followers,
                created_at=milliseconds(created_at),
                position=position,
            )
        return Found(member, created_at, document)

    async def _prepare_products(self, rows: Sequence[Row]) -> None:
        await asyncio.to_thread(text_analysis.prepare)
        await self._keyring.fetch({id_text(row[2]) for row in rows})

    def _product(self, row: Row) -> Found:
        number, shop_id, seller_id, shop, position, for_sale, *rest = row
        category, price, currency, available, *sealed = rest
        product_id, created_at, person = id_text(number), made_at(number), id_text(seller_id)
        opened = (self._keyring.open(person, text) for text in (shop, *sealed))
        seller, title, description, attributes = opened
        document: ProductDocument | None = None
        if for_sale and title is not None:
            seller, description = seller or "", description or ""
            language, _, stemmed = analysed(f"{title}\n{description}")
            document = ProductDocument(
                product_id=product_id,
                shop_id=id_text(shop_id),
                seller_id=person,
                seller=seller,
                shop_words=" ".join(tokens(seller)),
                language=language,
                title=" ".join(tokens(title)),
                description=" ".join(tokens(description)),
                stemmed=" ".join(stemmed),
                words=prefix_words(title),
                category=category,
                price=price,
                currency=currency,
                available=available,
                attributes=pairs(attributes_in(attributes)),
                created_at=milliseconds(created_at),
                position=position,
            )
        return Found(product_id, created_at, document)


def pairs(attributes: Mapping[str, Attribute]) -> list[str]:
    """Attributes as `name=value`; what is not a text is written as in JSON."""
    found = (
        f"{name}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for name, value in attributes.items()
    )
    return [pair for pair in found if len(pair) <= ATTRIBUTE_LENGTH_MAX]


def made_at(number: int) -> datetime:
    """When the thing that has this id was made."""
    return datetime.fromtimestamp(((number >> RANDOM_BITS) + EPOCH_MS) / 1000, UTC)


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
