"""Where a timeline's skeleton comes from: pushed to Redis, else pulled from the read tables.

Both follow the timelines law, so a page is the same whichever answers. Redis fails open: while it
is away every page is pulled and says that it is degraded.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from infra.reads import Pulled, Reads
from query_api.pipeline import Candidate
from query_api.viewers import Viewer


@dataclass(frozen=True)
class Skeleton:
    """The newest 800 entries as of `position`, newest first, and where they came from."""

    position: int
    candidates: Sequence[Candidate]
    degraded: bool = False


class Place(NamedTuple):
    """Where a page begins: below the entry `last` of the timeline as of `position`."""

    position: int
    last: int


class Skeletons:
    """Answers skeletons by the pull path alone."""

    def __init__(self, reads: Reads, newest: Callable[[], Awaitable[int]]) -> None:
        self._reads = reads
        self._newest = newest

    async def first(self, viewer: Viewer, limit: int) -> Skeleton:
        return pulled(await self._reads.pull(viewer.number, await self._newest()))

    async def below(self, viewer: Viewer, place: Place, limit: int) -> Skeleton:
        found = pulled(await self._reads.pull(viewer.number, place.position))
        return Skeleton(place.position, beneath(found.candidates, place.last))


def pulled(found: Pulled) -> Skeleton:
    """What was pulled, without those whom the reader has stopped following since."""
    candidates = [(row.position, row.post_position) for row in found.entries if row.followed]
    return Skeleton(found.position, candidates)


def beneath(candidates: Sequence[Candidate], last: int) -> Sequence[Candidate]:
    """The candidates below an entry."""
    return [pair for pair in candidates if pair[0] < last]
