"""Waiting for what tells nobody, so that no test depends on how fast a machine is."""

import asyncio
from collections.abc import Callable

PATIENCE_SECONDS = 60.0


async def until(holds: Callable[[], object]) -> None:
    """Raises `TimeoutError` when it does not come to hold within `PATIENCE_SECONDS`."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
