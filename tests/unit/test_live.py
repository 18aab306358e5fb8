"""Following what projections tell: how far everything is, and what happens when it stops."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from typing import Any

from infra.ports.frames import SOCIAL_PARTITIONS, Applied
from infra.ports.reads import ReadsUnavailable
from infra.runtime.projecting.live import Live
from tests.waiting import until

EVERYWHERE = 10


class Told:
    """Changes as a test tells them; None in the queue loses the connection."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Applied | None] = asyncio.Queue()
        self.connections = 0

    async def follow(self) -> AsyncGenerator[Applied | None, None]:
        self.connections += 1
        yield None
        while (applied := await self.queue.get()) is not None:
            yield applied
        raise ReadsUnavailable("lost")


class Checkpoints:
    def __init__(self, position: int) -> None:
        self.position = position
        self.renewed: list[str] = []

    async def renew(self, switched: str = "") -> None:
        self.renewed.append(switched)

    async def checkpoints(self, names: Collection[str]) -> Mapping[str, Mapping[int, int]]:
        return {name: dict.fromkeys(SOCIAL_PARTITIONS, self.position) for name in names}


class Seen:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def begin(self) -> None:
        self.seen.append("begin")

    def end(self) -> None:
        self.seen.append("end")

    def changed(self, applied: Applied) -> None:
        self.seen.append(list(applied.posts))


def moved(name: str, position: int, posts: tuple[int, ...] = ()) -> Applied:
    return Applied(name, 1, dict.fromkeys(SOCIAL_PARTITIONS, position), posts=posts)


async def test_complete_is_what_every_projection_has_applied() -> None:
    told, seen = Told(), Seen()
    positions: list[int] = []
    reads: Any = Checkpoints(EVERYWHERE)
    live = Live(
        told, reads, projections=["graph", "posts"], followers=[seen], on_position=positions.append
    )
    following = asyncio.create_task(live.run())
    told.queue.put_nowait(moved("posts", 20, (7,)))
    told.queue.put_nowait(moved("else", 99))
    told.queue.put_nowait(moved("graph", 15))
    await until(lambda: len(positions) >= 3)
    assert (positions, live.complete, live.newest) == ([10, 10, 15], 15, 20)
    assert seen.seen == ["begin", [7], []]
    assert live.connected
    following.cancel()


async def test_a_lost_connection_forgets_everything_and_is_made_anew() -> None:
    told, seen = Told(), Seen()
    lost: list[bool] = []
    reads: Any = Checkpoints(EVERYWHERE)
    live = Live(
        told,
        reads,
        projections=["graph"],
        followers=[seen],
        on_position=lambda _: None,
        on_lost=lambda: lost.append(True),
    )
    following = asyncio.create_task(live.run())
    told.queue.put_nowait(moved("graph", 20))
    told.queue.put_nowait(None)
    await until(lambda: len(seen.seen) >= 4)
    # The tables may have been set back meanwhile: they are believed, not what was told before.
    assert seen.seen == ["begin", [], "end", "begin"]
    assert (lost, reads.renewed, live.complete) == ([True], ["", ""], EVERYWHERE)
    following.cancel()


async def test_other_tables_being_served_are_followed_without_a_break() -> None:
    told, seen = Told(), Seen()
    reads: Any = Checkpoints(EVERYWHERE)
    live = Live(told, reads, projections=["graph"], followers=[seen], on_position=lambda _: None)
    following = asyncio.create_task(live.run())
    told.queue.put_nowait(moved("graph", 20))
    told.queue.put_nowait(Applied("graph", 2, {}, everything=True))
    await until(lambda: len(seen.seen) == 3)
    assert reads.renewed == ["", "graph"]
    assert seen.seen == ["begin", [], []]
    assert (live.connected, live.newest) == (True, 20)
    following.cancel()
