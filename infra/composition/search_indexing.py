"""Search indices, assembled: what keeps them current, and what operators do with them."""

import contextlib
from collections.abc import AsyncIterator, Sequence

from opensearchpy import AsyncOpenSearch

from infra.adapters.keyring import PostgresKeyring
from infra.adapters.opensearch_index import OpenSearchStore
from infra.adapters.postgres_builds import PostgresBuilds
from infra.adapters.postgres_documents import PostgresDocuments
from infra.adapters.search_client import search_client
from infra.adapters.search_letters import PostgresSetAside
from infra.composition.settings import Settings
from infra.ports.keepers import AlreadyRebuilding
from infra.ports.search import SearchProjection
from infra.runtime.frames import LogLines
from infra.runtime.search_filling import Alone, Filling
from infra.runtime.search_indexing import Pace, SearchIndexing, SearchMetrics, running


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
        await _indexing(settings, projection, lines, keyring, client, stack, metrics, pace)
        for projection in projections
    ]
    await stack.enter_async_context(running(kept))
    return kept


async def _indexing(  # noqa: PLR0913, PLR0917
    settings: Settings,
    projection: SearchProjection,
    lines: LogLines,
    keyring: PostgresKeyring,
    client: AsyncOpenSearch,
    stack: contextlib.AsyncExitStack,
    metrics: SearchMetrics,
    pace: Pace | None,
) -> SearchIndexing:
    source = PostgresDocuments(settings.postgres_url, projection, keyring)
    stack.push_async_callback(source.close)
    set_aside = await PostgresSetAside.open(settings.postgres_url, projection.name)
    stack.push_async_callback(set_aside.close)
    store = OpenSearchStore(client, projection.index)
    return SearchIndexing(
        projection,
        store,
        source,
        lines,
        Filling(store, source, alone(settings, projection.name)),
        set_aside=set_aside,
        metrics=metrics,
        pace=pace,
    )


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
