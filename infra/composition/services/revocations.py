"""Keeps a service's revocations current with what projections say of sessions and members."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from domain.shared.identifiers import id_text
from infra.http.authentication import Revocations
from infra.ports.frames import Applied
from infra.ports.reads import Changes, Reads, ReadsUnavailable

RETRY_SECONDS = 1.0
SESSION_SECONDS_MAX = 400 * 86_400
"""So long a session is refused that ended: what is told does not say when it would expire."""

SESSIONS, MEMBERS = "sessions", "members"


async def follow_revocations(reads: Reads, changes: Changes, revocations: Revocations) -> None:
    """Run until cancelled. While projections cannot be read, what was known stays refused."""
    reader = RevocationReader(reads, revocations)
    while True:
        try:
            async with contextlib.aclosing(changes.follow()) as news:
                async for told in news:
                    # Without news, or with the first: look at all that may have been missed.
                    if told is None or told.everything or told.projection in (SESSIONS, MEMBERS):
                        await reader.catch_up()
        except ReadsUnavailable:
            await asyncio.sleep(RETRY_SECONDS)


class RevocationReader:
    """Reads who is to be refused: of ended sessions those it has not read yet, and all erased."""

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


class RevocationFollower:
    """Ended sessions are refused from the moment that their end is told.

    See `infra.runtime.projecting.live.Follower`.
    """

    def __init__(self, revocations: Revocations, now: Callable[[], float]) -> None:
        self._revocations = revocations
        self._now = now

    def begin(self) -> None: ...

    def end(self) -> None: ...

    def changed(self, applied: Applied) -> None:
        expiry = int(self._now()) + SESSION_SECONDS_MAX
        self._revocations.end_sessions((session, expiry) for session in applied.sessions)
