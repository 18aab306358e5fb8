"""Search indices, assembled: what keeps them current, and what operators do with them."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from infra.adapters.search.opensearch_index import OpenSearchStore
from infra.adapters.search.postgres_documents import PostgresDocuments
from infra.adapters.search.search_client import search_client
from infra.adapters.search.search_letters import PostgresSetAside
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.adapters.tables.postgres_builds import PostgresBuilds
from infra.composition.settings import Settings
from infra.ports.keepers import AlreadyRebuilding
from infra.ports.search import SearchProjection, SearchStore
from infra.runtime.frames.frames import LogLines
from infra.runtime.indexing.search_filling import Alone, Filling
from infra.runtime.indexing.search_indexing import Pace, SearchIndexing, SearchMetrics, running


async def indexing(  # noqa: PLR0913, PLR0917
    settings: Settings,
    projections: Sequence[SearchProjection],
    lines: LogLines,
    stack: contextlib.AsyncExitStack,
    metrics: SearchMetrics,
    pace: Pace | None = None,
) -> list[SearchIndexing]:
    """What keeps these indices, at work for as long as the stack is open; nothing where there is no
    search server."""
    if not projections or not settings.opensearch_url:
        return []
    keyring = await PostgresKeyring.connect(settings.postgres_url)
    stack.push_async_callback(keyring.close)
    client = search_client(settings.opensearch_url)
    stack.push_async_callback(client.close)
    kept = [
        await keeping(
            settings,
            projection,
            OpenSearchStore(client, projection.index),
            lines,
            keyring,
            stack,
            metrics,
            pace,
        )
        for projection in projections
    ]
    indices = [one.indexing for one in kept]
    await stack.enter_async_context(running(indices))
    return indices


@dataclass(frozen=True)
class Kept:
    """One index: where it is written, what from, and what keeps it current once it runs."""

    store: SearchStore
    source: PostgresDocuments
    set_aside: PostgresSetAside
    filling: Filling
    indexing: SearchIndexing


async def keeping(  # noqa: PLR0913, PLR0917
    settings: Settings,
    projection: SearchProjection,
    store: SearchStore,
    lines: LogLines,
    keyring: PostgresKeyring,
    stack: contextlib.AsyncExitStack,
    metrics: SearchMetrics,
    pace: Pace | None = None,
) -> Kept:
    """Everything that keeps one index in a store, open for as long as the stack is."""
    source = PostgresDocuments(settings.postgres_url, projection, keyring)
    stack.push_async_callback(source.close)
    set_aside = await PostgresSetAside.open(settings.postgres_url, projection.name)
    stack.push_async_callback(set_aside.close)
    filling = Filling(store, source, alone(settings, projection.name))
    indexing = SearchIndexing(
        projection,
        store,
        source,
        lines,
        filling,
        set_aside=set_aside,
        metrics=metrics,
        pace=pace,
    )
    return Kept(store, source, set_aside, filling, indexing)


def alone(settings: Settings, name: str) -> Alone:
    """Tries to be the only process that makes and fills builds of this index."""

    @contextlib.asynccontextmanager
    async def attempt() -> AsyncIterator[bool]:
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(PostgresBuilds(settings.postgres_url).alone([name]))
                first = True
            except AlreadyRebuilding:
                first = False
            yield first

    return attempt
