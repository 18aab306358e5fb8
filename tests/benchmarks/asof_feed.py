"""How long a page of any moment takes: p99 of feeds as of random positions, against pages that are
pulled from the same tables as of now, with Redis dead. 500 followees, 1,000,000 posts."""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import LiteralString

import psycopg
import uvloop

from infra.composition.settings import Settings
from infra.servers.process import free_port
from tests.benchmarks.feed_degraded import POSTS, filled
from tests.benchmarks.feed_world import request, serve_feeds, served
from tests.benchmarks.harness import Result, interleaved_latencies
from tests.benchmarks.own_postgres import own_postgres
from tests.benchmarks.page_times import for_seconds, p99, page_seconds

NAME = "asof_feed"
TIMES_MAX = 2.0
ROUND_SECONDS = 5.0


def run(rounds: int) -> Result:
    with own_postgres() as postgres_url:
        return measured(postgres_url, rounds)


def measured(postgres_url: str, rounds: int) -> Result:
    tokens = uvloop.run(filled(postgres_url))
    with psycopg.connect(postgres_url) as connection:
        first = number(connection, "SELECT min(position) FROM posts_b1.posts")
        head = number(connection, "SELECT min(position) FROM public.checkpoints")
        raise_log_to(connection, head)
    settings = Settings(
        postgres_url=postgres_url,
        redis_url=f"redis://127.0.0.1:{free_port()}/0",
        query_api_port=0,
    )
    with served(serve_feeds, settings) as server:

        def live() -> float:
            return slowest(server.port, tokens, itertools.repeat("/api/feed"))

        def then() -> float:
            return slowest(server.port, tokens, moments(first + POSTS // 2, head))

        live()
        then()
        return interleaved_latencies(
            NAME, times_max=TIMES_MAX, rounds=rounds, measure=then, probe=live
        )


def number(connection: psycopg.Connection, query: LiteralString) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def raise_log_to(connection: psycopg.Connection, head: int) -> None:
    """Positions that tables name are ones that the log has reached."""
    connection.execute(
        "UPDATE log.events SET notification_id = %s"
        " WHERE notification_id = (SELECT max(notification_id) FROM log.events)",
        [head],
    )


def moments(first: int, last: int) -> Iterator[str]:
    dice = random.Random(7)
    while True:
        yield f"/api/feed?asOf={dice.randrange(first, last)}"


def slowest(port: int, tokens: Sequence[str], paths: Iterator[str]) -> float:
    requests = map(request, paths, itertools.cycle(tokens))
    return p99(uvloop.run(page_seconds(port, requests, for_seconds(ROUND_SECONDS))))
