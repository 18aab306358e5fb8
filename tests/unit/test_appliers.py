"""What one worker keeps current is handed frames in order, and measured."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import pytest
from prometheus_client import CollectorRegistry

from domain.shared.message import tag_of
from infra.ports.frames import Frame
from infra.ports.tables import StoreUnavailable
from infra.runtime.projecting import appliers as appliers_module
from infra.runtime.projecting.applied_history import AppliedAt, AppliedHistory
from infra.runtime.projecting.appliers import ApplierMetrics, Appliers
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


class Away(Kept):
    away = True

    async def apply(self, frames: Sequence[Frame]) -> None:
        if self.away:
            raise StoreUnavailable("it does not answer")
        await super().apply(frames)


class Noting(Kept):
    noted: Collection[int] = (0,)

    def put_off(self) -> Collection[int]:
        return self.noted


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


async def test_events_and_positions_are_measured() -> None:
    registry = CollectorRegistry()
    target, _ = appliers(registry)
    await target.apply([Frame(0, 0, 1, 40, EVENTS), Frame(1, 0, 1, 40)])
    labels = {"projection": "tables", "partition": "0"}
    assert registry.get_sample_value("plaza_projection_position", labels) == 40
    newest = registry.get_sample_value("plaza_projection_last_event_timestamp_seconds", labels)
    assert newest == EVENTS[-1].recorded_at.timestamp()
    name = {"projection": "tables"}
    assert registry.get_sample_value("plaza_projection_events_total", name) == 40
    assert registry.get_sample_value("plaza_projection_visible_seconds_count", name) == 40
    types = Counter(tag_of(type(recorded.event)) for recorded in EVENTS)
    for tag, count in types.items():
        assert registry.get_sample_value("plaza_log_events_total", {"type": tag}) == count


async def test_what_is_handed_over_again_is_not_measured_again() -> None:
    registry = CollectorRegistry()
    target, _ = appliers(registry)
    assert await target.checkpoints() == {0: 7, 1: 4}
    frames = [Frame(0, 0, 1, 40, EVENTS)]
    for _ in range(2):
        await target.apply(frames)
    for name, new in (("tables", 33), ("timelines", 32)):
        labels = {"projection": name}
        assert registry.get_sample_value("plaza_projection_events_total", labels) == new
        assert registry.get_sample_value("plaza_projection_visible_seconds_count", labels) == new


LAG, AT = "plaza_projection_lag_seconds", {"projection": "tables", "partition": "0"}


async def test_the_lag_grows_while_the_stores_are_away_and_ends_when_they_are_back() -> None:
    registry, now = CollectorRegistry(), [EVENTS[0].recorded_at.timestamp() + 10]
    kept = Away("tables", {0: 0}, [])
    target = Appliers([kept], ApplierMetrics(registry, lambda: now[0]))
    for later in (0, 50):
        now[0] += later
        with pytest.raises(StoreUnavailable):
            await target.apply([Frame(0, 0, 1, 40, EVENTS)])
        assert registry.get_sample_value(LAG, AT) == 10 + later
    kept.away = False
    await target.apply([Frame(0, 0, 1, 40, EVENTS)])
    assert registry.get_sample_value(LAG, AT) == 0


async def test_what_is_only_noted_counts_as_waiting_until_it_is_caught_up_with() -> None:
    registry = CollectorRegistry()
    kept = Noting("tables", {0: 0}, [])
    metrics = ApplierMetrics(registry, lambda: EVENTS[0].recorded_at.timestamp() + 10)
    await Appliers([kept], metrics).apply([Frame(0, 0, 1, 40, EVENTS)])
    assert registry.get_sample_value(LAG, AT) == 10
    assert not registry.get_sample_value("plaza_projection_events_total", {"projection": "tables"})
    assert metrics.history.when(0, 40) == []
    kept.noted = ()
    assert registry.get_sample_value(LAG, AT) == 0


async def test_what_was_put_off_is_measured_once_it_is_caught_up_with() -> None:
    registry, now = CollectorRegistry(), [EVENTS[20].recorded_at.timestamp() + 10]
    metrics = ApplierMetrics(registry, lambda: now[0])
    target = Appliers([Noting("tables", {0: 0}, [])], metrics)
    await target.apply([Frame(0, 0, 1, 20, EVENTS[:20])])
    await target.apply([Frame(0, 20, 21, 40, EVENTS[20:])])
    metrics.caught_up("tables", {0: 10})
    lag = now[0] - EVENTS[0].recorded_at.timestamp()
    assert registry.get_sample_value(LAG, AT) == pytest.approx(lag)
    assert registry.get_sample_value("plaza_projection_position", AT) == 10
    metrics.caught_up("tables", {0: 20})
    assert registry.get_sample_value(LAG, AT) == pytest.approx(10)
    metrics.caught_up("tables", {0: 40})
    assert registry.get_sample_value(LAG, AT) == 0
    assert [one.at for one in metrics.history.when(0, 40)] == [now[0]]


async def test_of_very_many_frames_that_wait_the_oldest_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(appliers_module, "WAITING_MAX", 2)
    registry, now = CollectorRegistry(), [EVENTS[-1].recorded_at.timestamp()]
    metrics = ApplierMetrics(registry, lambda: now[0])
    target = Appliers([Noting("tables", {0: 0}, [])], metrics)
    for n in range(0, 40, 10):
        await target.apply([Frame(0, n, n + 1, n + 10, EVENTS[n : n + 10])])
    for reached, oldest in ((0, 0), (10, 10), (30, 10)):
        metrics.caught_up("tables", {0: reached})
        lag = now[0] - EVENTS[oldest].recorded_at.timestamp()
        assert registry.get_sample_value(LAG, AT) == pytest.approx(lag)


async def test_it_is_remembered_when_a_position_was_applied() -> None:
    now = [100.0]
    metrics = ApplierMetrics(CollectorRegistry(), lambda: now[0])
    target = Appliers([Kept("tables", {}, [])], metrics)
    await target.apply([Frame(0, 0, 1, 20, EVENTS[:20])])
    now[0] = 200.0
    await target.apply([Frame(0, 20, 21, 40, EVENTS[20:])])
    at = [[one.at for one in metrics.history.when(0, position)] for position in (1, 20, 21, 41)]
    assert at == [[100.0], [100.0], [200.0], []]


def test_of_what_was_before_the_memory_begins_only_the_bound_is_known() -> None:
    history = AppliedHistory(batches_max=2)
    for number in range(3):
        frame = Frame(0, number * 10, number * 10 + 1, number * 10 + 10, EVENTS[:1])
        history.note("tables", [frame], at=float(number))
    assert history.when(0, 5) == [AppliedAt("tables", before=1.0)]
    assert history.when(0, 15) == [AppliedAt("tables", at=1.0)]
