"""Read tables in PostgreSQL: `infra.ports.tables.TableStore`, set-based and in one transaction.

The connection does not wait for the disk at commit: tables and checkpoints are in one store, so a
commit that a crash loses is lost with its checkpoint, and the log is folded again from there.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import psycopg
import structlog

from infra.adapters.connections import bounded, connect
from infra.adapters.tables import binary_arrays, projection_builds
from infra.adapters.tables.copy_format import bigints, integers, texts
from infra.adapters.tables.projection_builds import Connection
from infra.adapters.tables.table_writer import TableWriter
from infra.ports.frames import CHANGES_CHANNEL, Applied
from infra.ports.tables import DeadLetter, Folded, ReadModel, StoreUnavailable

log = structlog.get_logger(__name__)

TRANSACTION_SECONDS = 120.0
PAYLOAD_BYTES_MAX = 7900
NOTIFICATIONS_MAX = 8
"""What needs more notifications than this is told as `everything`."""

BY_INDEX = {
    # Statistics lag behind fast-growing tables; every statement here is meant to use an index.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_custom_plan",
}
SETTINGS = {
    "synchronous_commit": "off",
    "statement_timeout": "60s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    **BY_INDEX,
}

LOCK = """
    SELECT c.projection, c.partition, c.position
    FROM public.checkpoints c JOIN unnest(%s::text[], %s::integer[]) AS b (name, build)
        ON c.projection = b.name AND c.build = b.build
    WHERE c.partition = ANY(%s)
    ORDER BY c.projection, c.build, c.partition FOR UPDATE OF c
"""
PARKED = """
    SELECT DISTINCT d.projection, d.key
    FROM public.dead_letters d JOIN unnest(%s::text[], %s::integer[]) AS b (name, build)
        ON d.projection = b.name AND d.build = b.build
    WHERE d.status IN ('parked', 'waiting')
"""
# Asked once the locks are held: whoever completed a build before they were shows here.
BEING_LOADED = """
    SELECT p.name FROM public.projection_builds p JOIN unnest(%s::text[], %s::integer[])
        AS b (name, build) ON p.name = b.name AND p.build = b.build
    WHERE p.status = 'building'
"""
CHECKPOINTS = """
    SELECT c.projection, c.partition, c.position
    FROM public.checkpoints c JOIN unnest(%s::text[], %s::integer[]) AS b (name, build)
        ON c.projection = b.name AND c.build = b.build
"""
FINISH = """
    WITH advanced AS (
        UPDATE public.checkpoints AS c SET position = n.position
        FROM unnest(%s::text[], %s::integer[], %s::integer[], %s::bigint[])
            AS n (projection, build, partition, position)
        WHERE c.projection = n.projection AND c.build = n.build AND c.partition = n.partition
    )
    SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload
"""

LETTER_FIELDS = tuple(DeadLetter.__struct_fields__)
PARK_FIELDS = (
    "projection", "build", "key", "partition", "position", "stream", "version", "tag", "state",
    "error", "trace", "attempts", "status",
)  # fmt: skip
PARK = (
    f"INSERT INTO public.dead_letters ({', '.join(PARK_FIELDS)})"  # noqa: S608
    f" VALUES ({', '.join('%s' for _ in PARK_FIELDS)})"
    " ON CONFLICT (projection, build, position) DO NOTHING"
)
LETTERS = f"SELECT {', '.join(LETTER_FIELDS)} FROM public.dead_letters"  # noqa: S608
# Builds that are not served have letters of their own, which go with them.
SERVED_LETTERS = """
    WHERE NOT EXISTS (SELECT FROM public.projection_builds b
        WHERE b.name = projection AND b.build = dead_letters.build AND b.status <> 'live')
    ORDER BY id
"""
SETTLE = """
    UPDATE public.dead_letters
    SET status = %s, error = %s, trace = %s, attempts = %s, why = %s, settled_at = now()
    WHERE id = %s
