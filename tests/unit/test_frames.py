"""How the log is cut into frames, and what of a frame is still to be applied."""

import pytest

from infra.formats.codec import Line, decode_frame, encode_frame, encode_state
from infra.ports.frames import Frame, partition_of
from infra.ports.log import Recorded
from infra.runtime.frames.frames import Framer, frames_between, parts
from infra.runtime.projecting.project import GapFound, planned
from tests.histories import History

EVENTS = list(History(seed=1).events(400))


def lines(events: list[Recorded]) -> list[Line]:
    return [Line(e.position, e.stream, e.version, encode_state(e)) for e in events]


def test_frames_of_a_partition_name_the_link_before_them() -> None:
    framer = Framer(0)
    sent = framer.frames(lines(EVENTS[:250]), 7, 100_000) + framer.frames(
        lines(EVENTS[250:]), 7, 100_000
    )
    reached = dict.fromkeys(range(16), 0)
    for frame in sent:
        assert frame.previous == reached[frame.partition]
        assert len(frame.lines) <= 7
        reached[frame.partition] = frame.last
    frames = [decode_frame(encode_frame(frame)) for frame in sent]
    assert sorted(e.position for f in frames for e in f.events) == [e.position for e in EVENTS]
    assert all(partition_of(e.event) == f.partition for f in frames for e in f.events)


def test_watermarks_bring_idle_partitions_up_to_a_position_once() -> None:
    framer = Framer(0)
    framer.frames(lines(EVENTS), 500, 1_000_000)
    watermarks = framer.watermarks(400)
    assert {frame.last for frame in watermarks} == {400}
    assert framer.watermarks(400) == []
    assert set(framer.links.values()) == {400}


def test_frames_between_two_positions_cover_every_partition() -> None:
    frames = frames_between(0, 400, lines(EVENTS), range(8))
    assert [(f.partition, f.previous, f.last) for f in frames] == [(p, 0, 400) for p in range(8)]
    assert sorted(e.position for f in frames for e in f.events) == list(range(1, 401))


def test_a_row_that_cannot_be_read_is_in_its_frame_as_such() -> None:
    bad = Line(401, "post:x", 3, b"\xc1")
    frames = frames_between(0, 401, [*lines(EVENTS), bad], range(8))
    (row,) = [row for frame in frames for row in frame.unreadable]
    assert (row.position, row.stream, row.version, row.state) == (401, "post:x", 3, b"\xc1")
    assert (row.key, row.tag) == ("post:x", "")


def test_rows_are_split_by_number_and_by_size() -> None:
    rows = [Line(n, "s", 1, b"x" * 9) for n in range(5)]
    assert [len(part) for part in parts(rows, 2, 1000)] == [2, 2, 1]
    assert [len(part) for part in parts(rows, 9, 30)] == [3, 2]
    assert [len(part) for part in parts(rows, 9, 1)] == [1, 1, 1, 1, 1]


def frame(previous: int, last: int, *positions: int) -> Frame:
    events = [EVENTS[position - 1] for position in positions]
    return Frame(0, previous, previous + 1, last, events)


def positions_planned(checkpoint: int, *frames: Frame) -> tuple[list[int], dict[int, int]]:
    plan = planned(frames, {0: checkpoint})
    return [e.position for e in plan.events], plan.positions


def test_a_frame_is_applied_once() -> None:
    once = frame(0, 5, 2, 5)
    assert positions_planned(0, once, once) == ([2, 5], {0: 5})
    assert positions_planned(5, once) == ([], {})


def test_of_a_frame_that_overlaps_only_the_rest_is_applied() -> None:
    assert positions_planned(4, frame(0, 9, 2, 4, 7)) == ([7], {0: 9})


def test_a_watermark_moves_the_checkpoint_alone() -> None:
    assert positions_planned(3, frame(3, 20)) == ([], {0: 20})


def test_a_frame_whose_predecessor_is_missing_is_a_gap() -> None:
    with pytest.raises(GapFound) as caught:
        positions_planned(0, frame(0, 5, 2, 5), frame(7, 9, 9))
    assert caught.value.partitions == {0}
