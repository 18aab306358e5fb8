"""The state of the whole system, as an operator asks for it: who is how far behind the log."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct

from infra.ports.frames import partition_of
from infra.ports.log import Recorded

PROJECTION, PROCESS = "projection", "process"


class Follower(NamedTuple):
    """What follows the log: a projection or a process, and how far each partition of it is."""

    kind: str
    name: str
    positions: Mapping[int, int]


class Slice(NamedTuple):
    """Events of the log after a position, in order; `whole`: all there were."""

    after: int
    events: Sequence[Recorded]
    whole: bool


class Lag(NamedTuple):
    """How far one partition of a follower is behind: the age of the first event it has not."""

    kind: str
    name: str
    partition: int
    position: int
    seconds: float


class Checkouts(Struct, frozen=True, kw_only=True):
    """Checkouts that have not ended: how many by status, and the age of the oldest."""

    by_status: Mapping[str, int]
    oldest_seconds: float
    problems: int


class SystemState(Struct, frozen=True, kw_only=True):
    """As of the moment `at`. `waiting` is how many events each follower has not seen to yet;
    `at_most` names those of whom that is only a bound. `relay` is None where none has run."""

    at: datetime
    head: int
    lags: Sequence[Lag]
    waiting: Mapping[tuple[str, str], int]
    at_most: Collection[tuple[str, str]]
    dead_letters: Mapping[str, int]
    checkouts: Checkouts
    relay: int | None
    connections: int
    connections_max: int


def state_of(  # noqa: PLR0913
    followers: Sequence[Follower],
    slices: Mapping[int, Slice],
    *,
    at: datetime,
    head: int,
    dead_letters: Mapping[str, int],
    checkouts: Checkouts,
    relay: int | None,
    connections: int,
    connections_max: int,
) -> SystemState:
    """`slices` has what the log holds behind each position of a follower."""
    waiting = {(f.kind, f.name): waiting_for(f, slices, head) for f in followers}
    return SystemState(
        at=at,
        head=head,
        lags=[lag for follower in followers for lag in lags_of(follower, slices, at)],
        waiting={name: count for name, (count, _) in waiting.items()},
        at_most={name for name, (_, exact) in waiting.items() if not exact},
        dead_letters=dead_letters,
        checkouts=checkouts,
        relay=relay,
        connections=connections,
        connections_max=connections_max,
    )


def lags_of(follower: Follower, slices: Mapping[int, Slice], now: datetime) -> list[Lag]:
    """How late each partition of a follower is.

    Where a slice is not whole, and has nothing of the partition, the first event beyond it is not
    known: then the partition counts as late as the slice's last event, the most that it can be.
    """
    lags = []
    for partition, position in sorted(follower.positions.items()):
        following = slices[position]
        first = next((e for e in following.events if partition_of(e.event) == partition), None)
        if first is None and not following.whole and following.events:
            first = following.events[-1]
        late = 0.0 if first is None else (now - first.recorded_at).total_seconds()
        lags.append(Lag(follower.kind, follower.name, partition, position, max(0.0, late)))
    return lags


def waiting_for(follower: Follower, slices: Mapping[int, Slice], head: int) -> tuple[int, bool]:
    """How many events a follower has not seen to, and whether that is exact.

    Where more wait than were read it is how many positions the log is ahead, of which other
    followers' events and gaps take some.
    """
    positions = follower.positions
    if not positions:
        return 0, True
    least = slices[min(positions.values())]
    if not least.whole:
        return head - least.after, False
    count = sum(
        recorded.position > positions.get(partition_of(recorded.event), head)
        for recorded in least.events
    )
    return count, True