"""

encode = msgspec.json.Encoder().encode


class PostgresProjections:
    """The tables of some projections' live builds, or of the builds given.

    `deferred`: those builds are being loaded, and have no indexes yet. Transactions follow each
    other on one connection.
    """

    def __init__(
        self,
        postgres_url: str,
        projections: Sequence[ReadModel],
        builds: Mapping[str, int] | None = None,
        *,
        deferred: bool = False,
    ) -> None:
        self._url = postgres_url
        self._projections = {projection.name: projection for projection in projections}
        self._fixed_builds = builds
        self._deferred = deferred
        self._builds: Mapping[str, int] = {}
        self._writers: dict[str, TableWriter] = {}
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def checkpoints(self) -> Mapping[str, Mapping[int, int]]:
        """See `TableStore.checkpoints`. Makes tables on the way where there are none yet."""
        async with self._connected() as connection:
            rows = await connection.execute(CHECKPOINTS, self._names_and_builds(self._projections))
            return by_projection(await rows.fetchall())

    @contextlib.asynccontextmanager
    async def transaction(
        self, projections: Sequence[str], partitions: Sequence[int]
    ) -> AsyncIterator["PostgresTransaction"]:
        async with self._connected() as connection, rolled_back_on_error(connection):
            targets = self._names_and_builds(projections)
            # Statements go to the server together: every wait is one too many while little is
            # written at a time.
            async with connection.pipeline():
                await connection.execute("BEGIN")
                locked = await connection.execute(LOCK, [*targets, integers(partitions)])
                set_aside = await connection.execute(PARKED, targets)
            if self._deferred:
                loading = await connection.execute(BEING_LOADED, targets)
                if len(await loading.fetchall()) < len(projections):
                    raise StoreUnavailable("somebody else has completed or dropped this build")
            checkpoints = by_projection(await locked.fetchall())
            if len(checkpoints) < len(projections):
                # Another build went live: its tables are the ones to write from now on.
                self._builds = {}
                raise StoreUnavailable("builds have been switched")
            parked: dict[str, set[str]] = {name: set() for name in projections}
            for name, key in await set_aside.fetchall():
                parked[name].add(key)
            opened = PostgresTransaction(
                connection, self._builds, self._writers, checkpoints, parked
            )
            yield opened
            await opened.finish(announced=self._fixed_builds is None)

    async def dead_letters(self) -> Sequence[DeadLetter]:
        async with self._connected() as connection:
            return await letters(connection, SERVED_LETTERS, [])

    async def dead_letter(self, letter_id: int) -> DeadLetter | None:
        async with self._connected() as connection:
            found = await letters(connection, " WHERE id = %s", [letter_id])
        return found[0] if found else None

    def _names_and_builds(
        self, projections: Iterable[str]
    ) -> tuple[binary_arrays.TextArray, binary_arrays.IntegerArray]:
        names = list(projections)
        return texts(names), integers([self._builds[name] for name in names])

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        async with self._turn, self._connection_in_turn() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def _connection_in_turn(self) -> AsyncIterator[Connection]:
        """The connection, which knows which builds to write; it is thrown away when it fails."""
        try:
            if self._connection is None or not is_idle(self._connection):
                await self._drop_connection()
                self._connection = await connect(self._url, "plaza-projections", SETTINGS)
                binary_arrays.register(self._connection)
                self._builds = {}
            with bounded(self._connection, TRANSACTION_SECONDS):
                if not self._builds:
                    await self._find_builds(self._connection)
                yield self._connection
        except (psycopg.Error, OSError) as error:
            if speaks_of_the_data(error):
                raise
            await self._drop_connection()
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error

    async def _find_builds(self, connection: Connection) -> None:
        builds = self._fixed_builds
        if builds is None:
            builds = await projection_builds.prepare(connection, self._projections.values())
        self._writers = {
            name: TableWriter(
                projection.tables,
                projection_builds.schema_name(name, builds[name]),
                deferred=self._deferred,
            )
            for name, projection in self._projections.items()
        }
        self._builds = builds

    async def _drop_connection(self) -> None:
        with contextlib.suppress(psycopg.Error, OSError):
            await self.close()


def is_idle(connection: Connection) -> bool:
    """Whether a connection is open and no transaction is; a roll-back may not have got through."""
    idle = psycopg.pq.TransactionStatus.IDLE
    return not connection.closed and connection.info.transaction_status == idle


@contextlib.asynccontextmanager
async def rolled_back_on_error(connection: Connection) -> AsyncIterator[None]:
    """`Connection.transaction` would wait for its BEGIN and COMMIT alone."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(psycopg.Error):
            await connection.execute("ROLLBACK")
        raise


