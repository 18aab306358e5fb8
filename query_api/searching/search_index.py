"""The search indices as pages ask them: with what was answered lately, and how far they are."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from infra.http.consistency import WAIT_SECONDS, behind
from infra.http.problems import Problem, unavailable
from infra.ports.log import Clock
from infra.ports.search_reads import IndexState, Kind, Query, SearchReads, SearchUnanswered
from query_api.caches.flights import Flights
from query_api.caches.generations import Generations

ANSWERS_MAX = 2_000
WORDS_MAX = 100_000
WORDS_SECONDS = 300.0
"""For so long a word that something had is not asked for again, only to learn whether it is
misspelt."""

STATE_SECONDS = 1.0
BEHIND_SECONDS = 10.0
POLL_SECONDS = 0.05

T = TypeVar("T")
Happened = Callable[[int, int], Awaitable[bool]]
log = structlog.get_logger(__name__)


def no_search(error: SearchUnanswered) -> Problem:
    return unavailable(f"{error} Everything but search works.", error.retry_seconds)


class SearchIndex(Collector):
    """`newest` answers the newest position that the read tables have heard of.

    `seconds` is how long an answer is kept, 0 for not at all. `happened` tells, for an index that
    hears of a part of the log alone, whether anything of that came after one position and up to
    another.
    """

    def __init__(  # noqa: PLR0913
        self,
        reads: SearchReads,
        newest: Callable[[], Awaitable[int]],
        clock: Clock,
        registry: CollectorRegistry,
        *,
        seconds: float,
        happened: Mapping[Kind, Happened],
    ) -> None:
        self.reads = reads
        self._newest = newest
        self._clock = clock
        self._answers = Flights(seconds, ANSWERS_MAX)
        self._happened = happened
        self._words: Generations[tuple[Kind, str], float] = Generations(WORDS_MAX)
        self._states: dict[Kind, _Watched] = {}
        self._reached: dict[Kind, int] = {}
        registry.register(self)

    def now(self) -> datetime:
        """The moment that answers are as of: the same for all that could be one."""
        moment = self._clock()
        return moment - timedelta(microseconds=moment.microsecond, seconds=moment.second)

    async def ask(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """What is made, or was made for the same key a moment ago. Raises a 503 problem where the
        search server does not answer."""
        try:
            return await self._answers.get(key, make)
        except SearchUnanswered as error:
            raise no_search(error) from error

    async def unknown(self, kind: Kind, query: Query) -> Sequence[str]:
        """See `SearchReads.unknown`. Raises a 503 problem."""
        if all(self._knows(kind, word) for word in query.spoken):
            return ()
        key = "unknown", kind, query.spoken
        unknown = await self.ask(key, lambda: self.reads.unknown(kind, query))
        self.learn(kind, [word for word in query.spoken if word not in unknown])
        return unknown

    def learn(self, kind: Kind, words: Iterable[str]) -> None:
        """These words are in something."""
        until = time.monotonic() + WORDS_SECONDS
        for word in words:
            self._words.put((kind, word), until)

    def _knows(self, kind: Kind, word: str) -> bool:
        until = self._words.get((kind, word))
        return until is not None and time.monotonic() < until

    # How far the indices are.

    async def reach(self, kind: Kind, position: int, seconds: float = WAIT_SECONDS) -> None:
        """Wait until what happened up to a position can be found. Raises a 503 problem."""
        if position <= self._reached.get(kind, 0):
            return
        try:
            async with asyncio.timeout(seconds):
                # The index is a server's: there is nothing to wait for but to ask it again.
                while not await self._is_at(  # noqa: ASYNC110
                    kind, await self.reads.state(kind), position
                ):
                    await asyncio.sleep(POLL_SECONDS)
                await self.reads.refresh(kind)
        except TimeoutError:
            raise behind() from None
        except SearchUnanswered as error:
            raise no_search(error) from error
        self._reached[kind] = position
        # What was answered before does not have it.
        self._answers.forget_all()

    async def _is_at(self, kind: Kind, state: IndexState, position: int) -> bool:
        if state.position >= position:
            return True
        happened = self._happened.get(kind)
        return happened is not None and not await happened(state.position, position)

    async def degraded(self, kind: Kind) -> bool:
        """Whether something that readers could expect to find cannot be found yet."""
        return (await self._watched(kind)).degraded

    async def filled(self, kind: Kind) -> float | None:
        """How much can be found, 0 to 1, while the index is filled; else None."""
        filled = (await self._watched(kind)).filled
        return None if filled >= 1 else round(filled, 2)

    async def _watched(self, kind: Kind) -> "_Watched":
        """It is looked up once a second, and not waited for: an answer may be so much older."""
        watched = self._states.get(kind)
        if watched is None:
            watched = self._states[kind] = _Watched()
            await self._look(kind, watched)
        elif time.monotonic() >= watched.look_at and watched.looking is None:
            watched.looking = asyncio.create_task(self._look(kind, watched))
        return watched

    async def _look(self, kind: Kind, watched: "_Watched") -> None:
        try:
            state = await self.reads.state(kind)
            # An index that was emptied has to be filled again first.
            self._reached[kind] = min(state.position, self._reached.get(kind, 0))
            is_there = await self._is_at(kind, state, watched.wanted)
            watched.learn(state, await self._newest(), time.monotonic(), is_there=is_there)
        except Exception as error:
            # Whoever searches finds out by themselves; this only says how far the index is.
            log.info("search.state_unknown", kind=kind, error=repr(error))
        finally:
            watched.look_at = time.monotonic() + STATE_SECONDS
            watched.looking = None

    # As metrics.

    def collect(self) -> list[Metric]:
        family = CounterMetricFamily(
            "plaza_search_answers",
            "Answers of the search indices, by whether they were made or shared",
            labels=["source"],
        )
        family.add_metric(["made"], self._answers.made)
        family.add_metric(["shared"], self._answers.shared)
        ratio = GaugeMetricFamily(
            "plaza_search_cache_hit_ratio", "Part of the answers that were shared, since the start"
        )
        asked = self._answers.made + self._answers.shared
        ratio.add_metric([], self._answers.shared / asked if asked else 0.0)
        return [family, ratio]


class _Watched:
    """What is known of one index, and which position it has to reach by when."""

    def __init__(self) -> None:
        self.degraded = False
        self.filled = 1.0
        self.look_at = 0.0
        self.looking: asyncio.Task[None] | None = None
        self.wanted = 0
        self._until = float("inf")

    def learn(self, state: IndexState, newest: int, now: float, *, is_there: bool) -> None:
        """`is_there`: everything up to what was wanted is."""
        if is_there:
            self.wanted, self._until = newest, now + BEHIND_SECONDS
        self.degraded = not state.complete or now > self._until
        self.filled = state.filled
