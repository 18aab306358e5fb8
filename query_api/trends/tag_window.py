"""Who used which tag when, in columns of numbers, and what trends by them at a moment.

A use is a tag, a member, and the second of the member's latest post with it. So nobody makes a tag
trend alone, and what is counted depends on nothing but what stands: neither on the order in which
uses came, nor on how often the same one did.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infra.ports.discovery import HALF_LIFE, UNIT, WINDOW, Uses

USES_MAX = 1_500_000
"""Of a busier day the newest so many are counted; they take 32 bytes each, and as much again for a
moment while a board is made."""

SPARE = 16
"""One in so many more is kept, to move up where newer ones are taken back."""

WINDOW_SECONDS = int(WINDOW.total_seconds())
# By age in seconds. Whole numbers, so that sums do not depend on the order of adding.
WEIGHTS = np.array(
    [round(UNIT * 0.5 ** (age / HALF_LIFE.total_seconds())) for age in range(WINDOW_SECONDS)],
    dtype=np.int64,
)

Numbers = NDArray[np.int64]


class Ranking(NamedTuple):
    """Tags, the weightiest first: how many people used each, and the newest post that shows how it
    is written."""

    tags: Numbers
    people: Numbers
    weights: Numbers
    positions: Numbers


class TagWindow:
    """Uses of the last 24 hours, by tag and then by member, each pair once."""

    def __init__(self, uses_max: int = USES_MAX) -> None:
        self._uses_max = uses_max
        self._uses = Uses.none()
        self._gone = 0

    def __len__(self) -> int:
        return len(self._uses.tags)

    def add(self, uses: Uses) -> None:
        """Take in uses, known ones or new."""
        # Next to others as old as these, which are not here any more, they would count too much.
        uses = latest_of_each(picked(uses, uses.seconds > self._gone))
        if not len(self):
            self._uses = uses
            return
        places, known = find(self._uses, uses)
        newer = known & (uses.seconds > self._uses.seconds[np.minimum(places, len(self) - 1)])
        replaced = places[newer]
        self._uses.seconds[replaced] = uses.seconds[newer]
        self._uses.positions[replaced] = uses.positions[newer]
        new = ~known
        self._uses = Uses(
            *(
                np.insert(column, places[new], added[new])
                for column, added in zip(self._uses, uses, strict=True)
            )
        )

    def remove(self, authors: Numbers) -> None:
        """Take out all uses by these members."""
        self._keep(~np.isin(self._uses.authors, authors))

    def prune(self, moment: int) -> None:
        """Let go of what has left the window, and of the oldest of what is too much."""
        too_old = moment - WINDOW_SECONDS
        too_many = self._nth_newest(self._uses_max + self._uses_max // SPARE) - 1
        kept = self._uses.seconds > max(too_old, too_many)
        # Moving all others costs something: that is done when it is worth it.
        if np.count_nonzero(kept) < len(self) * (1 - 1 / SPARE):
            self._keep(kept)
            self._gone = max(self._gone, too_many)

    def is_short(self, moment: int) -> bool:
        """Whether so many were taken back that older ones, let go of, should count again."""
        too_old = moment - WINDOW_SECONDS
        if self._gone <= too_old:
            return False
        return int(np.count_nonzero(self._uses.seconds > too_old)) < self._uses_max

    def outdates(self, second: int) -> bool:
        """Whether enough uses are newer than this for none from before to count."""
        return len(self) > self._uses_max and self._nth_newest(self._uses_max) > second

    def ranking(self, moment: int, limit: int) -> Ranking:
        """The weightiest tags at a moment, in seconds: by weight, then people, then tag."""
        tags, _, seconds, positions = self._uses
        if not len(tags):
            return Ranking(tags, tags, tags, tags)
        ages = moment - seconds
        counted = (ages >= 0) & (ages < WINDOW_SECONDS)
        if len(tags) > self._uses_max:
            counted &= seconds >= self._nth_newest(self._uses_max)
        weights = np.where(counted, WEIGHTS.take(ages, mode="clip"), 0)
        firsts = np.flatnonzero(np.r_[True, tags[1:] != tags[:-1]])
        people = np.add.reduceat(counted, firsts, dtype=np.int64)
        sums = np.add.reduceat(weights, firsts)
        candidates = np.flatnonzero(people)
        if len(candidates) > limit:
            least = np.partition(sums, len(sums) - limit)[len(sums) - limit]
            candidates = np.flatnonzero((sums >= least) & (people > 0))
        names = tags[firsts[candidates]]
        order = np.lexsort((names, -people[candidates], -sums[candidates]))[:limit]
        best = candidates[order]
        newest = np.maximum.reduceat(np.where(counted, positions, 0), firsts)
        return Ranking(names[order], people[best], sums[best], newest[best])

    def _nth_newest(self, count: int) -> int:
        """The second of the use that so many, itself included, are not older than; 0 if there are
        fewer."""
        seconds = self._uses.seconds
        if len(seconds) < count:
            return 0
        return int(np.partition(seconds, len(seconds) - count)[len(seconds) - count])

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        self._uses = picked(self._uses, kept)


def latest_of_each(uses: Uses) -> Uses:
    """In order of tags and members, each pair once."""
    order = np.lexsort((uses.positions, uses.seconds, uses.authors, uses.tags))
    tags, authors = uses.tags[order], uses.authors[order]
    last = np.ones(len(order), dtype=np.bool_)
    last[:-1] = (tags[1:] != tags[:-1]) | (authors[1:] != authors[:-1])
    return picked(uses, order[last])


def picked(uses: Uses, which: NDArray[Any]) -> Uses:
    return Uses(*(column[which] for column in uses))


def find(known: Uses, wanted: Uses) -> tuple[Numbers, NDArray[np.bool_]]:
    """Where each pair stands among these, which are not none, or would; and whether it is there."""
    low = np.searchsorted(known.tags, wanted.tags, "left")
    high = np.searchsorted(known.tags, wanted.tags, "right")
    ends = high.copy()
    last = len(known.tags) - 1
    while (searching := low < high).any():
        middle = (low + high) // 2
        before = known.authors[np.minimum(middle, last)] < wanted.authors
        low = np.where(searching & before, middle + 1, low)
        high = np.where(searching & ~before, middle, high)
    return low, (low < ends) & (known.authors[np.minimum(low, last)] == wanted.authors)
