"""Looks at some documents of a search index at a time, and tells which are not what they should be.

An index is about a second behind the read tables, and longer where its server is slow: that is no
fault of a document. So one is wrong only if it differs from tables whose every event the index says
to show, and if nobody has written it while it was looked at twice.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from msgspec import Struct

from domain.shared.identifiers import id_number, id_text
from infra.ports.keepers import CannotVerify
from infra.ports.search import DocumentSource, SearchStore
from infra.runtime.indexing.search_comparison import numbers, same

LOOKS = 2
WAITS_MAX = 5

Rest = Callable[[], Awaitable[None]]
"""Pauses for as long as an index usually is behind, or longer."""


class Sample(Struct, frozen=True):
    """`last` is the id to go on after, 0 where these were the last documents there are."""

    documents: int
    last: int
    wrong: Sequence[str]


class SearchSampling:
    """Of one build of an index, while workers go on writing it.

    Raises `CannotVerify` where the index is behind, and `SearchUnavailable`, `StoreUnavailable` and
    `LogUnavailable`.
    """

    def __init__(self, store: SearchStore, source: DocumentSource, build: int, rest: Rest) -> None:
        self._store = store
        self._source = source
        self._build = build
        self._rest = rest

    async def after(self, after: int, count: int) -> Sample:
        """Look at the next so many documents in the order of ids, and at whatever the server has
        among them that should not be there."""
        read = await self._source.following(after, count)
        computed = {one.id: one for one in read.documents}
        last = max(computed) if len(read.documents) == count else ""
        served = {
            one.id: one
            async for page in self._store.by_id(self._build, id_text(after) if after else "", last)
            for one in page
        }
        ids = sorted(computed.keys() | served.keys())
        suspects = [one for one in ids if not same(computed.get(one), served.get(one))]
        return Sample(
            documents=len(ids),
            last=id_number(last) if last else 0,
            wrong=await self.wrong_of(suspects) if suspects else (),
        )

    async def wrong_of(self, ids: Collection[str]) -> Sequence[str]:
        """Which of these documents are wrong."""
        left: Mapping[str, int | None] = dict.fromkeys(ids)
        for look in range(LOOKS):
            if look:
                await self._rest()
            found = await self._differing(list(left))
            # What was written since the last look is to be looked at another time.
            left = {one: to for one, to in found.items() if not look or left[one] == to}
            if not left:
                break
        return list(left)

    async def _differing(self, ids: Sequence[str]) -> Mapping[str, int | None]:
        """Those that are not as in the tables, with the version of what is served instead."""
        read = await self._source.read(numbers(ids))
        await self._shown(read.checkpoints)
        await self._store.refresh(self._build)
        served = await self._store.documents(self._build, ids)
        computed = {one.id: one for one in read.documents}
        return {
            one: served[one].version if one in served else None
            for one in ids
            if not same(computed.get(one), served.get(one))
        }

    async def _shown(self, checkpoints: Mapping[int, int]) -> None:
        """Return once the index says to show everything up to here."""
        for _ in range(WAITS_MAX):
            reached = await self._store.positions(self._build)
            if all(reached.get(part, 0) >= position for part, position in checkpoints.items()):
                return
            await self._rest()
        raise CannotVerify(f"{self._store.index.name} is behind the tables")
