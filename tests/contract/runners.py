"""The runners that the contract is held to: each applies the log up to a position, then stops."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import psycopg
from prometheus_client import CollectorRegistry

from infra.codec import SOCIAL_PARTITIONS
from infra.composition import kafka_worker, relay
from infra.composition.projection_worker import opened
from infra.composition.settings import Settings
from infra.runtime.embedded import EmbeddedRunner

LOOK_SECONDS = 0.1

Run = Callable[[Settings, int], Coroutine[Any, Any, None]]


async def embedded(settings: Settings, position: int) -> None:
    async with opened(settings, processes=(), registry=CollectorRegistry()) as (log, appliers):
        await EmbeddedRunner(log, appliers, SOCIAL_PARTITIONS).run_to(position)


async def through_kafka(settings: Settings, position: int) -> None:
    """The relay and a Faust worker, in this process; `settings` name the broker."""
    tasks = [
        asyncio.create_task(kept_running(lambda: relay.serve(settings))),
        asyncio.create_task(kept_running(lambda: faust_worker(settings))),
    ]
    try:
        while not await is_applied(settings, position):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def faust_worker(settings: Settings) -> None:
    async with opened(settings, processes=(), registry=CollectorRegistry()) as (_, appliers):
        await kafka_worker.follow(settings, None, None, appliers)


async def is_applied(settings: Settings, position: int) -> bool:
    """Whether the least checkpoint has come so far; False also where nobody answers."""
    with suppress(psycopg.Error):
        async with await psycopg.AsyncConnection.connect(settings.postgres_url) as connection:
            found = await connection.execute("SELECT min(position) FROM checkpoints")
            least = (await found.fetchone() or (None,))[0]
            return least is not None and least >= position
    return False


async def kept_running(serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start it again whenever it fails, as the supervisor does."""
    while True:
        with suppress(Exception):
            await serve()
        await asyncio.sleep(LOOK_SECONDS)


RUNNERS: dict[str, Run] = {"embedded": embedded, "kafka": through_kafka}
