"""What helps people find what they do not follow yet: the ports that fetch it, and their rows."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, Self

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from infra.ports.log import OPEN

WINDOW = timedelta(hours=24)
HALF_LIFE = timedelta(hours=6)
"""What trends is what was used in the window; a use weighs half as much after this time."""

UNIT = 1_000_000
"""Weights are whole millionths, so that their sum does not depend on the order of adding."""


class Trend(NamedTuple):
    """A tag, or a category: how many people used it in the window, each once, and the sum of the
    weights of their latest uses, in millionths."""

    name: str
    people: int
    weight: int

    @property
    def score(self) -> float:
        return self.weight / UNIT


class Uses(NamedTuple):
    """Uses of tags in columns: the tag as a number, who used it, in which second, in which post."""

    tags: NDArray[np.int64]
    authors: NDArray[np.int64]
    seconds: NDArray[np.int64]
    positions: NDArray[np.int64]

    @classmethod
    def none(cls) -> Self:
        return cls(*(np.zeros(0, dtype=np.int64) for _ in cls._fields))


class UsesRead(NamedTuple):
    """Some uses, and the position at which the rows begin that they were read from; None: with
    these, all have been read."""

    uses: Uses
    first: int | None


class TagChanges(NamedTuple):
    """How far tags are applied, in which build of their table; and authors of whose uses some were
    taken back since another position."""

    build: int
    reached: int
    authors: Sequence[int]


class TagCount(Struct, frozen=True):
    """A tag, and how many people used it in the last 24 hours."""

    tag: str
    count: int


class Popular(NamedTuple):
    member_id: int
    followers: int


class PopularPost(NamedTuple):
    """A post of a popular account."""

    position: int
    author_id: int
    followers: int


class TaggedPost(NamedTuple):
    position: int
    author_id: int
    tags: Sequence[str]


class SecondHop(NamedTuple):
    """An account that `mutual` of those follow whom the member follows, two of them `via`."""

    member_id: int
    mutual: int
    via: Sequence[int]


class TagReads(Protocol):
    """Tags as somebody types one."""

    async def prefix(self, prefix: str, limit: int, position: int = 0) -> Sequence[TagCount]:
        """Tags that begin so, most used first. Nothing up to the position is missing.

        Raises `ReadsUnavailable`, as all methods of this module do.
        """
        ...


class TagUses(Protocol):
    """The uses of tags that stand. Every method reads a bounded number of rows."""

    async def window_begins(self, moment: datetime) -> int:
        """A position before all posts of the window that ends at a moment."""
        ...

    async def uses(self, after: int, last: int, since: datetime, position: int = OPEN) -> UsesRead:
        """The newest uses by posts after one position and up to another, and created since, as of a
        position; more are read by asking up to the position before these."""
        ...

    async def uses_of(self, authors: Collection[int], since: datetime) -> Uses:
        """All uses by these members that stand, created since."""
        ...

    async def tag_changes(self, after: int, since: datetime) -> TagChanges:
        """What has changed after a position, but for new uses; of posts created since."""
        ...

    async def tag_names(self, tags: Sequence[int], positions: Sequence[int]) -> Mapping[int, str]:
        """How these tags are written, in those posts; without those whose post is gone."""
        ...


class Discovery(TagUses, Protocol):
    """What the social half knows. Every method reads a bounded number of rows, or of a window."""

    async def recorded_at(self, position: int) -> datetime | None:
        """When the newest event up to a position was recorded; None before the first."""
        ...

    async def popular(self, limit: int) -> Sequence[Popular]:
        """The accounts with most followers, if they have any, most first."""
        ...

    async def posts_of_popular(
        self, popular: Sequence[Popular], each: int
    ) -> Sequence[PopularPost]:
        """The newest standing posts of each, no replies."""
        ...

    async def tagged(
        self, tags: Collection[str], after: datetime, limit: int
    ) -> Sequence[TaggedPost]:
        """The newest standing posts with one of these tags, no replies."""
        ...

    async def second_hop(
        self,
        member_id: int,
        hidden: Collection[int],
        limit: int,
        only: Collection[int] | None = None,
    ) -> Sequence[SecondHop]:
        """Whom those follow whom the member follows, less those followed already, hidden, and the
        member; most mutual ones first, then most followers. `only`: of no others than these."""
        ...

    async def ever_followed(self, member_id: int, others: Collection[int]) -> frozenset[int]:
        """Which of the others the member follows, or did once."""
        ...


class Demand(Protocol):
    """What the commerce half knows."""

    async def categories(
        self, moment: datetime, limit: int, position: int = OPEN
    ) -> Sequence[Trend]:
        """Categories whose products people put into carts or ordered; the greatest weight first."""
        ...
