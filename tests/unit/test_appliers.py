"""What one worker keeps current is handed frames in order, and measured."""

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry

from infra.ports import Frame
from infra.runtime.appliers import ApplierMetrics, Appliers
from tests.histories import History

EVENTS = list(History(seed=3).events(40))


class Kept:
    def __init__(self, name: str, positions: dict[int, int], calls: list[str]) -> None:
        self.name = name
        self._positions = positions
        self._calls = calls

    async def checkpoints(self) -> Mapping[int, int]:
        return self._positions

    async def apply(self, frames: Sequence[Frame]) -> None:
        self._calls.append(self.name)
        self._positions.update({frame.partition: frame.last for frame in frames})


def appliers(registry: CollectorRegistry) -> tuple[Appliers, list[str]]:
    calls: list[str] = []
    tables = Kept("tables", {0: 7, 1: 9}, calls)
    timelines = Kept("timelines", {0: 8, 1: 4}, calls)
    return Appliers([tables, timelines], ApplierMetrics(registry)), calls


async def test_the_checkpoints_of_a_worker_are_the_least_of_what_it_keeps() -> None:
    target, _ = appliers(CollectorRegistry())
    assert await target.checkpoints() == {0: 7, 1: 4}


async def test_what_reads_tables_is_handed_frames_after_them() -> None:
    target, calls = appliers(CollectorRegistry())
    await target.apply([Frame(0, 0, 1, 40, EVENTS)])
    assert calls == ["tables", "timelines"]
    assert await target.checkpoints() == {0: 40, 1: 4}


async def test_events_positions_and_ages_are_measured() -> None:
    registry = CollectorRegistry()
    target, _ = appliers(registry)
    await target.apply([Frame(0, 0, 1, 40, EVENTS), Frame(1, 0, 1, 40)])
    labels = {"projection": "tables", "partition": "0"}
    assert registry.get_sample_value("plaza_projection_position", labels) == 40
    assert (registry.get_sample_value("plaza_projection_lag_seconds", labels) or 0) > 0
    idle = {"projection": "tables", "partition": "1"}
    assert registry.get_sample_value("plaza_projection_lag_seconds", idle) == 0
    name = {"projection": "tables"}
    assert registry.get_sample_value("plaza_projection_events_total", name) == 40
    assert registry.get_sample_value("plaza_projection_visible_seconds_count", name) == 40
