"""What is served of a projection at one moment, beside the same tables made from the log again.

Both stand in temporary tables of one connection, which the server removes with it, whatever becomes
of us. What is served is copied in one snapshot, so that nobody is held up while the log is folded.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from infra.adapters.connections import bounded, connected
from infra.adapters.tables import binary_arrays
from infra.adapters.tables.build_comparison import compared, differing, key_of_either, same_key
from infra.adapters.tables.postgres_builds import HOLD_LIVE
from infra.adapters.tables.postgres_projections import (
    BY_INDEX,
    TRANSACTION_SECONDS,
    speaks_of_the_data,
)
from infra.adapters.tables.projection_builds import (
    BULK_SETTINGS,
    CHECKPOINTS,
    NOT_APPLIED,
    Connection,
    live_builds,
    schema_name,
)
from infra.adapters.tables.table_making import (
    apply_deferred,
    create_deferred,
    create_table,
    deferred_name,
    index_statements,
    is_deferrable,
)
from infra.adapters.tables.table_writer import TableWriter
from infra.ports.frames import CHANGES_CHANNEL
from infra.ports.keepers import CannotVerify, Different, NotServed
from infra.ports.tables import (
    AnyTable,
    CountTable,
    Folded,
    Part,
    ReadModel,
    RowMissing,
    StoreUnavailable,
    columns_of,
    key_of,
)

TEMPORARY = "pg_temp"
SETTINGS = {**BY_INDEX, "lock_timeout": "10s", "temp_buffers": "32MB"}
MENDING_SECONDS = 60.0
REPAIR_MAX = 10_000
"""How many rows are mended one by one; where more differ, a rebuild is what is needed."""

TELL = "SELECT pg_notify(%s, %s::jsonb::text)"


class RefoldedTables:
    """The tables of one projection, or some of their rows, as served and as folded by one caller.

    `checkpoints`: how far each partition of what is served was when it was copied. `not_applied`:
    events before that which were set aside, and are in no row. Raises `StoreUnavailable`.
    """

    def __init__(
        self, connection: Connection, projection: ReadModel, part: Part | None = None
    ) -> None:
        self.build = self.version = 0
        self.checkpoints: Mapping[int, int] = {}
        self.not_applied: frozenset[int] = frozenset()
        self._connection = connection
        self._projection = projection
        self._part = part
        self._tables = tables_of(projection, part)
        self._writer = TableWriter(projection.tables, TEMPORARY, deferred=True)
        self._snapshot = contextlib.AsyncExitStack()
        self._served: dict[str, tuple[int, int]] = {}

    async def begin(self) -> None:
        """Make the tables, and take note of where what is served is at this moment.

        Raises `NotServed`.
        """
        connection, name = self._connection, self._projection.name
        for table in self._projection.tables:
            await connection.execute(create_table(TEMPORARY, table))
            if is_deferrable(table):
                await connection.execute(create_deferred(TEMPORARY, table))
            else:
                for statement in index_statements(TEMPORARY, table):
                    await connection.execute(statement)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(connection.transaction())
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await connection.execute(BULK_SETTINGS)
            live = (await live_builds(connection)).get(name)
            if live is None:
                raise NotServed(f"nothing is served of {name}")
            self.build, self.version = live
            await self._note_positions()
            self._snapshot = stack.pop_all()

    async def copy(self) -> None:
        """Copy what was served at the moment noted. Nothing else can be done here meanwhile."""
        async with self._snapshot:
            for table in self._tables:
                copied = served_copy(table)
                await self._connection.execute(
                    sql.SQL("CREATE TABLE {} AS SELECT {} FROM {} WHERE {}").format(
                        copied,
                        columns_in(table),
                        self._live(table),
                        condition(self._part, table),
                    )
                )
                self._served[table.name] = await self._checksum(copied)

    async def leave(self) -> None:
        """Copy nothing: what is served is to be replaced whatever it is."""
        await self._snapshot.aclose()

    async def write(self, folded: Folded) -> None:
        """Write changes, which come in the order of the log. Raises `CannotVerify` for changes
        that no worker can have written."""
        try:
            with bounded(self._connection, TRANSACTION_SECONDS):
                await self._writer.write(self._connection, folded, at_once=False)
        except RowMissing as error:
            raise CannotVerify(f"{self._projection.name} cannot be folded: {error}") from error
        except psycopg.Error as error:
            if not speaks_of_the_data(error):
                raise
            raise CannotVerify(f"{self._projection.name} cannot be folded: {error}") from error

    async def settle(self) -> None:
        """Have everything that was written in the rows it changes."""
        async with self._connection.transaction():
            await self._settle()

    async def compare(self) -> tuple[int, int, list[Different]]:
        """How many rows are served, how many differ, and the first few of those of each table.

        Tables whose checksums are the same are not compared row by row.
        """
        documents = different = 0
        examples: list[Different] = []
        async with self._connection.transaction():
            await self._connection.execute(BULK_SETTINGS)
            for table in self._tables:
                served, folded = served_copy(table), folded_name(table)
                checksum = self._served[table.name]
                documents += checksum[0]
                if checksum == await self._checksum(folded):
                    continue
                columns = [column.name for column in columns_of(table)]
                _, differ, found = await compared(self._connection, served, folded, table, columns)
                different += differ
                examples += found
        return documents, different, examples

    @contextlib.asynccontextmanager
    async def mending(self) -> AsyncIterator[None]:
        """Hold what is served still, with the positions it is at now; what is mended inside is
        committed at the end of the block, and readers are told."""
        connection, name = self._connection, self._projection.name
        with bounded(connection, MENDING_SECONDS):
            async with connection.transaction():
                held = await connection.execute(HOLD_LIVE, [[name]])
                await held.fetchall()
                live = (await live_builds(connection)).get(name)
                if live != (self.build, self.version):
                    raise StoreUnavailable("builds have been switched")
                await self._note_positions()
                yield
                told = {"projection": name, "build": self.build, "positions": {}}
                everything = Jsonb(told | {"everything": True})
                await connection.execute(TELL, [CHANGES_CHANNEL, everything])

    async def mend(self) -> None:
        """Have the rows that differed served as they are folded now."""
        connection = self._connection
        keys = {table.name: await self._keys_that_differ(table) for table in self._tables}
        await self._settle()
        for table in self._tables:
            wrong = keys[table.name]
            await connection.execute(
                sql.SQL("DELETE FROM {} AS l USING {} AS d WHERE {}").format(
                    self._live(table), wrong, same_key("l", "d", table)
                )
            )
            await connection.execute(
                sql.SQL("INSERT INTO {} ({}) SELECT n.* FROM {} AS n JOIN {} AS d ON {}").format(
                    self._live(table),
                    columns_in(table),
                    folded_name(table),
                    wrong,
                    same_key("n", "d", table),
                )
            )

    async def replace(self) -> int:
        """Have all rows of the part served as they are folded now; answers how many there are."""
        await self._settle()
        written = 0
        for table in self._tables:
            live = self._live(table)
            await self._connection.execute(
                sql.SQL("DELETE FROM {} WHERE {}").format(live, condition(self._part, table))
            )
            insert = sql.SQL("INSERT INTO {} ({}) SELECT * FROM {}")
            done = await self._connection.execute(
                insert.format(live, columns_in(table), folded_name(table))
            )
            written += done.rowcount
        return written

    async def _note_positions(self) -> None:
        place = [self._projection.name, self.build]
        reached = await self._connection.execute(CHECKPOINTS, place)
        self.checkpoints = {int(part): int(to) for part, to in await reached.fetchall()}
        aside = await self._connection.execute(NOT_APPLIED, place)
        self.not_applied = frozenset(int(position) for (position,) in await aside.fetchall())

    async def _settle(self) -> None:
        connection = self._connection
        await connection.execute(BULK_SETTINGS)
        for table in filter(is_deferrable, self._projection.tables):
            name, beside = folded_name(table), sql.Identifier(TEMPORARY, deferred_name(table))
            if isinstance(table, CountTable):
                # What was summed before is one more number to sum.
                both = sql.SQL("INSERT INTO {} SELECT * FROM {}").format(beside, name)
                await connection.execute(both)
                await connection.execute(sql.SQL("TRUNCATE {}").format(name))
            await connection.execute(apply_deferred(TEMPORARY, table))
            await connection.execute(sql.SQL("TRUNCATE {}").format(beside))

    async def _checksum(self, name: sql.Identifier) -> tuple[int, int]:
        """How many rows there are, and what their checksums add up to in whatever order."""
        # A record's hash is a sum over its columns: unless it is hashed once more, values that two
        # rows have swapped add up to the same.
        query = sql.SQL(
            "SELECT count(*), coalesce(sum(hashint8extended(hash_record_extended(t, 0), 0)), 0)"
            " FROM {} AS t"
        )
        row = await (await self._connection.execute(query.format(name))).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    async def _keys_that_differ(self, table: AnyTable) -> sql.Identifier:
        name = sql.Identifier(TEMPORARY, f"{table.name}_differing")
        columns = [column.name for column in columns_of(table)]
        made = await self._connection.execute(
            sql.SQL("CREATE TABLE {} ({}) AS SELECT {} FROM {}").format(
                name,
                sql.SQL(", ").join(map(sql.Identifier, key_of(table))),
                key_of_either(table),
                differing(served_copy(table), folded_name(table), table, columns),
            )
        )
        if made.rowcount > REPAIR_MAX:
            raise CannotVerify(
                f"{made.rowcount:,} rows of {table.name} differ: more than {REPAIR_MAX:,} are not"
                " mended one by one; rebuild it"
            )
        return name

    def _live(self, table: AnyTable) -> sql.Identifier:
        return sql.Identifier(schema_name(self._projection.name, self.build), table.name)


@contextlib.asynccontextmanager
async def refolded(
    postgres_url: str, projection: ReadModel, part: Part | None = None
) -> AsyncIterator[RefoldedTables]:
    """Tables that go when the block is left. Raises `StoreUnavailable`."""
    try:
        async with connected(postgres_url, "plaza-verify", SETTINGS) as connection:
            binary_arrays.register(connection)
            yield RefoldedTables(connection, projection, part)
    except (psycopg.Error, OSError) as error:
        # Also where the build was dropped, because another one is served by now.
        raise StoreUnavailable(str(error)) from error


def tables_of(projection: ReadModel, part: Part | None) -> Sequence[AnyTable]:
    tables = projection.tables
    return tables if part is None else [one for one in tables if part.columns.get(one.name)]


def folded_name(table: AnyTable) -> sql.Identifier:
    return sql.Identifier(TEMPORARY, table.name)


def served_copy(table: AnyTable) -> sql.Identifier:
    return sql.Identifier(TEMPORARY, f"{table.name}_served")


def columns_in(table: AnyTable) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in columns_of(table))


def condition(part: Part | None, table: AnyTable) -> sql.Composable:
    """That a row of the table is of this part."""
    if part is None:
        return sql.SQL("true")
    return sql.SQL(" OR ").join(
        sql.SQL("{} = {}").format(sql.Identifier(column), sql.Literal(part.value))
        if part.modulus is None
        else sql.SQL("{} % {} = {}").format(
            sql.Identifier(column), sql.Literal(part.modulus), sql.Literal(part.value)
        )
        for column in part.columns.get(table.name, ())
    )
