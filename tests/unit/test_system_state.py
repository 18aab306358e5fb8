"""Who is how far behind the log: computed from checkpoints and the events behind them."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from infra.ports.frames import SOCIAL_PARTITIONS, partition_of
from infra.ports.log import LogUnavailable, Recorded
from infra.ports.system_state import (
    PROJECTION,
    Checkouts,
    Follower,
    Slice,
    SystemState,
    lags_of,
    state_of,
    waiting_for,
)
from infra.runtime.autoscaling import QUIET_SECONDS, Load, Scale, scaled, workers_wanted
from infra.runtime.system_metrics import SystemMetrics
from tests.histories import History

EVENTS = list(History(seed=4).events(60))
NOW = max(recorded.recorded_at for recorded in EVENTS) + timedelta(seconds=5)


def follower(position: int) -> Follower:
    return Follower(PROJECTION, "posts", dict.fromkeys(SOCIAL_PARTITIONS, position))


def behind(position: int, limit: int = 1_000) -> Slice:
    waiting = [recorded for recorded in EVENTS if recorded.position > position]
    return Slice(position, waiting[:limit], whole=len(waiting) <= limit)


def first_of(partition: int, events: Sequence[Recorded]) -> Recorded | None:
    return next((one for one in events if partition_of(one.event) == partition), None)


@pytest.mark.parametrize("position", [0, 10, 59, 60])
def test_a_partition_is_as_late_as_its_first_event_that_is_not_there(position: int) -> None:
    following = behind(position)
    lags = lags_of(follower(position), {position: following}, NOW)
    for lag in lags:
        first = first_of(lag.partition, following.events)
        expected = 0.0 if first is None else (NOW - first.recorded_at).total_seconds()
        assert lag.seconds == expected
    assert any(lag.seconds for lag in lags) == (position < 60)


def test_where_a_look_ends_before_a_partition_s_event_its_lag_is_the_most_it_can_be() -> None:
    following = behind(0, limit=1)
    lags = lags_of(follower(0), {0: following}, NOW)
    assert {lag.seconds for lag in lags} == {
        (NOW - following.events[0].recorded_at).total_seconds()
    }


def test_waiting_events_are_counted_or_bounded() -> None:
    assert waiting_for(follower(20), {20: behind(20)}, 60) == (40, True)
    assert waiting_for(follower(20), {20: behind(20, limit=5)}, 60) == (40, False)
    assert waiting_for(follower(60), {60: behind(60)}, 60) == (0, True)
    assert waiting_for(Follower(PROJECTION, "new", {}), {}, 60) == (0, True)


def state(position: int) -> SystemState:
    return state_of(
        [follower(position)],
        {position: behind(position)},
        at=NOW,
        head=60,
        dead_letters={"posts": 2},
        checkouts=Checkouts(by_status={"pending": 1}, oldest_seconds=7.0, problems=0),
        relay=None,
        connections=3,
        connections_max=100,
    )


async def test_gauges_are_there_only_while_the_state_can_be_looked_at() -> None:
    registry, looks, moment = CollectorRegistry(), [], [0.0]

    async def look() -> SystemState:
        looks.append(moment[0])
        if moment[0] == 5.0:
            raise LogUnavailable("gone")
        return state(60 if moment[0] else 0)

    metrics = SystemMetrics(registry, look, lambda: moment[0])
    labels = {"projection": "posts"}
    for at, expected in ((0.0, 60.0), (0.5, 60.0), (2.0, 0.0), (5.0, None), (9.0, 0.0)):
        moment[0] = at
        await metrics.refresh()
        assert registry.get_sample_value("plaza_read_model_waiting_events", labels) == expected
        up = registry.get_sample_value("plaza_system_view_up")
        assert up == (0.0 if expected is None else 1.0)
    # It is not looked twice within a second.
    assert looks == [0.0, 2.0, 5.0, 9.0]
    assert registry.get_sample_value("plaza_dead_letters", labels) == 2
    assert registry.get_sample_value("plaza_checkouts_open", {"status": "pending"}) == 1
    assert registry.get_sample_value("plaza_checkouts_open", {"status": "awaiting_action"}) == 0
    assert registry.get_sample_value("plaza_relay_waiting_positions") is None


@pytest.mark.parametrize(
    ("load", "workers"),
    [
        (Load(waiting=0, seconds=0.0), 1),
        # Much at once that is not late yet is a wave.
        (Load(waiting=10_000_000, seconds=1.0), 1),
        (Load(waiting=100_000, seconds=20.0), 1),
        (Load(waiting=400_000, seconds=20.0), 3),
        (Load(waiting=100_000_000, seconds=600.0), 8),
    ],
)
def test_as_many_workers_are_wanted_as_catch_up_in_time(load: Load, workers: int) -> None:
    assert workers_wanted(load) == workers


def test_it_is_scaled_up_at_once_and_down_one_by_one_after_a_quiet_while() -> None:
    late, quiet = Load(waiting=700_000, seconds=60.0), Load(waiting=0, seconds=0.0)
    scale = scaled(Scale(1), late, now=0.0)
    assert scale == Scale(5)
    scale = scaled(scale, quiet, now=10.0)
    assert scale == Scale(5, quiet_since=10.0)
    assert scaled(scale, quiet, now=10.0 + QUIET_SECONDS - 1) == scale
    scale = scaled(scale, quiet, now=10.0 + QUIET_SECONDS)
    assert scale.workers == 4
    assert scaled(scale, quiet, now=11.0 + QUIET_SECONDS).workers == 4
    # Load that comes back ends the quiet.
    again = Load(waiting=550_000, seconds=9.0)
    assert scaled(scale, again, now=20.0 + QUIET_SECONDS) == Scale(4)


def test_one_worker_always_stays() -> None:
    quiet, scale = Load(waiting=0, seconds=0.0), Scale(2)
    for step in range(10):
        scale = scaled(scale, quiet, now=step * QUIET_SECONDS)
    assert scale.workers == 1
