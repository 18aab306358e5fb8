"""Frames without events are told later, and no gap shows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from domain.commerce.stock.events import StockReceived
from infra.ports.frames import Frame
from infra.ports.log import Recorded
from infra.runtime.projecting.sparse import Sparse
from tests.waiting import until

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Applier:
    name = "tables"

    def __init__(self) -> None:
        self.applied: list[Frame] = []

    async def checkpoints(self) -> Mapping[int, int]:
        return {8: 0}

    async def apply(self, frames: Sequence[Frame]) -> None:
        self.applied += frames


def watermark(previous: int, last: int) -> Frame:
    return Frame(8, previous, previous + 1, last)


def with_event(previous: int, last: int) -> Frame:
    event = StockReceived(product_id="mug", quantity=1, reference="r")
    recorded = Recorded(stream="stock:mug", version=1, recorded_at=NOON, event=event, position=last)
    return Frame(8, previous, last, last, (recorded,))


async def test_a_frame_with_events_takes_along_what_was_held_back() -> None:
    applier, now = Applier(), 100.0
    sparse = Sparse(applier, 60, lambda: now)
    for frame in (watermark(0, 10), watermark(10, 20), watermark(20, 30), with_event(30, 31)):
        await sparse.apply([frame])
    assert [(f.previous, f.first, f.last) for f in applier.applied] == [(0, 1, 10), (10, 11, 31)]


async def test_a_gap_stays_a_gap() -> None:
    applier, now = Applier(), 100.0
    sparse = Sparse(applier, 60, lambda: now)
    for frame in (watermark(0, 10), watermark(10, 20), with_event(25, 31)):
        await sparse.apply([frame])
    assert [(f.previous, f.last) for f in applier.applied] == [(0, 10), (25, 31)]


async def test_what_is_held_back_is_told_when_nothing_follows() -> None:
    applier = Applier()
    sparse = Sparse(applier, 0.05)
    await sparse.apply([watermark(0, 10)])
    await sparse.apply([watermark(10, 20)])
    await until(lambda: len(applier.applied) == 2)
    assert [frame.last for frame in applier.applied] == [10, 20]
