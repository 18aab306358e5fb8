"""How events travel to who folds them: partitions, frames, and what is told once it is done."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from msgspec import Struct

from domain.shared.message import Event
from infra.ports.log import Recorded

PARTITIONS_PER_HALF = 8
SOCIAL_PARTITIONS = range(PARTITIONS_PER_HALF)
COMMERCE_PARTITIONS = range(PARTITIONS_PER_HALF, 2 * PARTITIONS_PER_HALF)


def ordering_key(event: Any) -> str:
    """The value by which this event must stay in order."""
    return str(getattr(event, event.ordered_by))


def partition_of(event: Any) -> int:
    """The partition that an event travels through: its half's, by the hash of its ordering key."""
    event_class: type[Event] = type(event)
    half, key = _half_and_key(event_class)
    return partition_in(half, str(getattr(event, key)))


@cache
def _half_and_key(event_class: type[Event]) -> tuple[range, str]:
    half = COMMERCE_PARTITIONS if is_commerce(event_class) else SOCIAL_PARTITIONS
    return half, event_class.ordered_by


def partition_in(half: range, key: str) -> int:
    """The partition of one half that an ordering key belongs to."""
    return half.start + zlib.crc32(key.encode()) % PARTITIONS_PER_HALF


def is_commerce(event_class: type) -> bool:
    return event_class.__module__.startswith("domain.commerce.")


@dataclass(frozen=True)
class Frame:
    """A run of one partition's events, in order, that names the event before it.

    `previous` is the position of the partition's last event (or watermark) before this frame, 0 at
    its beginning. A frame without events is a watermark: the partition has nothing up to `last`.
    `unreadable` are the rows among them that no event could be made of.
    """

    partition: int
    previous: int
    first: int
    last: int
    events: Sequence[Recorded] = field(default_factory=tuple)
    unreadable: Sequence["Unreadable"] = field(default_factory=tuple)


class Unreadable(Struct, frozen=True, kw_only=True):
    """A row of the log that could not be decoded: who folds it sets it aside.

    `tag` and `key` are what could still be made out of it: the event's type, or nothing, and its
    ordering key, or else the stream's name.
    """

    position: int
    stream: str
    version: int
    state: bytes
    tag: str
    key: str
    partition: int
    error: str


class Applied(Struct, frozen=True, omit_defaults=True):
    """What projections tell on the channel `plaza_changes`, as JSON, with the commit that did it.

    `positions`: how far each partition of the projection's build is now. The rest are the ids that
    rows changed for: posts and members by number, `relations` the members whose follows, blocks,
    mutes, likes or reposts changed, sessions by id, products by number. `everything`: more than a
    notification can hold changed. A `build` not heard of before means that other tables are served
    from now on: look the search path up again.
    """

    projection: str
    build: int
    positions: Mapping[int, int]
    posts: Sequence[int] = ()
    members: Sequence[int] = ()
    relations: Sequence[int] = ()
    sessions: Sequence[str] = ()
    products: Sequence[int] = ()
    everything: bool = False


CHANGES_CHANNEL = "plaza_changes"


class FrameTarget(Protocol):
    """What a runner (the embedded one, or a Faust agent) hands frames to."""

    async def checkpoints(self) -> Mapping[int, int]:
        """How far each partition has been applied: the least of all projections in this worker."""
        ...

    async def apply(self, frames: Sequence[Frame]) -> None:
        """Apply frames once each, whatever their order and number of deliveries. Raises only when
        the stores stay away; then nothing is lost by applying the same frames again."""
        ...


class BrokerUnavailable(Exception):
    """The broker did not take what was sent, or does not answer. It has to be sent again."""


class PlaceLost(Exception):
    """The connection that held the relay's place is gone: another relay may be active by now."""
