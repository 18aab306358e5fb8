"""Reading a range of the log from one end to the other, a batch ahead of whoever works on it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from infra.formats.codec import Line
from infra.runtime.frames.frames import LogLines

LINES_AT_ONCE = 5_000


async def lines_between(
    log: LogLines, after: int, before: int, lines_at_once: int = LINES_AT_ONCE
) -> AsyncGenerator[Sequence[Line], None]:
    """The rows between two positions; the next ones are read while these are worked on.

    Raises `LogUnavailable`.
    """
    reading = asyncio.ensure_future(log.read_lines(after, lines_at_once))
    try:
        while lines := await reading:
            last = lines[-1].position
            if last >= before - 1:
                if inside := [line for line in lines if line.position < before]:
                    yield inside
                return
            reading = asyncio.ensure_future(log.read_lines(last, lines_at_once))
            yield lines
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
