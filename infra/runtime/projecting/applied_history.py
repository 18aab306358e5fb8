"""When a worker applied what: remembered for a while, for whoever follows one event's path.

Nothing durable says it: a checkpoint is a position without a time. So each worker remembers its
last batches, and says since when it does.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from infra.ports.frames import Frame

BATCHES_MAX = 2_000
"""So many batches are remembered for each applier and partition."""


class Batch(NamedTuple):
    """What of a partition was applied at a moment: the positions after `previous`, up to `last`."""

    at: float
    previous: int
    last: int


class AppliedAt(Struct, frozen=True, rename="camel"):
    """When an applier had applied a position: at `at`, or before `before` if that is not known."""

    applier: str
    at: float | None = None
    before: float | None = None


class AppliedHistory:
    """The last batches that appliers of this process have applied, by partition."""

    def __init__(self, batches_max: int = BATCHES_MAX) -> None:
        self._kept: dict[str, defaultdict[int, deque[Batch]]] = {}
        self._batches_max = batches_max

    def note(self, applier: str, frames: Sequence[Frame], at: float) -> None:
        kept = self._of(applier)
        for frame in frames:
            if frame.events:
                kept[frame.partition].append(Batch(at, frame.previous, frame.last))

    def passed(self, applier: str, partition: int, batch: Batch) -> None:
        """Note one batch of a partition."""
        self._of(applier)[partition].append(batch)

    def reached(self, applier: str, partition: int, position: int, at: float) -> None:
        """Note that everything up to a position is there now, whatever came before."""
        batches = self._of(applier)[partition]
        before = batches[-1].last if batches else position
        if position != before or not batches:
            batches.append(Batch(at, before, position))

    def _of(self, applier: str) -> defaultdict[int, deque[Batch]]:
        kept = self._kept.get(applier)
        if kept is None:
            kept = self._kept[applier] = defaultdict(lambda: deque(maxlen=self._batches_max))
        return kept

    def when(self, partition: int, position: int) -> list[AppliedAt]:
        """For each applier that has applied it since this process started, when that was."""
        found = []
        for applier, kept in list(self._kept.items()):
            batches = list(kept.get(partition, ()))
            covering = next((n for n, batch in enumerate(batches) if batch.last >= position), None)
            if covering is None:
                continue
            batch = batches[covering]
            if covering or batch.previous < position:
                found.append(AppliedAt(applier, at=batch.at))
            else:
                found.append(AppliedAt(applier, before=batch.at))
        return found
