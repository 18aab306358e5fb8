"""Listens to what projections tell, on a connection of its own."""

from collections.abc import AsyncGenerator

import msgspec
import psycopg
import structlog

from infra.adapters.connections import bounded, connected
from infra.ports.frames import CHANGES_CHANNEL, Applied
from infra.ports.reads import ReadsUnavailable

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 5.0
QUIET_SECONDS = 1.0

decode = msgspec.json.Decoder(Applied).decode


class PostgresChanges:
    """`infra.ports.reads.Changes` by LISTEN."""

    def __init__(self, postgres_url: str) -> None:
        self._url = postgres_url

    async def follow(self) -> AsyncGenerator[Applied | None, None]:
        try:
            async with connected(self._url, "plaza-changes") as connection:
                with bounded(connection, ANSWER_SECONDS):
                    await connection.execute(f"LISTEN {CHANGES_CHANNEL}")
                yield None
                while True:
                    async for notice in connection.notifies(timeout=QUIET_SECONDS):
                        yield decode(notice.payload)
                    # A server that went away without a word is noticed by asking it something.
                    with bounded(connection, ANSWER_SECONDS):
                        await connection.execute("")
                    yield None
        except (psycopg.Error, OSError, msgspec.MsgspecError) as error:
            raise ReadsUnavailable(repr(error)) from error
