"""How many posts a second are opened and folded into trends, against reading and decoding alone.

Every event is a post, and most have tags: other events cost the projection nothing.
"""

import random
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import uvloop

from domain.shared.identifiers import id_text
from domain.shared.message import tag_of
from domain.shared.personal import Personal
from domain.social.post.events import PostPublished
from infra.adapters.event_log import PostgresEventLog
from infra.adapters.keyring import PostgresKeyring
from infra.adapters.migrations import migrate
from infra.adapters.postgres_discovery import PostgresDiscovery
from infra.adapters.postgres_projections import PostgresProjections
from infra.formats.codec import encode_state
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.ports.log import Recorded
from infra.runtime.embedded import EmbeddedRunner
from infra.runtime.project import Projector
from infra.runtime.rebuild import LOAD_LINES, rare_collections
from infra.servers.postgres import start_postgres
from projections import tags
from tests.benchmarks.harness import Result, interleaved
from tests.benchmarks.rebuild import NOON, read_and_decode

NAME = "trending"
TARGET = 0.3
EVENTS = 100_000
MEMBERS = 5_000
TAGS = 20_000
WORDS = "the garden was quiet after rain and somebody had left a kettle on near the open window"
EMPTY = (
    "TRUNCATE tags_b1.tagged_posts",
    "UPDATE public.checkpoints SET position = 0 WHERE projection = 'tags'",
)


def run(rounds: int) -> Result:
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        Path(folder).chmod(0o755)
        server, url = start_postgres(Path(folder))
        try:
            uvloop.run(fill(url, EVENTS))
            result = interleaved(
                NAME,
                unit="events/s",
                target=TARGET,
                rounds=rounds,
                measure=lambda: uvloop.run(folded(url, EVENTS)),
                probe=lambda: uvloop.run(read_and_decode(url, EVENTS)),
            )
            uvloop.run(tell_board(url))
            return result
        finally:
            server.stop()


async def fill(url: str, count: int) -> None:
    await migrate(url)
    keyring = await PostgresKeyring.connect(url)
    members = [id_text(1_000_000 + number * 7919) for number in range(MEMBERS)]
    await keyring.create_many(members)
    await keyring.fetch(members)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = connection.cursor()
        async with cursor.copy(
            "COPY log.events (originator_id, originator_version, topic, state, notification_id)"
            " FROM STDIN"
        ) as copy:
            for recorded in posts(members, keyring, count):
                state = encode_state(recorded)
                tag = tag_of(type(recorded.event))
                await copy.write_row((recorded.stream, 1, tag, state, recorded.position))
        await connection.execute("VACUUM ANALYZE log.events")
    await keyring.close()


def posts(members: list[str], keyring: PostgresKeyring, count: int) -> Iterator[Recorded]:
    """Posts by members of unequal activity with tags of unequal renown, within a day."""
    dice = random.Random(1)
    for position in range(1, count + 1):
        author = members[int(MEMBERS * dice.random() ** 2)]
        used = [f"#tag{int(TAGS * dice.random() ** 3)}" for _ in range(dice.randrange(4))]
        at = NOON + timedelta(seconds=86_000 * position / count)
        event = PostPublished(
            post_id=id_text(10**15 + position * 4_000_037),
            author_id=author,
            content=Personal(sealed=keyring.seal(author, " ".join([WORDS, *used]))),
            created_at=at,
        )
        yield Recorded(
            stream=f"post:{position}", version=1, recorded_at=at, event=event, position=position
        )


async def folded(url: str, count: int) -> float:
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
        await runner.run_to(count)
        seconds = time.perf_counter() - started
    await store.close()
    await keyring.close()
    await log.close()
    return count / seconds


async def tell_board(url: str) -> None:
    """How long the board takes that is made of all that."""
    discovery = PostgresDiscovery(url)
    moment = NOON + timedelta(hours=24)
    await discovery.tags(moment, 1)
    started = time.perf_counter()
    found = await discovery.tags(moment, TAGS)
    milliseconds = 1e3 * (time.perf_counter() - started)
    await discovery.close()
    sys.stderr.write(f"trending: {len(found):,} tags on a board in {milliseconds:.0f} ms\n")
