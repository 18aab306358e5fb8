"""Every event ever stored can still be read. Lines are added when an event is; none is edited."""

from typing import Any

import msgspec
import pytest

from domain.shared.message import tag_of
from infra.formats.codec import decode_state, encode_state
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
