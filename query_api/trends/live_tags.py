"""The uses of tags as they stand now, kept in memory and brought up to date by what is new alone.

They are read once, the newest first, while whoever asks is shown what has been read so far. From
then on each look reads the posts since the last one, and all posts of those members of whose posts
one was deleted. Whatever is read twice changes nothing, so no reading has to fit the one before.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime

import numpy as np
import structlog

from infra.ports.discovery import WINDOW, TagUses, Trend, Uses
from infra.ports.log import OPEN, Clock
from query_api.trends.tag_window import USES_MAX, Ranking, TagWindow, picked

AUTHORS_AT_ONCE = 200
NAMES_MAX = 50_000

log = structlog.get_logger(__name__)


class LiveTags:
    """What trends now. All methods raise `ReadsUnavailable`."""

    def __init__(self, uses: TagUses, clock: Clock, uses_max: int = USES_MAX) -> None:
        self._uses = uses
        self._clock = clock
        self._uses_max = uses_max
        self._window = TagWindow(uses_max)
        self._build = 0
        self._reached = 0
        self._filling: asyncio.Task[None] | None = None
        self._filled = False
        self._looked_up: set[int] = set()
        self._turn = asyncio.Lock()
        self._names: dict[int, str] = {}

    async def filled(self, seconds: float) -> bool:
        """Whether everything has been read that counts; waits so long for it."""
        if self._filled:
            return True
        if self._filling is None:
            self._filling = asyncio.create_task(self._fill())
            self._filling.add_done_callback(self._ended)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # Whoever stops waiting does not stop it for the others.
                await asyncio.shield(self._filling)
        return self._filled

    async def ranked(self, limit: int) -> Sequence[Trend]:
        """The weightiest tags of what has been read, and of all that is new."""
        async with self._turn:
            moment = self._clock()
            await self._catch_up(moment)
            ranking = await asyncio.to_thread(self._window.ranking, second_of(moment), limit)
            if len(self._names) > NAMES_MAX:
                self._names.clear()
            return await named(self._uses, ranking, self._names)

    async def _fill(self) -> None:
        moment = self._clock()
        after = await self._uses.window_begins(moment)
        async with self._turn:
            changes = await self._uses.tag_changes(OPEN, moment - WINDOW)
            self._window = TagWindow(self._uses_max)
            self._looked_up.clear()
            self._build, self._reached = changes.build, changes.reached
        async for part in parts(self._uses, self._window, after, moment):
            # Of members who were looked up meanwhile everything is there, and this may be outdated.
            async with self._turn:
                known = np.isin(part.authors, list(self._looked_up))
                await asyncio.to_thread(self._window.add, picked(part, ~known))
        self._filled = True
        log.info("board.filled", uses=len(self._window))

    def _ended(self, filling: "asyncio.Task[None]") -> None:
        self._filling = None
        if not filling.cancelled() and (error := filling.exception()) is not None:
            log.warning("board.not_filled", error=repr(error))

    async def _catch_up(self, moment: datetime) -> None:
        since = moment - WINDOW
        changes = await self._uses.tag_changes(self._reached, since)
        if changes.build != self._build or changes.reached < self._reached:
            # Other tables are served, or the same from a copy that is older than what was read.
            self._start_again()
            return
        async for part in parts(self._uses, self._window, self._reached, moment):
            await asyncio.to_thread(self._window.add, part)
        for start in range(0, len(changes.authors), AUTHORS_AT_ONCE):
            authors = changes.authors[start : start + AUTHORS_AT_ONCE]
            uses = await self._uses.uses_of(authors, since)
            await asyncio.to_thread(replace, self._window, authors, uses)
            if not self._filled:
                self._looked_up.update(authors)
        self._reached = changes.reached
        await asyncio.to_thread(self._window.prune, second_of(moment))
        if self._filled and self._window.is_short(second_of(moment)):
            self._start_again()

    def _start_again(self) -> None:
        """Have everything read anew when it is asked for next."""
        self._filled = False


async def board_at(
    uses: TagUses, moment: datetime, position: int, limit: int, uses_max: int = USES_MAX
) -> Sequence[Trend]:
    """What trended at a moment, as of a position: read and counted like what trends now."""
    window = TagWindow(uses_max)
    after = await uses.window_begins(moment)
    async for part in parts(uses, window, after, moment, position):
        await asyncio.to_thread(window.add, part)
    ranking = await asyncio.to_thread(window.ranking, second_of(moment), limit)
    return await named(uses, ranking, {})


async def parts(
    uses: TagUses, window: TagWindow, after: int, moment: datetime, position: int = OPEN
) -> AsyncIterator[Uses]:
    """The uses by posts after a position, the newest first, as long as the window takes more."""
    last: int | None = position
    while last is not None:
        read = await uses.uses(after, last, moment - WINDOW, position)
        yield read.uses
        seconds = read.uses.seconds
        enough = len(seconds) > 0 and window.outdates(int(seconds.max()))
        last = None if read.first is None or enough else read.first - 1


async def named(uses: TagUses, ranking: Ranking, known: dict[int, str]) -> Sequence[Trend]:
    """The tags as they are written, equal ones by name; those that cannot be read are left out."""
    tags = ranking.tags.tolist()
    unknown = [place for place, tag in enumerate(tags) if tag not in known]
    if unknown:
        positions = ranking.positions[unknown].tolist()
        known.update(await uses.tag_names([tags[place] for place in unknown], positions))
    rows = zip(tags, ranking.people.tolist(), ranking.weights.tolist(), strict=True)
    trends = [Trend(known[tag], people, weight) for tag, people, weight in rows if tag in known]
    return sorted(trends, key=lambda trend: (-trend.weight, -trend.people, trend.name))


def replace(window: TagWindow, authors: Sequence[int], uses: Uses) -> None:
    window.remove(np.array(authors, dtype=np.int64))
    window.add(uses)


def second_of(moment: datetime) -> int:
    return int(moment.timestamp() // 1)