def speaks_of_the_data(error: Exception) -> bool:
    """Whether what is being written is wrong, rather than the server or the state of the tables."""
    return isinstance(
        error, (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
    )


class PostgresTransaction:
    """`infra.ports.tables.TableTransaction` on the connection of the store that opened it."""

    def __init__(
        self,
        connection: Connection,
        builds: Mapping[str, int],
        writers: Mapping[str, TableWriter],
        checkpoints: Mapping[str, Mapping[int, int]],
        parked: Mapping[str, set[str]],
    ) -> None:
        self.checkpoints = checkpoints
        self.parked = parked
        self._connection = connection
        self._builds = builds
        self._writers = writers
        self._positions: dict[str, Mapping[int, int]] = {}
        self._touched: dict[str, defaultdict[str, set[Any]]] = {}

    async def write(self, projection: str, folded: Folded) -> None:
        await self._write(projection, folded, at_once=True)

    async def attempt(self, projection: str, folded: Folded) -> Exception | None:
        try:
            async with self._connection.transaction():
                await self._write(projection, folded, at_once=False)
        except psycopg.Error as error:
            if not speaks_of_the_data(error):
                raise
            return error
        except StoreUnavailable:
            raise
        except Exception as error:
            # Whatever a change cannot be written for, it is that change's fault.
            return error
        return None

    async def _write(self, projection: str, folded: Folded, *, at_once: bool) -> None:
        if not folded:
            return
        writer = self._writers[projection]
        touched = await writer.write(self._connection, folded, at_once=at_once)
        known = self._touched.setdefault(projection, defaultdict(set))
        for kind, ids in touched.items():
            known[kind] |= ids

    async def park(self, letters: Sequence[DeadLetter]) -> None:
        if not letters:
            return
        rows = [
            [self._builds[letter.projection] if f == "build" else _storable(getattr(letter, f))
             for f in PARK_FIELDS]
            for letter in letters
        ]  # fmt: skip
        await self._connection.cursor().executemany(PARK, rows)

    async def letters(self, projection: str, key: str) -> Sequence[DeadLetter]:
        return await letters(
            self._connection,
            " WHERE projection = %s AND build = %s AND key = %s"
            " AND status IN ('parked', 'waiting') ORDER BY position",
            [projection, self._builds[projection], key],
        )

    async def settle(self, letter: DeadLetter) -> None:
        fields = (letter.status, letter.error, letter.trace, letter.attempts, letter.why, letter.id)
        await self._connection.execute(SETTLE, [_storable(field) for field in fields])

    def advance(self, projection: str, positions: Mapping[int, int]) -> None:
        if positions:
            self._positions[projection] = positions

    async def finish(self, *, announced: bool) -> None:
        """Move the checkpoints, tell who listens, and commit."""
        moved = [
            (name, self._builds[name], partition, position)
            for name, positions in self._positions.items()
            for partition, position in positions.items()
        ]
        names, builds, partitions, positions = zip(*moved, strict=True) if moved else ((),) * 4
        columns = [texts(names), integers(builds), integers(partitions), bigints(positions)]
        payloads = texts(self._payloads() if announced else [])
        async with self._connection.pipeline():
            await self._connection.execute(FINISH, [*columns, CHANGES_CHANNEL, payloads])
            await self._connection.execute("COMMIT")

    def _payloads(self) -> list[str]:
        return [
            payload
            for name in {**self._positions, **self._touched}
            for payload in notifications(
                Applied(
                    name, self._builds[name], self._positions.get(name, self.checkpoints[name])
                ),
                self._touched.get(name, {}),
            )
        ]


def by_projection(rows: Iterable[tuple[str, int, int]]) -> dict[str, dict[int, int]]:
    found: dict[str, dict[int, int]] = {}
    for name, partition, position in rows:
        found.setdefault(name, {})[partition] = position
    return found


async def letters(
    connection: Connection, condition: str, parameters: Sequence[Any]
) -> list[DeadLetter]:
    rows = await connection.execute((LETTERS + condition).encode(), parameters)
    return [
        DeadLetter(**dict(zip(LETTER_FIELDS, row, strict=True))) for row in await rows.fetchall()
    ]


def notifications(applied: Applied, touched: Mapping[str, set[Any]]) -> list[str]:
    """What to tell as payloads that PostgreSQL takes. The last one carries the positions: who waits
    for one must have been told before of everything up to it."""
    fields = ("posts", "members", "relations", "sessions", "products")
    ids = [(kind, one) for kind in fields for one in sorted(touched.get(kind, ()))]
    room = PAYLOAD_BYTES_MAX - len(encode(applied)) - 64
    per_payload = room // max([len(str(one)) + 3 for _, one in ids], default=1)
    if len(ids) > per_payload * NOTIFICATIONS_MAX:
        return [encode(msgspec.structs.replace(applied, everything=True)).decode()]
    payloads = []
    for start in range(0, max(len(ids), 1), per_payload):
        found: dict[str, list[Any]] = {kind: [] for kind in fields}
        for kind, one in ids[start : start + per_payload]:
            found[kind].append(one)
        is_last = start + per_payload >= len(ids)
        positions = applied.positions if is_last else {}
        told = msgspec.structs.replace(applied, positions=positions, **found)
        payloads.append(encode(told).decode())
    return payloads


def _storable(value: Any) -> Any:
    """Texts without NUL, which PostgreSQL cannot hold; an error's words may quote one."""
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else value
