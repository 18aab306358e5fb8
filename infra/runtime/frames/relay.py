"""The relay: sends the log to Kafka as frames, in order, and remembers how far it got.

One relay is active; others wait until it is gone. What was sent but not remembered is sent again
after a crash, under the same links, so that whoever has it already skips it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from structlog.stdlib import get_logger

from infra.formats.codec import FrameLines
from infra.ports.frames import BrokerUnavailable, PlaceLost
from infra.ports.log import LogUnavailable
from infra.runtime.frames.frames import Framer, LogLines

LINES_MAX = 10_000
FRAME_LINES_MAX = 500
FRAME_BYTES_MAX = 500_000
WATERMARK_SECONDS = 0.1
GATHER_SECONDS = 0.02
IDLE_WAIT_SECONDS = 1.0
BACKOFF_SECONDS, BACKOFF_SECONDS_MAX = 0.1, 2.0
BACKOFF_RESET_SECONDS = 30.0

log = get_logger(__name__)


class FrameSender(Protocol):
    """A connection to the broker that keeps the order of each partition."""

    def send(self, frame: FrameLines) -> None:
        """Queue a frame behind those of its partition. Raises `BrokerUnavailable`."""
        ...

    async def flush(self) -> None:
        """Return once all frames sent so far are durable. Raises `BrokerUnavailable`."""
        ...


class Place(Protocol):
    """Where the relay has got to; it can be held by one process at a time."""

    async def load(self) -> tuple[int, Mapping[int, int]]:
        """The position up to which the log was sent, and the last link of each partition."""
        ...

    async def save(self, position: int, links: Mapping[int, int]) -> None:
        """Raises `PlaceLost` when this process does not hold the place any more."""
        ...


@dataclass(frozen=True)
class Relay:
    """`hold` waits until this process is the active relay; `open_sender` connects to the broker."""

    lines: LogLines
    hold: Callable[[], AbstractAsyncContextManager[Place]]
    open_sender: Callable[[], FrameSender]
    sent: Callable[[int, int], None] = lambda _events, _position: None

    async def run(self) -> None:
        """Relay until cancelled; while the log or the broker is away, try again."""
        backoff = BACKOFF_SECONDS
        while True:
            began = time.monotonic()
            try:
                async with self.hold() as place:
                    log.info("relay.active")
                    await self._relay(place)
            except (BrokerUnavailable, LogUnavailable, PlaceLost, OSError) as error:
                log.warning("relay.interrupted", error=str(error), retry_seconds=backoff)
            if time.monotonic() - began > BACKOFF_RESET_SECONDS:
                backoff = BACKOFF_SECONDS
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, BACKOFF_SECONDS_MAX)

    async def _relay(self, place: Place) -> None:
        position, links = await place.load()
        framer = Framer(position, links)
        sender = self.open_sender()
        marked_at = 0.0
        while True:
            lines = await self.lines.read_lines(position, LINES_MAX)
            frames = framer.frames(lines, FRAME_LINES_MAX, FRAME_BYTES_MAX)
            position = lines[-1].position if lines else position
            caught_up = len(lines) < LINES_MAX
            if time.monotonic() - marked_at > WATERMARK_SECONDS:
                frames += framer.watermarks(position)
                marked_at = time.monotonic()
            for frame in frames:
                sender.send(frame)
            if frames:
                await sender.flush()
                await place.save(position, framer.links)
                self.sent(len(lines), position)
            if caught_up:
                # What comes in the meantime travels in frames of several events.
                await asyncio.sleep(GATHER_SECONDS if lines else 0)
                behind = min(framer.links.values()) < position
                await self.lines.wait(position, WATERMARK_SECONDS if behind else IDLE_WAIT_SECONDS)
