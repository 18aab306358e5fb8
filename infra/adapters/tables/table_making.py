"""The statements that make the tables of a read model in PostgreSQL: empty, loaded, indexed.

While tables are loaded, no row can be found in them. What ends rows, and numbers to add, are put in
tables beside them then, and applied at once.
"""

from collections.abc import Iterable

from psycopg import sql

from infra.ports.log import OPEN
from infra.ports.tables import AnyTable, CountTable, RangeTable

# Rows are updated in place: `until` of rows that end, and all numbers of counts.
ROWS_FILLFACTOR = 95
COUNTS_FILLFACTOR = 50


def deferred_name(table: AnyTable) -> str:
    return f"{table.name}_deferred"


def is_deferrable(table: AnyTable) -> bool:
    """Whether the table can be written without looking anything up in it."""
    return not (isinstance(table, RangeTable) and table.revisable)


def create_deferred(schema: str, table: AnyTable) -> sql.Composed:
    name = sql.Identifier(schema, deferred_name(table))
    if isinstance(table, CountTable):
        like = sql.Identifier(schema, table.name)
        return sql.SQL("CREATE TABLE {} (LIKE {})").format(name, like)
    key = table.key if isinstance(table, RangeTable) else ()
    types = {column.name: column.type for column in table.columns}
    columns = [
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(types[column])) for column in key
    ]
    columns.append(sql.SQL("closed_at bigint").format())
    return sql.SQL("CREATE TABLE {} ({})").format(name, sql.SQL(", ").join(columns))


def apply_deferred(schema: str, table: AnyTable) -> sql.Composed:
    name = sql.Identifier(schema, table.name)
    kept_beside = sql.Identifier(schema, deferred_name(table))
    if isinstance(table, CountTable):
        sums = [sql.SQL("sum({})").format(sql.Identifier(count)) for count in table.counts]
        return sql.SQL("INSERT INTO {} SELECT {}, {}, max(position) FROM {} GROUP BY 1").format(
            name, sql.Identifier(table.key), sql.SQL(", ").join(sums), kept_beside
        )
    if not isinstance(table, RangeTable):
        return sql.SQL("SELECT 1").format()
    # Rows of one key begin and end in turn: a row's end is the next one after its beginning.
    return sql.SQL(
        "UPDATE {name} AS t SET until = ended.position FROM ("
        "  SELECT r.ctid AS place, min(c.closed_at) AS position"
        "  FROM {name} AS r JOIN {beside} AS c ON {same_key} AND c.closed_at > r.{since}"
        "  WHERE r.until = {open} GROUP BY r.ctid) AS ended"
        " WHERE t.ctid = ended.place"
    ).format(
        name=name,
        beside=kept_beside,
        since=sql.Identifier(table.since),
        open=sql.Literal(OPEN),
        same_key=sql.SQL(" AND ").join(
            sql.SQL("c.{0} = r.{0}").format(sql.Identifier(key)) for key in table.key
        ),
    )


def create_table(schema: str, table: AnyTable) -> sql.Composed:
    if isinstance(table, CountTable):
        columns = [
            sql.SQL("{} bigint NOT NULL").format(sql.Identifier(name))
            for name in (table.key, *table.counts, "position")
        ]
        fillfactor = COUNTS_FILLFACTOR
    else:
        types = {column.name: column.type for column in table.columns}
        optional = {column.name for column in table.columns if column.nullable}
        columns = [
            sql.SQL("{} {}{}").format(
                sql.Identifier(name),
                sql.SQL(types.get(name, "bigint")),
                sql.SQL("" if name in optional else " NOT NULL"),
            )
            for name in table.names
        ]
        fillfactor = ROWS_FILLFACTOR
    return sql.SQL("CREATE TABLE {} ({}) WITH (fillfactor = {})").format(
        sql.Identifier(schema, table.name), sql.SQL(", ").join(columns), sql.Literal(fillfactor)
    )


def index_statements(schema: str, table: AnyTable) -> list[sql.Composed]:
    name = sql.Identifier(schema, table.name)
    if isinstance(table, CountTable):
        return [_primary_key(name, (table.key,))]
    statements = [_primary_key(name, table.primary_key)]
    statements += [
        sql.SQL("ALTER TABLE {} ADD UNIQUE ({})").format(name, _list(columns))
        for columns in table.unique
    ]
    statements += [
        sql.SQL("CREATE INDEX ON {} {}").format(name, sql.SQL(tail)) for tail in table.indexes
    ]
    return statements


def _primary_key(name: sql.Identifier, columns: Iterable[str]) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(name, _list(columns))


def _list(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
