"""Builds read tables again from the first event, beside those being served, and switches over."""

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from structlog.stdlib import get_logger

from infra.ports import Frame
from infra.runtime.embedded import EmbeddedRunner
from infra.runtime.frames import LogLines
from infra.runtime.project import Projector
from infra.runtime.projection import Projection
from infra.tables import TableStore

LOAD_LINES = 20_000
CLOSE_ENOUGH = 2_000
"""From how few events behind on the live tables are held still for the switch."""

RETIRE_SECONDS = 3.0
"""How long readers have to notice that other tables are served."""

GARBAGE_THRESHOLDS = 100_000, 20, 100

log = get_logger(__name__)


class Builds(Protocol):
    """Where builds are made. Raises `StoreUnavailable`."""

    async def start(self, projections: Sequence[Projection]) -> dict[str, int]:
        """Make tables without indexes beside the live ones; answers their builds."""
        ...

    def loading(
        self, projections: Sequence[Projection], builds: dict[str, int]
    ) -> AbstractAsyncContextManager[TableStore]:
        """The tables of builds before they are completed."""
        ...

    async def complete(self, projections: Sequence[Projection], builds: dict[str, int]) -> None:
        """Make them fit to be read, and to be changed like live ones."""
        ...

    def completed(
        self, projections: Sequence[Projection], builds: dict[str, int]
    ) -> AbstractAsyncContextManager[TableStore]:
        """The tables of builds after that."""
        ...

    def switching(
        self, projections: Sequence[Projection], builds: dict[str, int]
    ) -> AbstractAsyncContextManager[int]:
        """Hold the live tables still at the position answered; switch at the end of the block."""
        ...

    async def drop_retired(self, projections: Sequence[Projection]) -> None: ...

    async def drop(self, builds: dict[str, int]) -> None: ...


async def rebuild(
    projections: Sequence[Projection],
    builds: Builds,
    lines: LogLines,
    progress: Callable[[int, int], None] = lambda _position, _head: None,
) -> None:
    """Load new builds from the log, catch up with what is live, and switch to them.

    What fails on the way leaves the live tables as they are, and no build behind.
    """
    made = await builds.start(projections)
    log.info("rebuild.started", builds=made)
    try:
        await load(projections, made, builds, lines, progress)
        async with builds.completed(projections, made) as store:
            target = Projector(projections, store, lines)
            runner = EmbeddedRunner(lines, target, partitions_of(projections))
            head = await lines.head()
            while head - min((await target.checkpoints()).values()) > CLOSE_ENOUGH:
                await runner.run_to(head)
                head = await lines.head()
            async with builds.switching(projections, made) as live_position:
                await runner.run_to(live_position)
    except BaseException:
        await builds.drop(made)
        raise
    log.info("rebuild.switched", builds=made)
    await asyncio.sleep(RETIRE_SECONDS)
    await builds.drop_retired(projections)


async def load(
    projections: Sequence[Projection],
    made: dict[str, int],
    builds: Builds,
    lines: LogLines,
    progress: Callable[[int, int], None] = lambda _position, _head: None,
) -> None:
    """Fill builds with everything up to the log's present end, and complete them."""
    head = await lines.head()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(rare_collections())
        projectors = []
        for projection in projections:
            store = await stack.enter_async_context(builds.loading([projection], made))
            projectors.append(Projector([projection], store, lines))
        target = SideBySide(projectors)
        runner = EmbeddedRunner(lines, target, partitions_of(projections), lines_max=LOAD_LINES)
        await runner.run_to(head, lambda position: progress(position, head))
    await builds.complete(projections, made)


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Folding makes many small objects and no cycles: looking for those costs a fifth."""
    before = gc.get_threshold()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class SideBySide:
    """Projectors that are handed the same frames at once: while one waits for its store, another
    folds. Each keeps a transaction of its own."""

    def __init__(self, projectors: Sequence[Projector]) -> None:
        self._projectors = projectors

    async def checkpoints(self) -> Mapping[int, int]:
        found = await asyncio.gather(*(one.checkpoints() for one in self._projectors))
        return {
            part: min(one[part] for one in found if part in one) for one in found for part in one
        }

    async def apply(self, frames: Sequence[Frame]) -> None:
        async with asyncio.TaskGroup() as group:
            for one in self._projectors:
                group.create_task(one.apply(frames))


def partitions_of(projections: Sequence[Projection]) -> Sequence[int]:
    return sorted({p for projection in projections for p in projection.partitions})
