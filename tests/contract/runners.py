"""The runners that the contract is held to: each applies the log up to a position, then stops."""

from collections.abc import Callable, Coroutine
from typing import Any

from prometheus_client import CollectorRegistry

from infra.codec import SOCIAL_PARTITIONS
from infra.composition.projection_worker import opened
from infra.composition.settings import Settings
from infra.runtime.embedded import EmbeddedRunner

Run = Callable[[Settings, int], Coroutine[Any, Any, None]]


async def embedded(settings: Settings, position: int) -> None:
    async with opened(settings, processes=(), registry=CollectorRegistry()) as (log, appliers):
        await EmbeddedRunner(log, appliers, SOCIAL_PARTITIONS).run_to(position)


RUNNERS: dict[str, Run] = {"embedded": embedded}
