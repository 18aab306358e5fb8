"""How long a page takes with Redis dead: 500 followees, 1,000,000 posts, all pulled from tables."""

import itertools
import math
import random
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import uvloop

from domain.shared.identifiers import id_number, make_id
from infra.composition.settings import Settings
from infra.ports.log import OPEN
from infra.servers.postgres import start_postgres
from infra.servers.process import free_port
from tests.benchmarks.feed_world import request, serve_feeds, served
from tests.benchmarks.harness import Result
from tests.benchmarks.page_times import for_seconds, p99, page_seconds
from tests.square import Square

NAME = "feed_degraded"
TARGET_MS = 200.0
READERS = 100
AUTHORS = 5_000
FOLLOWEES = 500
POSTS = 1_000_000
ROUND_SECONDS = 5.0


def run(rounds: int) -> Result:
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        postgres, postgres_url = start_postgres(Path(folder) / "postgres")
        try:
            return uvloop.run(measured(postgres_url, rounds))
        finally:
            postgres.stop()


async def measured(postgres_url: str, rounds: int) -> Result:
    tokens = await filled(postgres_url)
    settings = Settings(
        postgres_url=postgres_url,
        redis_url=f"redis://127.0.0.1:{free_port()}/0",
        query_api_port=0,
    )
    worst = []
    requests = itertools.cycle([request("/api/feed", token) for token in tokens])
    with served(serve_feeds, settings) as server:
        for number in range(rounds + 1):
            going = for_seconds(ROUND_SECONDS)
            seen = await page_seconds(server.port, requests, going, end=b'"degraded":true}')
            # The first one warms the caches.
            worst += [p99(seen) * 1000] if number else []
    return Result(
        name=NAME,
        value=sorted(worst)[len(worst) // 2],
        unit="ms p99",
        probe=math.nan,
        ratio=math.nan,
        target=TARGET_MS,
        spread=(min(worst), max(worst)),
    )


# The world.


async def filled(postgres_url: str) -> list[str]:
    """Members by real events; follows and posts straight into the tables, as a rebuild leaves
    them. Answers the readers' tokens."""
    square = await Square.open(postgres_url, commerce=True)
    readers = [await square.member(f"reader_{number}") for number in range(READERS)]
    authors = [await square.member(f"author_{number}") for number in range(AUTHORS)]
    start = await square.apply()
    dice = random.Random(1)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        follows = [
            (reader, author) for reader in readers for author in dice.sample(authors, FOLLOWEES)
        ]
        copy_follows(connection, follows, start, dice)
        copy_posts(connection, square, authors, start + POSTS, dice)
        connection.execute("UPDATE public.checkpoints SET position = %s", [start + 3 * POSTS])
        connection.execute("VACUUM ANALYZE")
    tokens = [square.tokens.sign(square.session(reader)) for reader in readers]
    await square.close()
    return tokens


def copy_follows(
    connection: psycopg.Connection,
    pairs: Sequence[tuple[str, str]],
    start: int,
    dice: random.Random,
) -> None:
    """Half of the follows from before all posts, half from among them."""
    columns = "(follower_id, followee_id, since, until)"
    with connection.cursor().copy(f"COPY graph_b1.follows {columns} FROM STDIN") as copy:
        for number, (follower, followee) in enumerate(pairs):
            late = POSTS + dice.randrange(POSTS) if number % 2 else 0
            since = start + late + number + 1
            copy.write_row((id_number(follower), id_number(followee), since, OPEN))


def copy_posts(
    connection: psycopg.Connection,
    square: Square,
    authors: Sequence[str],
    start: int,
    dice: random.Random,
) -> None:
    sealed = {a: square.keyring.seal(a, "lorem ipsum dolor sit amet " * 5) for a in authors}
    written = []
    for number in range(POSTS):
        author = dice.choice(authors)
        moment = square.now + timedelta(milliseconds=number)
        post_id = id_number(make_id(int(moment.timestamp() * 1000), number))
        written.append((start + number, post_id, author, moment))
    columns = (
        "(position, post_id, author_id, created_at, content, media_urls, product_ids,"
        " continues_thread, until)"
    )
    with connection.cursor().copy(f"COPY posts_b1.posts {columns} FROM STDIN") as copy:
        for position, post_id, author, moment in written:
            number = id_number(author)
            row: tuple[Any, ...] = (
                position,
                post_id,
                number,
                moment,
                sealed[author],
                None,
                [],
                False,
                OPEN,
            )
            copy.write_row(row)
    columns = "(author_id, position, post_position, post_id, post_author_id, is_repost, until)"
    with connection.cursor().copy(f"COPY posts_b1.entries {columns} FROM STDIN") as copy:
        for position, post_id, author, _ in written:
            number = id_number(author)
            copy.write_row((number, position, position, post_id, number, False, OPEN))
