"""What makes a page differ from reader to reader: whom they do not see, what they liked.

Fail closed: a reader whose relations cannot be read is not served, since the page could show them
somebody who blocked them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from domain.shared.identifiers import id_number, id_text
from infra.formats.packed_timeline import BYTES_PER_SLOT
from infra.ports.reads import Reads
from query_api.caches.generations import Generations
from query_api.caches.told import ToldCache
from query_api.timelines.items import Flags

VIEWERS_MAX = 100_000
EXTRA_KNOWN_MAX = 5_000
END_BYTES = 16


class Checked(NamedTuple):
    """The first `size` bytes of the kept timeline that was built at a position, and that end so:
    no entry in them is newer than `highest`."""

    built: int
    size: int
    end: bytes
    highest: int

    @classmethod
    def of(cls, built: int, slots: bytes, size: int, highest: int) -> "Checked":
        return cls(built, size, slots[max(0, size - END_BYTES) : size], highest)

    def holds(self, built: int, slots: bytes) -> bool:
        end = slots[max(0, self.size - END_BYTES) : self.size]
        return built == self.built and end == self.end


class Latest:
    """The newest items of one reader's kept timeline, at most `limit`; `more`: there is another.

    Holds for as long as the list ends as it did: most pages are asked for again before anything
    new has come. `cursors` are those after this page, by mode.
    """

    __slots__ = ("_built", "_end", "_size", "cursors", "entries", "limit", "more", "posts")

    def __init__(
        self, built: int, slots: bytes, limit: int, entries: list[int], posts: list[int]
    ) -> None:
        self._built = built
        self._size = len(slots)
        # As much as finding a page ever looks at, but for the check that all before it is older.
        self._end = slots[-2 * BYTES_PER_SLOT * (limit + 1) :]
        self.limit = limit
        self.entries, self.posts = entries[:limit], posts[:limit]
        self.more = len(entries) > limit
        self.cursors: dict[str, bytes] = {}

    def holds(self, built: int, slots: bytes, limit: int) -> bool:
        return (
            len(slots) == self._size
            and slots.endswith(self._end)
            and built == self._built
            and limit == self.limit
        )


class CelebritiesUnknown(Exception):
    """It has to be looked up which of these the reader follows."""

    def __init__(self, celebrities: frozenset[int]) -> None:
        super().__init__(f"{len(celebrities)} celebrities")
        self.celebrities = celebrities


class Viewer:
    """One reader.

    `liked` and `reposted` hold positions of posts, all of them where `complete`, and `engaged`
    both.
    `checked` and `latest` are about the reader's kept timeline. `seals` seal the cursors of their
    feed, by mode.
    """

    __slots__ = (
        "blocked", "celebrities", "checked", "complete", "engaged", "followed", "hidden", "id",
        "known", "latest", "liked", "number", "reposted", "seals",
    )  # fmt: skip

    def __init__(self, member_id: str, number: int) -> None:
        self.id = member_id
        self.number = number
        self.hidden: frozenset[int] = frozenset()
        self.blocked: frozenset[int] = frozenset()
        self.liked: set[int] = set()
        self.reposted: set[int] = set()
        self.engaged: frozenset[int] = frozenset()
        self.checked: Checked | None = None
        self.latest: Latest | None = None
        self.complete = True
        self.seals: dict[str, Callable[[bytes], bytes]] = {}
        self.known: set[int] = set()
        self.celebrities: frozenset[int] | None = None
        self.followed: Mapping[int, int] = {}

    def celebrities_among(self, celebrities: frozenset[int]) -> Collection[int]:
        """Those whom the reader follows. Raises `CelebritiesUnknown` until told."""
        if celebrities is not self.celebrities:
            raise CelebritiesUnknown(celebrities)
        return self.followed

    def learn_celebrities(self, celebrities: frozenset[int], followed: Mapping[int, int]) -> None:
        """Which of all celebrities the reader follows, and since which position."""
        self.celebrities = celebrities
        self.followed = followed

    def flags(self, post: int) -> Flags:
        return post in self.liked, post in self.reposted


NOBODY = Viewer("", 0)
"""Who reads without a session."""


class Viewers(ToldCache):
    """The readers who were here lately, by member id."""

    def __init__(self, reads: Reads, viewers_max: int = VIEWERS_MAX) -> None:
        super().__init__()
        self._reads = reads
        self.kept: Generations[str, Viewer] = Generations(viewers_max)
        self._loads: set[_Load] = set()
        self.loads = 0
        """How often a reader was not in memory."""

    def forget_all(self) -> None:
        self._told += 1
        self.kept.clear()
        for load in self._loads:
            load.outdated = True

    def forget(self, members: Iterable[int]) -> None:
        touched = set(members)
        self._told += len(touched)
        for number in touched:
            self.kept.drop(id_text(number))
        for load in self._loads:
            load.outdated |= load.number in touched

    async def get(self, member_id: str) -> Viewer:
        kept = self.kept.get(member_id)
        if kept is not None:
            return kept
        return await self._together(member_id, lambda: self._load(member_id))

    async def know(self, viewer: Viewer, posts: Sequence[int]) -> None:
        """Have the viewer's flags right for these posts."""
        if viewer.complete:
            return
        unknown = [post for post in posts if post not in viewer.known]
        if not unknown:
            return
        liked, reposted = await self._reads.engaged(viewer.number, unknown)
        if len(viewer.known) + len(unknown) > EXTRA_KNOWN_MAX:
            # What is being asked for now is known below; the rest is asked for again when shown.
            viewer.known = set()
        viewer.liked |= liked
        viewer.reposted |= reposted
        viewer.known.update(unknown)

    async def _load(self, member_id: str) -> Viewer:
        self.loads += 1
        load = _Load(id_number(member_id))
        self._loads.add(load)
        try:
            row = await self._reads.viewer(load.number)
        finally:
            self._loads.discard(load)
        viewer = Viewer(member_id, load.number)
        viewer.hidden, viewer.blocked = row.hidden, row.blocked
        viewer.liked, viewer.reposted = set(row.liked), set(row.reposted)
        viewer.engaged = frozenset(viewer.liked | viewer.reposted)
        viewer.complete = row.complete
        if self._keeping and not load.outdated:
            self.kept.put(member_id, viewer)
        return viewer


class _Load:
    """A load under way, and whether what it reads was changed in the meantime."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.outdated = False
