"""How many posts a second reach a search index, against `_bulk` of the same by opensearch-py alone.

Through the projection: from the log and the read tables, sealed texts opened and cut into tokens,
into an index of the same mapping on the same server; embedded, and OpenSearch where it can run.
"""

import contextlib
import itertools
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop
from opensearchpy import AsyncOpenSearch
from prometheus_client import CollectorRegistry

from domain.shared.identifiers import make_id
from domain.shared.personal import Personal
from domain.social.member.events import MemberRegistered
from domain.social.post.events import PostPublished
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.migrations import migrate
from infra.adapters.search import text_analysis
from infra.adapters.search.opensearch_index import OpenSearchStore
from infra.adapters.search.search_client import search_client
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.adapters.tables.postgres_projections import PostgresProjections
from infra.composition.services.search_indexing import keeping
from infra.composition.settings import Settings
from infra.formats.codec import seal_event
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.ports.log import Recorded
from infra.ports.search import SearchStore
from infra.ports.search_documents import POSTS
from infra.runtime.frames.embedded import EmbeddedRunner
from infra.runtime.indexing.search_indexing import SearchIndexing, SearchMetrics
from infra.runtime.projecting.project import Projector
from infra.servers.java import JavaMissing, find_java
from infra.servers.opensearch import start_opensearch
from infra.servers.osmem import start_osmem
from infra.servers.postgres import start_postgres
from infra.servers.process import ServerProcess
from projections import engagement, members, posts
from projections.search import SEARCH_POSTS
from tests.benchmarks.harness import Result, interleaved

NAME = "indexing"
TARGET = 0.6
DOCUMENTS = 10_000
AUTHORS = 200
AT_ONCE = 1_000
WORDS = 18
REQUEST_SECONDS = 60.0
TABLES = (members.PROJECTION, posts.PROJECTION, engagement.PROJECTION)


def run(rounds: int) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        Path(folder).chmod(0o755)
        postgres, url = start_postgres(Path(folder, "postgres"))
        try:
            uvloop.run(publish(url, DOCUMENTS))
            text_analysis.prepare()
            return [
                measured(mode, url, Path(folder, mode), rounds) for mode in ("embedded", *full())
            ]
        finally:
            postgres.stop()


def full() -> Sequence[str]:
    try:
        find_java(os.environ)
    except JavaMissing:
        return ()
    return ("full",)


def measured(mode: str, url: str, folder: Path, rounds: int) -> Result:
    server, search_url = started(mode, folder)
    try:
        documents, mappings = uvloop.run(same_documents(url, search_url))
        return interleaved(
            f"{NAME}_{mode}",
            unit="documents/s",
            target=TARGET,
            rounds=rounds,
            measure=lambda: uvloop.run(indexed(url, search_url)),
            probe=lambda: uvloop.run(bulk(search_url, documents, mappings)),
        )
    finally:
        server.stop()


def started(mode: str, folder: Path) -> tuple[ServerProcess, str]:
    if mode == "embedded":
        return start_osmem(folder)
    return start_opensearch(folder, os.environ)


async def publish(url: str, count: int) -> None:
    """A log of posts like people write them, folded into tables."""
    await migrate(url)
    keyring = await PostgresKeyring.connect(url)
    log = await PostgresEventLog.open(url)
    chance = random.Random(1)
    vocabulary = [made_word(chance) for _ in range(5_000)]
    now = datetime(2026, 6, 1, 12, tzinfo=UTC)
    milliseconds = itertools.count(round(now.timestamp() * 1000))
    authors = [make_id(next(milliseconds), 0) for _ in range(AUTHORS)]
    await keyring.create_many(authors)
    await keyring.fetch(authors)
    events: list[tuple[str, Any]] = [
        (f"member:{author}", registered(author, number, now))
        for number, author in enumerate(authors)
    ]
    for number in range(count):
        words = [vocabulary[int(len(vocabulary) * chance.random() ** 3)] for _ in range(WORDS)]
        post = PostPublished(
            post_id=make_id(next(milliseconds), 0),
            author_id=chance.choice(authors),
            content=Personal(f"Today the {' '.join(words)} and that is all #{words[0]}"),
            created_at=now + timedelta(seconds=number),
        )
        events.append((f"post:{post.post_id}", post))
    for start in range(0, len(events), AT_ONCE):
        await log.append(
            [
                Recorded(
                    stream=stream, version=1, recorded_at=now, event=seal_event(event, keyring)
                )
                for stream, event in events[start : start + AT_ONCE]
            ]
        )
    tables = PostgresProjections(url, TABLES)
    await tables.checkpoints()
    runner = EmbeddedRunner(log, Projector(TABLES, tables, log), SOCIAL_PARTITIONS)
    await runner.run_to(await log.head())
    await tables.close()
    await log.close()
    await keyring.close()


