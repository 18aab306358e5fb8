"""Switching builds while readers read: no page fails, is older than asked for, or shows both."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest

from infra.adapters.tables.postgres_builds import PostgresBuilds
from infra.adapters.tables.postgres_projections import PostgresProjections
from infra.http.whole_pages import WholePages
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.runtime.frames.embedded import EmbeddedRunner
from infra.runtime.projecting.project import Projector
from infra.runtime.rebuilding import rebuild as rebuilding
from infra.runtime.rebuilding.rebuild import Rebuilder
from projections import SOCIAL, graph
from tests.asking import Asking
from tests.square import Square

FOLLOWERS = 12
READERS = 8
SWITCHES = 6
APART = 1000


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "RETIRE_SECONDS", 0.0)


@contextlib.asynccontextmanager
async def worked(square: Square) -> AsyncIterator[None]:
    """A worker keeps the tables current, whichever are served."""
    projections = [projection.with_texts(square.keyring) for projection in SOCIAL]
    store = PostgresProjections(square.url, projections)
    runner = EmbeddedRunner(
        square.log, Projector(projections, store, square.log), SOCIAL_PARTITIONS
    )
    running = asyncio.create_task(runner.run())
    yield
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


async def test_every_page_is_of_one_build(postgres_url: str) -> None:
    square = await Square.open(postgres_url)
    ann, writer = await square.member("ann"), await square.member("writer")
    for number in range(FOLLOWERS):
        await square.follow(await square.member(f"f{number}"), ann)
    await square.apply()
    builds = PostgresBuilds(postgres_url)
    rebuilder = Rebuilder(builds, square.log, keep_seconds=3600)
    await rebuilder.rebuild([graph.PROJECTION])
    # The build that is not served: one follower fewer in the list, and counts far from true.
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "UPDATE graph_b1_retired.member_counts SET following = following + %s", [APART]
        )
        connection.execute(
            "DELETE FROM graph_b1_retired.follows WHERE since ="
            " (SELECT min(since) FROM graph_b1_retired.follows)"
        )
    seen: set[tuple[int, bool]] = set()
    done = asyncio.Event()
    newest = square.applied
    async with worked(square), Asking.open(square) as asking:

        async def read() -> int:
            pages = 0
            while not done.is_set():
                path = f"/api/users/{ann}/followers"
                answer = await asking.raw(path, writer, newest)
                assert answer.status_code == 200, answer.text
                users = answer.json()["users"]
                far = {user["followingCount"] >= APART for user in users}
                assert len(far) == 1
                seen.add((len(users), far.pop()))
                pages += 1
            return pages

        async def write() -> None:
            nonlocal newest
            while not done.is_set():
                post = await square.post(writer)
                other = await square.member(f"w{len(square.posts)}")
                newest = await square.follow(writer, other)
                answer = await asking.raw(f"/api/posts/{post}", writer, newest)
                assert answer.status_code == 200, answer.text

        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(read()) for _ in range(READERS)]
            group.create_task(write())
            for _ in range(SWITCHES):
                await rebuilder.switch(graph.PROJECTION, None)
                await asyncio.sleep(0.05)
            done.set()
        answer = await asking.http.get("/health/ready")
        assert answer.status_code == 200
    await square.close()
    assert seen == {(FOLLOWERS, False), (FOLLOWERS - 1, True)}
    assert sum(task.result() for task in readers) > SWITCHES * READERS


async def answered(
    pages: WholePages, app: Callable[..., Awaitable[None]], method: str = "GET", path: str = "/p"
) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    await pages.answer(app, {"type": "http", "method": method, "path": path}, receive, send)
    return sent


async def test_a_page_that_saw_a_switch_is_made_anew() -> None:
    served = 0

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal served
        await send({"page": served})
        if served < 3:
            served += 1
        await send({"page": served})

    assert await answered(WholePages(lambda: served), app) == [{"page": 3}, {"page": 3}]


async def test_a_command_and_a_stream_are_answered_once() -> None:
    served = 0

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal served
        served += 1
        await send({"page": served})

    pages = WholePages(lambda: served, frozenset({"/stream"}))
    assert await answered(pages, app, "POST") == [{"page": 1}]
    assert await answered(pages, app, "GET", "/stream") == [{"page": 2}]
    # Where switches never end, a page is answered all the same.
    assert len(await answered(pages, app)) == 1


async def test_what_fails_without_a_switch_fails() -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise LookupError("nothing there")

    with contextlib.suppress(LookupError):
        await answered(WholePages(lambda: 0), app)
        pytest.fail("nothing was raised")
