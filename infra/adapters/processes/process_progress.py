"""How far processes have got, beside the checkpoints of projections, and what they set aside."""

from collections.abc import Mapping

from infra.adapters.pools import Pooled
from infra.ports.processes import Parked, Settled

BUILD = 0
"""Processes have no tables of their own, and so no builds of them."""

CHECKPOINTS = """
    SELECT partition, position FROM public.checkpoints WHERE projection = %s AND build = %s
"""
ADVANCE = """
    INSERT INTO public.checkpoints AS c (projection, build, partition, position)
    SELECT %s, %s, partition, position
    FROM unnest(%s::integer[], %s::bigint[]) AS moved (partition, position)
    ON CONFLICT (projection, build, partition)
    DO UPDATE SET position = greatest(c.position, excluded.position)
"""
PARK = """
    INSERT INTO public.dead_letters (projection, build, key, partition, position, stream, tag,
        state, error, trace, attempts, version, status)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'parked')
    ON CONFLICT (projection, build, position) DO NOTHING
"""
SETTLE = """
    UPDATE public.dead_letters
    SET status = %s, error = %s, why = %s,
        attempts = attempts + CASE WHEN %s THEN 0 ELSE 1 END
    WHERE projection = %s AND build = %s AND position = %s
"""


class PostgresProgress(Pooled):
    """`infra.ports.processes.Progress` on `public.checkpoints` and `public.dead_letters`."""

    pool_name = "plaza-processes"
    connections_max = 1

    async def checkpoints(self, process: str) -> Mapping[int, int]:
        return dict(await self._pool.rows(CHECKPOINTS, [process, BUILD]))

    async def advance(self, process: str, positions: Mapping[int, int]) -> None:
        await self._pool.rows(ADVANCE, [process, BUILD, list(positions), list(positions.values())])

    async def park(self, process: str, parked: Parked) -> None:
        columns = (
            parked.key,
            parked.partition,
            parked.position,
            parked.stream,
            parked.tag,
            parked.state,
            parked.error,
            parked.trace,
            parked.attempts,
            parked.version,
        )
        await self._pool.rows(PARK, [process, BUILD, *columns])

    async def settle(
        self, process: str, position: int, status: Settled, *, error: str = "", why: str = ""
    ) -> None:
        given_up = status == "discarded"
        await self._pool.rows(SETTLE, [status, error, why, given_up, process, BUILD, position])
