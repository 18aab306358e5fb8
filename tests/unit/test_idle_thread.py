"""Work in a thread that runs where nobody else wants to: what it answers, raises, how it ends."""

import asyncio
import os
import threading

import pytest

from infra.composition.services import idle_thread
from infra.composition.services.idle_thread import in_idle_thread
from tests.waiting import until


class Broken(Exception):
    """What a test has its work raise."""


async def test_it_runs_elsewhere_and_answers() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return threading.get_ident()

    assert await in_idle_thread(work) != threading.get_ident()


async def test_what_it_raises_is_raised_here() -> None:
    async def work() -> None:
        raise Broken

    with pytest.raises(Broken):
        await in_idle_thread(work)


async def test_whoever_is_cancelled_waits_for_its_end() -> None:
    begun, ended = threading.Event(), threading.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(in_idle_thread(work))
    await until(begun.is_set)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()


@pytest.mark.parametrize(("niceness", "idle"), [(0, []), (10, [0])])
async def test_only_in_the_background_it_gives_way(
    niceness: int, idle: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made_idle: list[int] = []
    monkeypatch.setattr(idle_thread, "idle", made_idle.append)
    monkeypatch.setattr(os, "nice", lambda _: niceness)

    async def work() -> None: ...

    await in_idle_thread(work)
    assert made_idle == idle
