"""How much of each search index is filled, asked of the server not more often than needed."""

import time
from collections.abc import Callable

from opensearchpy import AsyncOpenSearch

from infra.adapters.search.opensearch_index import OpenSearchStore
from infra.ports.search import SearchIndexState
from infra.ports.search_documents import INDICES

FILLING_SECONDS = 1.0
COMPLETE_SECONDS = 5.0


class SearchStates:
    """Remembers answers for a while: for longer once everything is in."""

    def __init__(
        self, client: AsyncOpenSearch, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._stores = {name: OpenSearchStore(client, index) for name, index in INDICES.items()}
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, SearchIndexState]] = {}

    async def of(self, name: str) -> SearchIndexState:
        """How much of this index, by its projection's name, is filled; 0 where there is none.

        Raises `SearchUnavailable`.
        """
        now = self._monotonic()
        until, state = self._known.get(name, (0.0, SearchIndexState(0.0)))
        if now >= until:
            state = await self._ask(name)
            seconds = COMPLETE_SECONDS if state.complete else FILLING_SECONDS
            self._known[name] = (now + seconds, state)
        return state

    async def _ask(self, name: str) -> SearchIndexState:
        for build in await self._stores[name].builds():
            if build.served:
                complete = build.status == "complete"
                # Full, but for what is being found out right now, is not complete.
                filled = 1.0 if complete else min(build.done / max(build.total, 1), 0.999)
                return SearchIndexState(filled)
        return SearchIndexState(0.0)
