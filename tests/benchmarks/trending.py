"""How many events a second are folded into trends, against reading and decoding them alone.

The log is what many demos record. The worst case, a log of posts alone of which most have tags, is
measured in the same way, and told beside it.
"""

import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import psycopg
import uvloop

from domain.events import AnyEvent
from domain.shared.message import tag_of
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.migrations import migrate
from infra.adapters.reads.postgres_discovery import PostgresDiscovery
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.adapters.tables.postgres_projections import PostgresProjections
from infra.formats.codec import encode_state
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.runtime.frames.embedded import EmbeddedRunner
from infra.runtime.projecting.project import Projector
from infra.runtime.rebuilding.rebuild import LOAD_LINES, rare_collections
from projections import tags
from query_api.trends.live_tags import LiveTags
from tests.benchmarks.harness import Result, interleaved
from tests.benchmarks.own_postgres import own_postgres
from tests.benchmarks.rebuild import NOON, read_and_decode
from tests.benchmarks.trending_logs import MEMBERS, demos, member, posts_alone, recorded

NAME = "trending"
TARGET = 0.3
EVENTS = 300_000
POSTS = 100_000
TAGS_SHOWN = 20_000
FILL_SECONDS = 60.0
EMPTY = (
    "TRUNCATE tags_b1.tagged_posts, tags_b1.forgotten",
    "UPDATE public.checkpoints SET position = 0 WHERE projection = 'tags'",
)


def run(rounds: int) -> Result:
    with own_postgres() as url:
        result = compared(url, demos, EVENTS, rounds)
    with own_postgres() as url:
        worst = compared(url, posts_alone, POSTS, rounds)
        uvloop.run(tell_board(url))
    least, most = worst.spread
    sys.stderr.write(
        f"trending: of posts alone {worst.value:,.0f} events/s, {worst.ratio:.3f} of the probe's"
        f" {worst.probe:,.0f} ({least:.3f}-{most:.3f})\n"
    )
    return result


def compared(
    url: str, events: Callable[[int], Iterator[AnyEvent]], length: int, rounds: int
) -> Result:
    uvloop.run(fill(url, events(length), length))
    return interleaved(
        NAME,
        unit="events/s",
        target=TARGET,
        rounds=rounds,
        measure=lambda: uvloop.run(folded(url, length)),
        probe=lambda: uvloop.run(read_and_decode(url, length)),
    )


async def fill(url: str, events: Iterator[AnyEvent], length: int) -> None:
    await migrate(url)
    keyring = await PostgresKeyring.connect(url)
    members = [member(number) for number in range(MEMBERS)]
    await keyring.create_many(members)
    await keyring.fetch(members)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = connection.cursor()
        async with cursor.copy(
            "COPY log.events (originator_id, originator_version, topic, state, notification_id)"
            " FROM STDIN"
        ) as copy:
            for one in recorded(events, keyring, length):
                tag, state = tag_of(type(one.event)), encode_state(one)
                await copy.write_row((one.stream, one.version, tag, state, one.position))
        await connection.execute("VACUUM ANALYZE log.events")
    await keyring.close()


async def folded(url: str, length: int) -> float:
    """Events per second from the log into the table that is served, as a worker does it."""
    log = await PostgresEventLog.open(url)
    keyring = await PostgresKeyring.connect(url)
    projection = tags.PROJECTION.with_texts(keyring)
    store = PostgresProjections(url, [projection])
    await store.checkpoints()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for statement in EMPTY:
            await connection.execute(statement)
    runner = EmbeddedRunner(
        log, Projector([projection], store, log), SOCIAL_PARTITIONS, lines_max=LOAD_LINES
    )
    with rare_collections():
        started = time.perf_counter()
        await runner.run_to(length)
        seconds = time.perf_counter() - started
    await store.close()
    await keyring.close()
    await log.close()
    return length / seconds


async def tell_board(url: str) -> None:
    """How long it takes to read all that after a restart, and a board from then on."""
    discovery = PostgresDiscovery(url)
    live = LiveTags(discovery, lambda: NOON + timedelta(hours=24))
    started = time.perf_counter()
    await live.filled(FILL_SECONDS)
    filled = time.perf_counter()
    await live.ranked(TAGS_SHOWN)
    named = time.perf_counter()
    board = await live.ranked(TAGS_SHOWN)
    ended = time.perf_counter()
    await discovery.close()
    sys.stderr.write(
        f"trending: {POSTS:,} posts read in {filled - started:.2f} s, {len(board):,} tags named in"
        f" {1e3 * (named - filled):.0f} ms, a board in {1e3 * (ended - named):.1f} ms\n"
    )
