"""Tells who waits that the log has grown: by the server's notices, or by looking."""

import asyncio
import contextlib

import psycopg
import structlog

from infra.adapters.connections import bounded, connected

CHANNEL = "plaza_log"
LOOK_SECONDS = 0.1
"""A notice that does not come is made up for by a look this often, while somebody waits."""

ANSWER_SECONDS = 5.0
BACKOFF_SECONDS = 0.5

HEAD = "SELECT coalesce(max(notification_id), 0) FROM log.events"

log = structlog.get_logger()


class LogListener:
    """Follows the head of the log on a connection of its own, which it renews when it is lost."""

    def __init__(self, postgres_url: str) -> None:
        self._url = postgres_url
        self._head = 0
        self._grown: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def advance(self, head: int) -> None:
        """The log has an event at this position."""
        if head > self._head:
            self._head = head
            if self._grown is not None and not self._grown.done():
                self._grown.set_result(None)

    async def wait(self, after: int, seconds: float) -> bool:
        """True as soon as the log has an event after this position; False after `seconds`."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen(), name="log-listener")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._head <= after:
                    if self._grown is None or self._grown.done():
                        self._grown = asyncio.get_running_loop().create_future()
                    # Many wait on one future: none of them may cancel it for the others.
                    await asyncio.shield(self._grown)
        return self._head > after

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _listen(self) -> None:
        while True:
            try:
                async with connected(self._url, "plaza-log-listener") as connection:
                    await self._follow(connection)
            except (psycopg.Error, OSError) as error:
                log.warning("log.listener_lost", error=repr(error))
                await asyncio.sleep(BACKOFF_SECONDS)

    async def _follow(self, connection: psycopg.AsyncConnection) -> None:
        await connection.execute(f"LISTEN {CHANNEL}")
        while True:
            if self._grown is not None and not self._grown.done():
                with bounded(connection, ANSWER_SECONDS):
                    cursor = await connection.execute(HEAD, prepare=True)
                    row = await cursor.fetchone()
                assert row is not None
                self.advance(row[0])
            async for notice in connection.notifies(timeout=LOOK_SECONDS, stop_after=1):
                if notice.payload.isdecimal():
                    self.advance(int(notice.payload))
