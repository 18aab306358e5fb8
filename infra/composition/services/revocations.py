"""Keeps a service's revocations current with what projections say of sessions and members."""

import asyncio
import contextlib
import time

from domain.shared.identifiers import id_text
from infra.http.authentication import Revocations
from infra.ports.reads import Changes, Reads, ReadsUnavailable

RETRY_SECONDS = 1.0
SESSIONS, MEMBERS = "sessions", "members"


async def follow_revocations(reads: Reads, changes: Changes, revocations: Revocations) -> None:
    """Run until cancelled. While projections cannot be read, what was known stays refused."""
    follower = Follower(reads, revocations)
    while True:
        try:
            async with contextlib.aclosing(changes.follow()) as news:
                async for told in news:
                    # Without news, or with the first: look at all that may have been missed.
                    if told is None or told.everything or told.projection in (SESSIONS, MEMBERS):
                        await follower.catch_up()
        except ReadsUnavailable:
            await asyncio.sleep(RETRY_SECONDS)


class Follower:
    def __init__(self, reads: Reads, revocations: Revocations) -> None:
        self._reads = reads
        self._revocations = revocations
        self._after = 0

    async def catch_up(self) -> None:
        self._revocations.forget_expired(time.time())
        ended = await self._reads.ended_sessions(self._after)
        self._revocations.end_sessions((session, expiry) for session, expiry, _ in ended)
        self._after = max([self._after, *(position for _, _, position in ended)])
        erased = await self._reads.erased_members()
        self._revocations.erase_members(id_text(number) for number in erased)
