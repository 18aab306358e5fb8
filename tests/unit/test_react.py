"""How a process is run: at least once for each event, beside the frames, counted as it ends."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import pytest

from domain.social.relation.events import Blocked, Followed
from infra.adapters.processes.memory_progress import MemoryProgress
from infra.formats.codec import Line, encode_state
from infra.ports.frames import Frame, Unreadable, partition_of
from infra.ports.log import LogUnavailable, Recorded
from infra.runtime.reacting import react
from infra.runtime.reacting.react import ATTEMPTS_MAX, Process, ProcessRunner
from tests.waiting import until

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def followed(position: int) -> Recorded:
    event = Followed(follower_id=f"m{position}", followee_id="bob")
    stream = f"relation:bob:m{position}"
    return Recorded(stream=stream, version=1, recorded_at=NOON, event=event, position=position)


PARTITION = partition_of(followed(1).event)


def frame(previous: int, last: int, positions: Iterable[int]) -> Frame:
    return Frame(PARTITION, previous, previous + 1, last, [followed(at) for at in positions])


class StoredRows:
    """The log as the runner reads it."""

    def __init__(self, positions: Iterable[int]) -> None:
        self.lines = [
            Line(one.position, one.stream, one.version, encode_state(one))
            for one in map(followed, positions)
        ]

    async def read_lines(self, after: int, limit: int) -> Sequence[Line]:
        return [line for line in self.lines if line.position > after][:limit]

    async def head(self) -> int:
        return self.lines[-1].position

    async def wait(self, after: int, seconds: float) -> bool:
        raise AssertionError(f"nobody should wait ({after}, {seconds})")


class Watched:
    """A process that notes what it is handed, and does to it what the test says."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.failures: dict[int, list[Exception]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.progress = MemoryProgress()

    async def react(self, recorded: Recorded) -> None:
        self.seen.append(recorded.position)
        if self.failures.get(recorded.position):
            raise self.failures[recorded.position].pop()
        await self.gate.wait()

    def runner(self, rows: Iterable[int] = ()) -> ProcessRunner:
        process = Process("watched", frozenset({Followed}), self.react)
        return ProcessRunner(process, StoredRows(rows), self.progress)

    async def checkpoint(self) -> int:
        return (await self.progress.checkpoints("watched")).get(PARTITION, 0)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(react, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(react, "SAVE_SECONDS", 0)
    return Watched()


async def test_each_event_is_reacted_to_once_however_often_it_is_delivered(
    watched: Watched,
) -> None:
    runner = watched.runner()
    frames = [frame(0, 4, [2, 4]), frame(4, 9, [7])]
    await runner.apply(frames)
    await runner.apply(frames)
    await runner.idle()
    assert sorted(watched.seen) == [2, 4, 7]
    assert await watched.checkpoint() == 9


async def test_events_that_the_process_does_not_handle_pass_by(watched: Watched) -> None:
    blocked = Blocked(blocker_id="bob", blocked_id="ann")
    other = Recorded(
        stream="relation:ann:bob", version=1, recorded_at=NOON, event=blocked, position=3
    )
    runner = watched.runner()
    await runner.apply([Frame(partition_of(blocked), 0, 1, 3, [other])])
    await runner.idle()
    assert (watched.seen, await watched.checkpoint()) == ([], 3)


async def test_a_gap_is_filled_from_the_log(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(react, "SLICE_LINES_MAX", 2)
    runner = watched.runner(rows=[1, 3, 4, 6, 8, 9])
    await runner.apply([frame(8, 9, [9])])
    await runner.idle()
    assert sorted(watched.seen) == [1, 3, 4, 6, 8, 9]


async def test_a_slow_reaction_holds_back_the_checkpoint_and_nothing_else(
    watched: Watched,
) -> None:
    watched.gate.clear()
    runner = watched.runner()
    await runner.apply([frame(0, 5, [3])])
    await runner.apply([frame(5, 9, [7])])
    await until(lambda: sorted(watched.seen) == [3, 7])
    assert await watched.checkpoint() == 2
    assert (await runner.checkpoints())[PARTITION] == 9
    watched.gate.set()
    await runner.idle()
    assert await watched.checkpoint() == 9


async def test_what_was_not_finished_is_done_again_after_a_restart(watched: Watched) -> None:
    watched.gate.clear()
    stopped = watched.runner()
    await stopped.apply([frame(0, 5, [3])])
    await until(lambda: watched.seen == [3])
    await stopped.close()
    watched.gate.set()
    restarted = watched.runner(rows=[3])
    assert (await restarted.checkpoints())[PARTITION] == 2
    await restarted.apply([frame(5, 9, [])])
    await restarted.idle()
    assert (watched.seen, await watched.checkpoint()) == ([3, 3], 9)


async def test_a_reaction_that_fails_is_tried_again(watched: Watched) -> None:
    watched.failures[3] = [RuntimeError("twice"), RuntimeError("once")]
    runner = watched.runner()
    await runner.apply([frame(0, 5, [3])])
    await runner.idle()
    assert (watched.seen, watched.progress.parked) == ([3, 3, 3], {})


async def test_a_poison_event_is_set_aside_and_the_rest_goes_on(watched: Watched) -> None:
    watched.failures[3] = [RuntimeError("poison")] * ATTEMPTS_MAX
    runner = watched.runner()
    await runner.apply([frame(0, 5, [3, 4])])
    await runner.idle()
    parked = watched.progress.parked["watched", 3]
    assert (parked.error, parked.attempts) == ("RuntimeError('poison')", ATTEMPTS_MAX)
    assert parked.state == encode_state(followed(3))
    assert await watched.checkpoint() == 5


async def test_while_the_log_is_away_nothing_is_set_aside(watched: Watched) -> None:
    away = ExceptionGroup("several at once", [LogUnavailable(), LogUnavailable()])
    watched.failures[3] = [away] * (ATTEMPTS_MAX + 1)
    runner = watched.runner()
    await runner.apply([frame(0, 5, [3])])
    await runner.idle()
    assert (len(watched.seen), watched.progress.parked) == (ATTEMPTS_MAX + 2, {})


async def test_a_row_that_cannot_be_read_is_set_aside(watched: Watched) -> None:
    row = Unreadable(
        position=3,
        stream="s",
        version=1,
        state=b"?",
        tag="",
        key="s",
        partition=PARTITION,
        error="what?",
    )
    runner = watched.runner()
    await runner.apply([Frame(PARTITION, 0, 1, 5, [followed(4)], [row])])
    await runner.idle()
    assert (watched.seen, list(watched.progress.parked)) == ([4], [("watched", 3)])


async def test_a_partition_that_others_had_meanwhile_is_not_done_again(watched: Watched) -> None:
    runner = watched.runner(rows=range(1, 9))
    await runner.apply([frame(0, 2, [1, 2])])
    await runner.idle()
    await watched.progress.advance("watched", {PARTITION: 6})
    await runner.apply([frame(8, 9, [9])])
    await runner.idle()
    assert sorted(watched.seen) == [1, 2, 7, 8, 9]


async def test_an_event_set_aside_can_be_reacted_to_once_more(watched: Watched) -> None:
    watched.failures[3] = [RuntimeError("still")]
    runner = watched.runner()
    (row,) = StoredRows([3]).lines
    assert await runner.retry(row) == "RuntimeError('still')"
    assert watched.progress.settled["watched", 3] == ("parked", "RuntimeError('still')", "")
    assert await runner.retry(row) == ""
    assert watched.progress.settled["watched", 3] == ("retried", "", "")


async def test_an_event_set_aside_can_be_given_up_with_a_reason(watched: Watched) -> None:
    await watched.runner().discard(3, "a test event")
    assert watched.progress.settled["watched", 3] == ("discarded", "", "a test event")
