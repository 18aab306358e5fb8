"""Who gets an author's entries: the followers, and which of them have a timeline to push to."""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from infra.ports.timelines import Keys, Members

MEMBERS_MAX = 8_000_000
REMEMBERED_MAX = 100_000


@dataclass
class Audience:
    """The members an ordinary author's entries are for, the author among them, sorted by id.

    `parts` name the timelines to push to, as far as begun timelines were known at `seen`; None
    when that has to be worked out again.
    """

    position: int
    members: Members
    parts: Sequence[Keys] | None = None
    seen: int = 0
    ordered_at: float = 0.0

    @property
    def followers(self) -> int:
        return len(self.members) - 1

    def __contains__(self, member_id: int) -> bool:
        at = int(np.searchsorted(self.members, member_id))
        return at < len(self.members) and self.members[at] == member_id

    def add(self, member_id: int, position: int) -> None:
        # What comes again after a step was refused is in it already.
        if position > self.position:
            self.position = position
            at = int(np.searchsorted(self.members, member_id))
            if at == len(self.members) or self.members[at] != member_id:
                self.members = np.insert(self.members, at, member_id)
            self.parts = None

    def remove(self, member_id: int, position: int) -> None:
        if position > self.position:
            self.position = position
            at = int(np.searchsorted(self.members, member_id))
            if at < len(self.members) and self.members[at] == member_id:
                self.members = np.delete(self.members, at)
            self.parts = None


def audience_of(author_id: int, followers: Members, position: int) -> Audience:
    return Audience(position, np.unique(np.append(followers, author_id)))


class Audiences:
    """Audiences by author; those not used for longest are forgotten when there are too many.

    `sizes`: of celebrities only the number of their followers is known, and as of which position.
    """

    def __init__(self, members_max: int = MEMBERS_MAX) -> None:
        self._members_max = members_max
        self._members = 0
        self._kept: OrderedDict[int, Audience] = OrderedDict()
        self.sizes: dict[int, tuple[int, int]] = {}

    def __contains__(self, author_id: int) -> bool:
        return author_id in self._kept

    def get(self, author_id: int) -> Audience | None:
        return self._kept.get(author_id)

    def use(self, author_id: int) -> Audience | None:
        """The audience that is kept, as one in use."""
        found = self._kept.get(author_id)
        if found is not None:
            self._kept.move_to_end(author_id)
        return found

    def keep(self, author_id: int, audience: Audience) -> None:
        self.forget(author_id)
        self._kept[author_id] = audience
        self._members += len(audience.members)

    def shrink(self) -> None:
        """Forget what is too much. Call when no audience is in use."""
        while self._members > self._members_max and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._members -= len(old.members)

    def forget(self, author_id: int) -> None:
        old = self._kept.pop(author_id, None)
        if old is not None:
            self._members -= len(old.members)

    def clear(self) -> None:
        self._kept.clear()
        self._members = 0
        self.sizes.clear()

    def __iter__(self) -> Iterator[Audience]:
        return iter(self._kept.values())


@dataclass
class Begun:
    """Who may have a timeline, and the order in which the last ones were begun."""

    count: int = 0
    members: set[int] = field(default_factory=set)
    _latest: list[int] = field(default_factory=list)

    def start(self, count: int, members: Iterable[int]) -> None:
        self.count = count
        self.members = set(members)
        self._latest = []

    def add(self, count: int, members: Collection[int]) -> None:
        self.count = count
        self.members.update(members)
        self._latest += members
        if len(self._latest) > 2 * REMEMBERED_MAX:
            del self._latest[:-REMEMBERED_MAX]

    def since(self, count: int) -> Sequence[int] | None:
        """Those begun after the first `count`; None if that is longer ago than is remembered."""
        missing = self.count - count
        if missing > len(self._latest):
            return None
        return self._latest[len(self._latest) - missing :]
