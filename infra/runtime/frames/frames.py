"""Cuts the log into frames: runs of events of one partition, each naming the link before it.

The relay sends them through Kafka; the embedded runner hands them over in memory.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from infra.formats.codec import FrameLines, Line, decode_lines, without_social
from infra.ports.frames import (
    COMMERCE_PARTITIONS,
    SOCIAL_PARTITIONS,
    Frame,
    Unreadable,
    partition_of,
)
from infra.ports.log import Recorded

ALL_PARTITIONS = range(SOCIAL_PARTITIONS.start, COMMERCE_PARTITIONS.stop)


class LogLines(Protocol):
    """The log as a runner reads it: rows as they are stored, whether or not they can be decoded."""

    async def read_lines(self, after: int, limit: int) -> Sequence[Line]:
        """The next rows after a position, in order; fewer than `limit` only at the log's end.

        Raises `LogUnavailable`.
        """
        ...

    async def head(self) -> int: ...

    async def wait(self, after: int, seconds: float) -> bool: ...


def frames_between(
    after: int, last: int, lines: Iterable[Line], partitions: Iterable[int]
) -> list[Frame]:
    """One frame per partition, from all rows of the log after `after` up to `last`.

    Partitions without an event get a watermark; rows of other partitions are left out.
    """
    events: dict[int, list[Recorded]] = {partition: [] for partition in partitions}
    unreadable: dict[int, list[Unreadable]] = {}
    if COMMERCE_PARTITIONS.start <= min(events, default=0):
        # Most of the log is the other half's.
        lines = without_social(lines)
    decoded, refused = decode_lines(lines)
    for recorded in decoded:
        of_partition = events.get(partition_of(recorded.event))
        if of_partition is not None:
            of_partition.append(recorded)
    for row in refused:
        unreadable.setdefault(row.partition, []).append(row)
    return [
        Frame(partition, after, after + 1, last, found, unreadable.get(partition, ()))
        for partition, found in events.items()
    ]


class Framer:
    """Cuts the log into frames of stored rows, and remembers where each partition's chain ends.

    It starts at a position up to which everything has been sent, and takes that for the link of
    every partition (or the links given): whoever is not that far sees a gap, and reads the log.
    """

    def __init__(self, position: int, links: Mapping[int, int] | None = None) -> None:
        self._links = dict.fromkeys(ALL_PARTITIONS, position) | dict(links or {})

    @property
    def links(self) -> Mapping[int, int]:
        """The last position that each partition has been framed up to."""
        return dict(self._links)

    def frames(self, lines: Sequence[Line], lines_max: int, bytes_max: int) -> list[FrameLines]:
        """The next rows of the log as frames, none of them larger than allowed unless one row is.

        Frames of one partition stand in order.
        """
        by_partition: dict[int, list[Line]] = {}
        for line in lines:
            by_partition.setdefault(partition_of_line(line), []).append(line)
        return [
            self._frame(partition, part)
            for partition, of_partition in by_partition.items()
            for part in parts(of_partition, lines_max, bytes_max)
        ]

    def watermarks(self, position: int) -> list[FrameLines]:
        """Frames without events that bring every partition up to a position already framed."""
        behind = [partition for partition, link in self._links.items() if link < position]
        frames = []
        for partition in behind:
            link = self._links[partition]
            frames.append(FrameLines(partition, link, link + 1, position, []))
            self._links[partition] = position
        return frames

    def _frame(self, partition: int, lines: list[Line]) -> FrameLines:
        first, last = lines[0].position, lines[-1].position
        frame = FrameLines(partition, self._links[partition], first, last, lines)
        self._links[partition] = last
        return frame


def partition_of_line(line: Line) -> int:
    events, unreadable = decode_lines((line,))
    return partition_of(events[0].event) if events else unreadable[0].partition


def parts(lines: Sequence[Line], lines_max: int, bytes_max: int) -> list[list[Line]]:
    """Split rows, in order, so that no part has more rows or more bytes than allowed."""
    found: list[list[Line]] = []
    room = 0
    for line in lines:
        size = len(line.state) + len(line.stream)
        if not found or len(found[-1]) == lines_max or size > room:
            found.append([])
            room = bytes_max
        found[-1].append(line)
        room -= size
    return found
