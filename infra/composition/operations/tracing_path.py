"""The path of one request through the system: from the log, and from what processes remember.

The log knows when each event was decided, and what caused it. Nothing durable knows when it was
applied: workers and query services remember that for a while, and are asked. What nobody knows any
more is said to be unknown; that it has been applied is then known from the checkpoints alone.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from infra.adapters.log.log_queries import LogQueries
from infra.composition.operations.log_history import position_in
from infra.composition.operations.watching import Watcher, watching
from infra.composition.settings import Settings
from infra.composition.supervision.process_metrics import Target
from infra.formats.codec import decode_lines, stored_tag
from infra.ports.frames import partition_of
from infra.ports.log import Recorded
from infra.ports.system_state import PROJECTION, SystemState
from infra.runtime.projecting.applied_history import AppliedAt
from projections.search import SEARCH

WITHIN = 1_000_000
STRETCH = 100_000
BEFORE, AFTER = 1_000, 100_000
"""How far around the newest event of a request the others of it are looked for."""

EVENTS_MAX = 200
ENVELOPE_BYTES = 1_024
PAGES = "pages"


class NoSuchTrace(Exception):
    """No event that was looked at belongs to a request of this id."""


async def path_of(settings: Settings, asked: str, within: int = WITHIN) -> dict[str, Any]:
    """`asked`: a correlation id (a request's id, or the trace id of its `traceparent`), a
    `traceparent`, or the position of one of the events. Raises `NoSuchTrace`, `LogUnavailable`.
    """
    queries = await LogQueries.open(settings.postgres_url)
    try:
        correlation_id, events = await events_of(queries, asked, within)
    finally:
        await queries.close()
    async with watching(settings) as watcher:
        look = await watcher.look()
        times = await asyncio.gather(*(applied(watcher, one) for one in events))
    return {
        "traceId": correlation_id,
        "events": [told(one, found, look.state) for one, found in zip(events, times, strict=True)],
        "asked": [target.labels["process"] for target in watcher.targets],
        "silent": [scrape.process for scrape in look.scrapes if not scrape.answered],
    }


async def events_of(queries: LogQueries, asked: str, within: int) -> tuple[str, list[Recorded]]:
    """The id, and the events that belong to it, in order; of very many the first ones."""
    correlation_id = trace_in(asked)
    newest = await queries.head()
    if asked.isdecimal():
        events, _ = decode_lines(await queries.at([int(asked)]))
        if events:
            correlation_id, newest = events[0].correlation_id, events[0].position
    found: list[Recorded] = []
    end = newest
    while not found and end > 0 and newest - end < within:
        found = await matching(queries, correlation_id, max(0, end - STRETCH), end)
        end -= STRETCH
    if not found:
        raise NoSuchTrace(
            f"no event of a request {asked} among the last {within:,} positions of the log"
        )
    first, last = found[0].position, found[-1].position
    earlier = await matching(queries, correlation_id, max(0, first - BEFORE), first - 1)
    later = await matching(queries, correlation_id, last, last + AFTER)
    return correlation_id, [*earlier, *found, *later][:EVENTS_MAX]


async def matching(queries: LogQueries, wanted: str, after: int, last: int) -> list[Recorded]:
    rows = queries.holding(wanted, after, last, within_bytes=ENVELOPE_BYTES)
    async with contextlib.aclosing(rows):
        lines = [line async for line in rows]
    return [one for one in decode_lines(lines)[0] if one.correlation_id == wanted]


def trace_in(asked: str) -> str:
    """The trace id of a `traceparent`, or what was asked as it is."""
    parts = asked.split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else asked


async def applied(watcher: Watcher, recorded: Recorded) -> list[AppliedAt]:
    """When each applier that remembers it had applied an event."""
    query = f"/applied?partition={partition_of(recorded.event)}&position={recorded.position}"
    answers = await asyncio.gather(*(watcher.ask(target, query) for target in asked_of(watcher)))
    found: list[AppliedAt] = []
    for answer in answers:
        if answer is not None:
            with contextlib.suppress(msgspec.DecodeError):
                found += msgspec.json.decode(answer, type=list[AppliedAt])
    return found


def asked_of(watcher: Watcher) -> Sequence[Target]:
    return [one for one in watcher.targets if one.labels["job"] in {"worker", "query-api"}]


def told(
    recorded: Recorded, times: Iterable[AppliedAt], state: SystemState | None
) -> dict[str, Any]:
    decided = recorded.recorded_at.timestamp()
    partition = partition_of(recorded.event)
    cause = position_in(recorded.causation_id, recorded.correlation_id, recorded.position)
    steps = [step(one, decided) for one in times if concerns(one.applier, recorded)]
    return {
        "position": recorded.position,
        "type": stored_tag(recorded),
        "stream": recorded.stream,
        "partition": partition,
        "decidedAt": recorded.recorded_at.isoformat(),
        "causedBy": cause,
        "steps": sorted(steps, key=lambda one: one["after"] or one["atMost"] or 0.0),
        "appliedBy": [] if state is None else reached(state, partition, recorded.position),
    }


def concerns(applier: str, recorded: Recorded) -> bool:
    """Whether an applier does anything for an event; an index has its own, and passes others by."""
    index = SEARCH.get(applier)
    return index is None or type(recorded.event) in index.handles


def step(one: AppliedAt, decided: float) -> dict[str, Any]:
    """`after` is how many seconds after the decision; where only a bound is known, `atMost`."""
    at = one.at if one.at is not None else one.before
    seconds = None if at is None else round(at - decided, 4)
    return {
        "what": one.applier,
        "at": None if at is None else datetime.fromtimestamp(at, UTC).isoformat(),
        "after": seconds if one.at is not None else None,
        "atMost": seconds if one.at is None else None,
    }


def reached(state: SystemState, partition: int, position: int) -> list[dict[str, Any]]:
    """Which projections of this partition have come this far, by their checkpoints."""
    return [
        {"projection": lag.name, "applied": lag.position >= position}
        for lag in state.lags
        if lag.kind == PROJECTION and lag.partition == partition
    ]