def made_word(chance: random.Random) -> str:
    return "".join(chance.choice("aeioulnrstdm") for _ in range(chance.randrange(3, 10)))


def registered(author: str, number: int, now: datetime) -> MemberRegistered:
    return MemberRegistered(
        member_id=author,
        username_key=f"bench{number}",
        username=Personal(f"bench{number}"),
        display_name=Personal("Bench"),
        bio=Personal(""),
        email=Personal("bench@example.org"),
        created_at=now,
    )


@dataclass
class Opened:
    store: SearchStore
    indexing: SearchIndexing
    client: AsyncOpenSearch


@contextlib.asynccontextmanager
async def opened(url: str, search_url: str) -> AsyncIterator[Opened]:
    async with contextlib.AsyncExitStack() as stack:
        log = await PostgresEventLog.open(url)
        stack.push_async_callback(log.close)
        keyring = await PostgresKeyring.connect(url)
        stack.push_async_callback(keyring.close)
        client = search_client(search_url, REQUEST_SECONDS)
        stack.push_async_callback(client.close)
        store = OpenSearchStore(client, POSTS)
        settings = Settings(postgres_url=url, opensearch_url=search_url)
        metrics = SearchMetrics(CollectorRegistry())
        kept = await keeping(settings, SEARCH_POSTS, store, log, keyring, stack, metrics)
        yield Opened(kept.store, kept.indexing, client)


async def indexed(url: str, search_url: str) -> float:
    """Documents per second from an empty index to one that has caught up with the log."""
    async with opened(url, search_url) as world:
        build = await world.store.begin(dict.fromkeys(SOCIAL_PARTITIONS, 0), DOCUMENTS)
        started_at = time.perf_counter()
        await world.indexing.bring(build)
        seconds = time.perf_counter() - started_at
        await world.store.refresh(build)
        count = (await world.client.count(index=f"{POSTS.build_name(build)}-*"))["count"]
        assert count == DOCUMENTS, count
        await world.store.drop(build)
    return DOCUMENTS / seconds


async def same_documents(url: str, search_url: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the index holds, and by which mappings."""
    async with opened(url, search_url) as world:
        build = await world.store.begin(dict.fromkeys(SOCIAL_PARTITIONS, 0), DOCUMENTS)
        await world.indexing.bring(build)
        await world.store.refresh(build)
        found = [dict(one.fields) async for page in world.store.by_id(build) for one in page]
        indices = await world.client.indices.get_mapping(index=f"{POSTS.build_name(build)}-*")
        mappings: dict[str, Any] = next(iter(indices.values()))["mappings"]
        await world.store.drop(build)
    return found, mappings


async def bulk(
    search_url: str, documents: Sequence[dict[str, Any]], mappings: Mapping[str, Any]
) -> float:
    """Documents per second of sending them, and nothing more."""
    client = search_client(search_url, REQUEST_SECONDS)
    name = "bench-posts"
    settings = POSTS.template()["template"]["settings"]
    await client.indices.create(index=name, body={"settings": settings, "mappings": mappings})
    started_at = time.perf_counter()
    for start in range(0, len(documents), AT_ONCE):
        body: list[dict[str, Any]] = []
        for number, document in enumerate(documents[start : start + AT_ONCE], start):
            place = {"_id": document["postId"], "version": number, "version_type": "external_gte"}
            body += [{"index": place}, document]
        answer = await client.bulk(index=name, body=body)
        assert not answer["errors"]
    seconds = time.perf_counter() - started_at
    await client.indices.delete(index=name)
    await client.close()
    return len(documents) / seconds
