"""The runners that the contract is held to: each applies the log up to a position, then stops."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from prometheus_client import CollectorRegistry

from infra.adapters.connections import connected
from infra.composition.services.projection_worker import opened
from infra.composition.settings import Settings, to_environment
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.runtime.frames.embedded import EmbeddedRunner
from projections import SOCIAL

LOOK_SECONDS = 0.1
ROOT = Path(__file__).parents[2]
TABLES = [projection.name for projection in SOCIAL]

Run = Callable[[Settings, int], Coroutine[Any, Any, None]]


async def embedded(settings: Settings, position: int) -> None:
    async with opened(settings, processes=(), registry=CollectorRegistry()) as (log, appliers):
        await EmbeddedRunner(log, appliers, SOCIAL_PARTITIONS).run_to(position)


async def through_kafka(settings: Settings, position: int) -> None:
    """The relay and a Faust worker, each a process of its own; `settings` name the broker."""
    verbs = (("relay",), ("worker", "--projections", ",".join(TABLES)))
    tasks = [asyncio.create_task(kept_running(settings, verb)) for verb in verbs]
    try:
        while not await is_applied(settings, position):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def kept_running(settings: Settings, verb: Sequence[str]) -> None:
    """Start a process again whenever it ends, as the supervisor does; cancelled, it is killed."""
    environment = {**os.environ, **to_environment(settings)}
    while True:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "infra.command_line.main", *verb, env=environment, cwd=ROOT
        )
        try:
            await process.wait()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def is_applied(settings: Settings, position: int) -> bool:
    """Whether the least checkpoint has come so far; False also where nobody answers."""
    with suppress(psycopg.Error):
        async with connected(settings.postgres_url, "plaza-test") as connection:
            found = await connection.execute("SELECT min(position) FROM checkpoints")
            least = (await found.fetchone() or (None,))[0]
            return least is not None and least >= position
    return False


RUNNERS: dict[str, Run] = {"embedded": embedded, "kafka": through_kafka}
