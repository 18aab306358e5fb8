"""Tells an event that is poison from code that is broken.

Poison parks its key. But where the events of many keys fail in the same way, it is the code that
cannot do them: parking would set the whole projection aside, key by key, and nobody would be told
but by a number. Then everything stops, and nothing is set aside.
"""

import traceback
from collections import defaultdict
from collections.abc import Iterable

from infra.formats.codec import EVENT_CLASSES, stored_tag
from infra.ports.frames import Unreadable
from infra.ports.log import Recorded

KEYS_MAX = 20
"""So many keys of one batch fail alike by the fault of our code."""

KEYS_ENOUGH = 5
"""So many, where no event of that type succeeds."""


class FoldBroken(Exception):
    """Events of many keys cannot be folded for the same reason. Mend the code, then go on."""


class Alike:
    """Counts, for one batch of a projection, the keys that fail in the same way."""

    def __init__(self, projection: str) -> None:
        self._projection = projection
        self._keys: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._errors: dict[tuple[str, str], Exception] = {}
        self._succeeded: set[str] = set()

    def failed(self, tag: str, key: str, error: Exception) -> None:
        """Raises `FoldBroken` from the error where it is one too many."""
        way = tag, f"{type(error).__name__} {place_of(error)}"
        self._keys[way].add(key)
        self._errors[way] = error
        if len(self._keys[way]) >= KEYS_MAX:
            self._give_up(way)

    def succeeded(self, events: Iterable[Recorded]) -> None:
        self._succeeded.update([stored_tag(recorded) for recorded in events])

    def finish(self) -> None:
        """The batch is done. Raises `FoldBroken` where a type failed throughout."""
        for way, keys in self._keys.items():
            if len(keys) >= KEYS_ENOUGH and way[0] not in self._succeeded:
                self._give_up(way)

    def _give_up(self, way: tuple[str, str]) -> None:
        error, count = self._errors[way], len(self._keys[way])
        raise FoldBroken(
            f"{self._projection} fails for {way[0]} of {count} keys in the same way: {error!r}"
        ) from error

    def unreadable(self, rows: Iterable[Unreadable]) -> None:
        """The same for rows that cannot be decoded, though their type is known; tell of those that
        can by `succeeded` before."""
        keys: defaultdict[str, set[str]] = defaultdict(set)
        for row in rows:
            if row.tag in EVENT_CLASSES:
                keys[row.tag].add(row.key)
        for tag, of_tag in keys.items():
            if len(of_tag) >= (KEYS_MAX if tag in self._succeeded else KEYS_ENOUGH):
                raise FoldBroken(f"{tag} of {len(of_tag)} keys cannot be decoded")


def place_of(error: Exception) -> str:
    """The line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
