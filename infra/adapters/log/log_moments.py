"""Which position the log had reached at a moment, by an index of the times of its events.

An event counts as recorded when the log first held its own or a later time. Clocks that go
backwards, or differ from process to process, then bring no position before one that stands in front
of it, and what was answered once stays so.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

Ask = Callable[[str, Sequence[Any]], Awaitable[Sequence[Sequence[Any]]]]
"""Runs one statement, and answers its rows."""

STRETCH = 1_024
"""For so many positions at a time it is kept how late it was."""

STRETCHES_AT_ONCE = 100
PATIENCE_SECONDS = 3.0
WAIT_SECONDS = 0.05

LOCK = 7_881_702_245_176
"""Held while the index is extended: each row is computed from the one before it."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

PROGRESS = """
    SELECT (SELECT coalesce(max(notification_id), 0) FROM log.events),
        (SELECT coalesce(max(last), 0) FROM log.moments)
"""
# Nothing is added where somebody else is at it, or has been since.
EXTEND = f"""
    WITH turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock({LOCK}) AS taken),
    known AS MATERIALIZED (
        SELECT last, latest FROM (
            (SELECT last, latest FROM log.moments ORDER BY last DESC LIMIT 1)
            UNION ALL SELECT 0, 0
            ORDER BY last DESC LIMIT 1) AS newest, turn
        WHERE turn.taken AND newest.last = %s),
    found AS (
        SELECT stretch.last, max(stretch.latest) AS latest FROM (
            SELECT ((notification_id - 1) / {STRETCH} + 1) * {STRETCH},
                log.recorded_at(state)
            FROM log.events, known WHERE notification_id > known.last AND notification_id <= %s
            UNION ALL SELECT %s, NULL FROM known) AS stretch (last, latest)
        GROUP BY stretch.last)
    INSERT INTO log.moments (last, latest)
    SELECT found.last, greatest(known.latest, max(found.latest) OVER (ORDER BY found.last))
    FROM found, known
    ON CONFLICT DO NOTHING
    RETURNING last
"""  # noqa: S608
REACHED = """
    WITH known AS MATERIALIZED (
        SELECT coalesce((SELECT last FROM log.moments WHERE latest <= %s
            ORDER BY latest DESC, last DESC LIMIT 1), 0) AS last)
    SELECT coalesce((
        SELECT notification_id - 1 FROM log.events
        WHERE notification_id > (SELECT last FROM known) AND log.recorded_at(state) > %s
        ORDER BY notification_id LIMIT 1), %s)
"""


class MomentsBehind(Exception):
    """The index lacks so much of the log that it cannot be waited for."""


async def extend(ask: Ask, seconds: float) -> int:
    """Bring the index up to the log's head, as far as time allows; answers that head.

    Raises `MomentsBehind` when there is more to do.
    """
    until = time.monotonic() + seconds
    while True:
        head, known = (await ask(PROGRESS, ()))[0]
        end = min(head // STRETCH, known // STRETCH + STRETCHES_AT_ONCE) * STRETCH
        if end <= known:
            return int(head)
        if time.monotonic() > until:
            raise MomentsBehind(f"times are known up to position {known} of {head}")
        if not await ask(EXTEND, (known, end, end)):
            await asyncio.sleep(WAIT_SECONDS)


async def position_at(ask: Ask, moment: datetime) -> int:
    """How far the log was at a moment: the last position before all that was recorded later.

    Of neighbours with the same time either all are in it or none. Raises `MomentsBehind`.
    """
    head = await extend(ask, PATIENCE_SECONDS)
    micros = (moment - EPOCH) // MICROSECOND
    return int((await ask(REACHED, (micros, micros, head)))[0][0])
