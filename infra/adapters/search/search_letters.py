"""`ports.search.SetAside` on `public.dead_letters`: the documents that the search server refuses.

A letter holds the event that its document was last written for; the document itself is read anew
whenever it is tried again.
"""

from collections.abc import Collection, Mapping
from typing import Self

from infra.adapters.pools import Pool
from infra.formats.codec import encode_state, stored_tag
from infra.ports.frames import partition_of
from infra.ports.log import Recorded

CONNECTIONS_MAX = 1

PARK = """
    INSERT INTO public.dead_letters (projection, build, key, partition, position, stream, version,
        tag, state, error, trace, attempts, status)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, '', 1, 'parked')
    ON CONFLICT (projection, build, position) DO UPDATE
    SET error = excluded.error, status = 'parked', settled_at = NULL,
        attempts = public.dead_letters.attempts + 1
"""
SETTLE = """
    UPDATE public.dead_letters SET status = 'retried', attempts = attempts + 1, settled_at = now()
    WHERE projection = %s AND build = %s AND key = ANY(%s) AND status IN ('parked', 'waiting')
"""
REFUSED_AGAIN = """
    UPDATE public.dead_letters SET error = %s, attempts = attempts + 1
    WHERE projection = %s AND build = %s AND key = %s AND status IN ('parked', 'waiting')
"""
DISCARD = """
    UPDATE public.dead_letters SET status = 'discarded', why = %s, settled_at = now() WHERE id = %s
"""
PARKED = """
    SELECT DISTINCT key FROM public.dead_letters
    WHERE projection = %s AND build = %s AND status IN ('parked', 'waiting')
"""
OF_OTHERS = "DELETE FROM public.dead_letters WHERE projection = %s AND build <> ALL(%s)"


class PostgresSetAside:
    """The letters of one index."""

    def __init__(self, postgres_url: str, name: str) -> None:
        self._pool = Pool(postgres_url, "plaza-search-letters", CONNECTIONS_MAX, {})
        self._name = name

    @classmethod
    async def open(cls, postgres_url: str, name: str) -> Self:
        opened = cls(postgres_url, name)
        await opened._pool.open()
        return opened

    async def close(self) -> None:
        await self._pool.close()

    async def park(self, build: int, refused: Mapping[str, tuple[str, Recorded]]) -> None:
        for key, (error, recorded) in refused.items():
            row = (
                *(self._name, build, key, partition_of(recorded.event), recorded.position),
                *(recorded.stream, recorded.version, stored_tag(recorded)),
                *(encode_state(recorded), error.replace("\x00", "\ufffd")),
            )
            await self._pool.rows(PARK, row)

    async def settle(self, build: int, ids: Collection[str]) -> None:
        await self._pool.rows(SETTLE, [self._name, build, list(ids)])

    async def refused_again(self, build: int, key: str, error: str) -> None:
        await self._pool.rows(REFUSED_AGAIN, [error, self._name, build, key])

    async def discard(self, letter_id: int, why: str) -> None:
        """Leave this document out until an event touches it again."""
        await self._pool.rows(DISCARD, [why, letter_id])

    async def parked(self, build: int) -> Collection[str]:
        return {key for (key,) in await self._pool.rows(PARKED, [self._name, build])}

    async def keep_only(self, builds: Collection[int]) -> None:
        """Forget the letters of builds that there are not any more."""
        await self._pool.rows(OF_OTHERS, [self._name, list(builds)])
