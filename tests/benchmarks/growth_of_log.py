"""What an append costs against how long the log is."""

from statistics import median

import psycopg
import uvloop

from domain.shared.message import tag_of
from infra.adapters.migrations import migrate
from infra.formats.codec import encode_state
from tests.benchmarks.append_store import append, event, server
from tests.benchmarks.harness import Curve

LENGTHS = (10_000, 100_000, 1_000_000)
ROUNDS = 3
TIMES_MAX = 1.5


def append_costs() -> list[Curve]:
    costs = []
    with server() as url:
        uvloop.run(migrate(url))
        for place, length in enumerate(LENGTHS):
            lengthen(url, length)
            rates = [uvloop.run(append(url, ROUNDS * place + turn)) for turn in range(ROUNDS)]
            costs.append(1e6 / median(rates))
    return [Curve("append", "events in the log", LENGTHS, costs, "µs an event", TIMES_MAX)]


def lengthen(url: str, length: int) -> None:
    """Add events of as many streams until the log has so many."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT coalesce(max(notification_id), 0) FROM log.events")
        (newest,) = row.fetchone() or (0,)
        example = event("0c5r9m2k1abcd", "0c5r9m2k1abcf")
        tag, state = tag_of(type(example.event)), encode_state(example)
        connection.execute(
            "INSERT INTO log.events"
            " (originator_id, originator_version, topic, state, notification_id)"
            " SELECT 'filled:' || n, 1, %s, %s, n FROM generate_series(%s::bigint, %s) n",
            [tag, state, newest + 1, length],
        )
        connection.execute(
            "SELECT setval(pg_get_serial_sequence('log.events', 'notification_id'), %s)",
            [max(newest, length)],
        )
        connection.execute("VACUUM ANALYZE log.events")
