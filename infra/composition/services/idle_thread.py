"""Runs long work in a thread that takes of the processors only what nobody else wants.

The rest of the process keeps its turn: what holds something still for a moment must get on.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import uvloop

from infra.adapters.niceness import idle

T = TypeVar("T")


async def in_idle_thread(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` answers or raises. It runs on a loop of its own, so that it has to open what it
    needs itself; when whoever waits is cancelled, so is it, and waited for.

    A process that is not in the background is in a hurry: there, the thread is as urgent as it is.
    """
    loop = asyncio.get_running_loop()
    running: asyncio.Future[Callable[[], object]] = loop.create_future()

    async def working() -> T:
        own, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        loop.call_soon_threadsafe(running.set_result, lambda: own.call_soon_threadsafe(task.cancel))
        return await work()

    def run() -> T:
        if os.nice(0) > 0:
            idle(0)
        return uvloop.run(working())

    # A thread that is idle once may have to stay so: nothing else is to be run in it.
    with ThreadPoolExecutor(1, "idle") as thread:
        ending = loop.run_in_executor(thread, run)
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            either: set[asyncio.Future[Any]] = {running, ending}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            # Its loop may have ended at this very moment.
            with contextlib.suppress(RuntimeError):
                if running.done():
                    running.result()()
            await asyncio.gather(ending, return_exceptions=True)
            raise
