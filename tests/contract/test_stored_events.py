"""Every event ever stored can still be read. Lines are added when an event is; none is edited."""

from typing import Any

import msgspec
import pytest

from domain.shared.message import tag_of
from infra.formats.codec import Line, decode_state, encode_state
from infra.runtime.frames.frames import ALL_PARTITIONS, frames_between
from tests.contract.record_events import GoldenLine, event_classes, golden_lines

LINES = golden_lines()


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.tag)
def test_a_stored_event_reads_in_the_words_of_today(line: GoldenLine) -> None:
    recorded = decode_state(7, "stream", 3, bytes.fromhex(line.state))
    told = msgspec.json.decode(msgspec.json.encode(recorded.event))
    assert_tells(told, line.event)
    assert (recorded.position, recorded.stream, recorded.version) == (7, "stream", 3)
    assert (recorded.correlation_id, recorded.causation_id) == ("correlation", "causation")


def assert_tells(told: Any, stored: Any) -> None:
    """All that was stored, and besides at most fields that were added since."""
    if isinstance(stored, dict):
        for name, value in stored.items():
            assert_tells(told[name], value)
    elif isinstance(stored, list):
        for told_item, stored_item in zip(told, stored, strict=True):
            assert_tells(told_item, stored_item)
    else:
        assert told == stored


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.tag)
def test_what_was_read_is_written_so_that_it_reads_the_same(line: GoldenLine) -> None:
    recorded = decode_state(7, "stream", 3, bytes.fromhex(line.state))
    assert decode_state(7, "stream", 3, encode_state(recorded)) == recorded


def test_every_event_has_a_stored_line() -> None:
    missing = {tag_of(one) for one in event_classes()} - {line.tag for line in LINES}
    assert not missing, "python -m tests.contract.record_events adds them"


def test_no_tag_was_ever_given_to_two_events() -> None:
    tags = [tag_of(one) for one in event_classes()]
    assert len(tags) == len(set(tags))


def test_no_event_that_was_ever_stored_has_been_taken_out() -> None:
    gone = {line.tag for line in LINES} - {tag_of(one) for one in event_classes()}
    assert not gone


def test_frames_of_one_half_are_those_of_both() -> None:
    states = [bytes.fromhex(line.state) for line in LINES]
    # Neither is a row left out of which only its kind can be told, or not even that.
    states += [state.replace(b"_id", b"_ix") for state in states]
    states += [b"", b"\xc1", msgspec.msgpack.encode([None, "", "", {"type": "of.another.v1"}])]
    rows = [Line(place, f"s:{place}", 1, state) for place, state in enumerate(states, 1)]
    both = frames_between(0, len(rows), rows, ALL_PARTITIONS)
    for half in (ALL_PARTITIONS[:8], ALL_PARTITIONS[8:]):
        frames = frames_between(0, len(rows), rows, half)
        assert frames == [frame for frame in both if frame.partition in half]
        assert any(frame.unreadable for frame in frames)
