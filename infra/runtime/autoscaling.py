"""How many workers are wanted for what waits: the decision alone, for whoever starts them (K11).

Workers share eight partitions of each half, so that more than eight have nothing to do. One is
always wanted. Growing is decided at once, by how much waits; shrinking is one at a time, and only
after a quiet while, since taking partitions over costs each of them a pause.
"""

from dataclasses import dataclass
from math import ceil

from infra.ports.frames import PARTITIONS_PER_HALF

EVENTS_PER_WORKER_SECOND = 5_000
"""What one worker surely applies beside new events; measured ones do several times this."""

CATCH_UP_SECONDS = 30.0
"""In what time everything that waits should have been applied."""

LATE_SECONDS = 5.0
"""Up to this much lag is waves, not load."""

QUIET_SECONDS = 600.0


@dataclass(frozen=True)
class Load:
    """What waits for workers: events, and the age of the oldest of them in seconds."""

    waiting: int
    seconds: float


def workers_wanted(load: Load, workers_max: int = PARTITIONS_PER_HALF) -> int:
    """How many workers would apply all that waits in time."""
    if load.seconds <= LATE_SECONDS:
        return 1
    wanted = ceil(load.waiting / (EVENTS_PER_WORKER_SECOND * CATCH_UP_SECONDS))
    return min(max(wanted, 1), workers_max)


@dataclass(frozen=True)
class Scale:
    """How many workers there are, and since when no more than these were wanted."""

    workers: int
    quiet_since: float | None = None


def scaled(scale: Scale, load: Load, now: float, workers_max: int = PARTITIONS_PER_HALF) -> Scale:
    """The scale to go to: up at once, down by one after a quiet while, else as it is."""
    wanted = workers_wanted(load, workers_max)
    if wanted > scale.workers:
        return Scale(wanted)
    if wanted == scale.workers:
        return Scale(scale.workers)
    if scale.quiet_since is None:
        return Scale(scale.workers, quiet_since=now)
    if now - scale.quiet_since >= QUIET_SECONDS:
        return Scale(scale.workers - 1, quiet_since=now)
    return scale
