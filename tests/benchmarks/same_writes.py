"""The probe of the checkouts: pgbench writing, in three transactions, what one checkout writes.

The tables are like the real ones, with their keys and indexes, and the rows like those that a real
checkout left: events, the answer under its key, what the vault keeps, and every read table. Rows
that are superseded in the transaction they begin in are inserted as such; others are updated.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from infra.ports.log import OPEN
from tests.benchmarks.append_store import scripts_a_second

SHELVES = 200
CART_LINES = 200_000
COLON = re.compile(r"(?<!:):(?=[A-Za-z_])")

BEGUN = ("cart.checked_out.v1", "checkout.started.v2")
HELD = ("stock.reserved.v1", "checkout.reserved.v1", "checkout.provider_asked.v1")
PAID = (
    "checkout.authorised.v1",
    "stock.reservation_committed.v1",
    "order.created.v2",
    "checkout.orders_created.v1",
    "checkout.provider_asked.v1",
    "payment.notified.v1",
    "checkout.capture_accepted.v1",
    "checkout.captured.v1",
    "order.confirmed.v1",
    "checkout.confirmed.v1",
)
EVENTS = (BEGUN, HELD, PAID)

TABLES = {
    "events": "log.events",
    "answers": "log.answers",
    "secrets": "vault.payment_secrets",
    "cart_lines": "carts_b1.cart_lines",
    "checkouts": "checkouts_b1.checkouts",
    "steps": "checkouts_b1.checkout_steps",
    "orders": "orders_b1.orders",
    "history": "orders_b1.order_history",
    "moves": "availability_b1.availability_moves",
    "shelves": "availability_b1.availability",
    "work": "work_b1.work",
    "ordered": "demand_b1.ordered",
}
KEYS = {
    "cart_lines": "member_id",
    "checkouts": "checkout_id",
    "steps": "checkout_id",
    "orders": "order_id",
    "history": "order_id",
    "moves": "product_id",
    "work": "subject",
    "ordered": "order_id",
}

WORK = {"kind": "'checkout'", "task": "'capture 1'"}

# Per transaction: tables in which older rows end, rows that begin, and those of them that end too.
ENDS: Sequence[Sequence[str]] = (("cart_lines",), (), ("checkouts", "work"))
ROWS: Sequence[Mapping[str, int]] = (
    {"checkouts": 1, "steps": 1, "work": 1},
    {"moves": 1, "steps": 2, "work": 1},
    {"checkouts": 2, "steps": 7, "orders": 2, "history": 2, "ordered": 1, "work": 1},
)
PASSED: Sequence[Mapping[str, int]] = ({}, {}, {"checkouts": 1, "orders": 1, "work": 1})

N = ":n::bigint"


def make_tables(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA probe; CREATE SEQUENCE probe.positions")
        for name, real in TABLES.items():
            connection.execute(f"CREATE TABLE probe.{name} (LIKE {real} INCLUDING ALL)")
        connection.execute(
            "ALTER TABLE probe.events ALTER notification_id SET DEFAULT nextval('probe.positions')"
        )
        connection.execute(
            "INSERT INTO probe.shelves SELECT n, 1000, 1000, 0 FROM generate_series(1, %s) n",
            [SHELVES],
        )
        name, columns, (row,) = like_one(connection, "cart_lines")
        connection.execute(
            f"INSERT INTO probe.{name} ({', '.join(columns)})"
            f" SELECT {', '.join(row).replace(N, 'n')} FROM generate_series(1, {CART_LINES}) n"
        )


def three_transactions(url: str) -> float:
    """Scripts a second of pgbench, each the writes of one checkout."""
    with psycopg.connect(url) as connection:
        text = script(connection)
    return scripts_a_second(url, text)


def script(connection: psycopg.Connection[Any]) -> str:
    lines = [
        "\\set n random(1, 100000000000)",
        f"\\set shelf random(1, {SHELVES})",
        f"\\set line random(1, {CART_LINES})",
    ]
    for number, tags in enumerate(EVENTS):
        lines += ["\\startpipeline", "BEGIN;", insert(events(connection, tags, number))]
        if number == 0:
            lines += [insert(like_one(connection, name)) for name in ("answers", "secrets")]
        lines += [end(name) for name in ENDS[number]]
        lines += [
            insert(like_one(connection, name, count, number))
            for name, count in ROWS[number].items()
        ]
        if number == 1:
            lines.append(
                "UPDATE probe.shelves SET available = available - 1, position = position + 1"
                " WHERE product_id = :shelf;"
            )
        if number == 2:
            lines.append("DELETE FROM probe.secrets WHERE checkout_id = 'probe ' || :n::bigint;")
        lines += ["COMMIT;", "\\endpipeline"]
    return "\n".join(lines) + "\n"


Rows = tuple[str, Sequence[str], Sequence[Sequence[str]]]


def insert(rows: Rows) -> str:
    name, columns, values = rows
    listed = ", ".join(f"({', '.join(row)})" for row in values)
    return f"INSERT INTO probe.{name} ({', '.join(columns)}) VALUES {listed};"


def end(name: str) -> str:
    key = {KEYS[name]: key_of(name), "until": str(OPEN)}
    if name == "work":
        key |= WORK
    same = " AND ".join(f"{column} = {value}" for column, value in key.items())
    return f"UPDATE probe.{name} SET until = since + 1 WHERE {same};"


def key_of(name: str) -> str:
    if name == "cart_lines":
        return ":line"
    return f"'probe ' || {N}" if name == "work" else N


def events(connection: psycopg.Connection[Any], tags: Sequence[str], number: int) -> Rows:
    values = []
    for place, tag in enumerate(tags):
        found = connection.execute(
            "SELECT state FROM log.events WHERE topic = %s ORDER BY notification_id DESC LIMIT 1",
            [tag],
        ).fetchone()
        assert found is not None, tag
        stream = f"'{tag.partition('.')[0]}-' || :n::bigint"
        version = str(10 * number + place + 1)
        values.append((stream, version, literal(connection, tag), literal(connection, found[0])))
    return "events", ("originator_id", "originator_version", "topic", "state"), values


def like_one(
    connection: psycopg.Connection[Any], name: str, count: int = 1, number: int = 0
) -> Rows:
    """Rows like the newest of the real table, under keys of their own."""
    order = {"answers": "answered_at", "secrets": "stored_at"}.get(name, "since")
    cursor = connection.execute(f"SELECT * FROM {TABLES[name]} ORDER BY {order} DESC LIMIT 1")
    found = cursor.fetchone()
    columns = [column.name for column in cursor.description or ()]
    if found is None:
        # The vault forgets what is decided: then a row as long as a usual one.
        found = ("", "payment", b"x" * 400, None)
    values = []
    passed = PASSED[number].get(name, 0)
    for place in range(count):
        row = dict(zip(columns, (literal(connection, value) for value in found), strict=True))
        since = f"{N} + {10 * number + place}"
        row |= {"since": since, "until": f"{since} + 1" if place < passed else str(OPEN)}
        row |= {"member_id": f"'probe ' || {N}", "checkout_id": f"'probe ' || {N}"}
        row |= {"stored_at": "now()", "answered_at": "now()"}
        if name in KEYS:
            row |= {"member_id": N, "checkout_id": N, "order_id": N}
            row[KEYS[name]] = N if name == "cart_lines" else key_of(name)
        if name == "work":
            row |= WORK
        values.append([row[column] for column in columns])
    return name, columns, values


def literal(connection: psycopg.Connection[Any], value: Any) -> str:
    # To pgbench, a colon before a letter begins a variable.
    return COLON.sub("' || chr(58) || '", sql.Literal(value).as_string(connection))
