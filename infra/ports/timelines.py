"""Timelines that are kept ready to read: the ports of who keeps them current and who reads them.

A kept timeline is a cache of the pull path. Any of them may be missing at any moment; none of them
is ever wrong as of the positions that its store says have been applied.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from infra.ports.log import Recorded

Members = NDArray[np.int64]


class TimelinesUnavailable(Exception):
    """The store cannot be reached, or did not answer in time."""


# What events do to them.


class Bring(NamedTuple):
    """An entry for the author's followers, and for the author."""

    author_id: int
    position: int
    post_position: int


class Gain(NamedTuple):
    """The author's entries come to the follower from now on, and some from before."""

    author_id: int
    follower_id: int
    position: int


class Lose(NamedTuple):
    """The author's entries, old ones too, are no longer the follower's."""

    author_id: int
    follower_id: int
    position: int


Effect = Bring | Gain | Lose
EffectOf = Callable[[Recorded], Effect | None]

# Keeping them current.


class Refusal(Enum):
    """Why a step changed nothing."""

    MOVED = "moved"
    """The partition is not where the step starts: another worker, or a store that was lost."""

    STALE = "stale"
    """Timelines were begun that the caller has not heard of."""


Outcome = Sequence[int] | Refusal
"""Where a step was done, which of its keys (by place) had no timeline under them."""


class Link(NamedTuple):
    """Where a step belongs: it is done only if the partition has been applied up to `previous`.

    With it the partition is applied up to `position`, unless that is None. `begun` is how many
    timelines the caller knows to have been begun; None if the step need not reach all of them.
    """

    partition: int
    previous: int
    position: int | None
    begun: int | None


@dataclass(frozen=True)
class Kept:
    """What a store holds, as of one moment."""

    epoch: str
    applied: Mapping[int, int]
    begun: int
    celebrities: frozenset[int]


class Keys(NamedTuple):
    """The timelines of some members, as the store wants them named."""

    members: Members
    encoded: bytes


class Part(NamedTuple):
    """A part of a large fan-out, for whichever worker takes it."""

    link: Link
    position: int
    entry: bytes
    members: Members


class TimelineStore(Protocol):
    """What a fan-out needs of the store. Everything may raise `TimelinesUnavailable`."""

    @property
    def reachable(self) -> bool: ...

    @property
    def generation(self) -> int:
        """Grows whenever what was learnt from the store may no longer be so."""
        ...

    async def load(self) -> Kept | None:
        """What the store holds; None if it holds nothing, not even how far it is."""
        ...

    async def adopt(self, instead_of: str, positions: Mapping[int, int]) -> None:
        """Start anew with nothing kept, as of these positions, unless another worker just did."""
        ...

    async def begun_after(self, count: int) -> tuple[int, Sequence[int] | None]:
        """How many timelines have been begun, and whose came after the first `count`; None for
        the latter if the store does not remember that far back."""
        ...

    async def everybody(self) -> Collection[int]:
        """All members who may have a timeline."""
        ...

    async def latest_first(self, members: Members) -> Members:
        """The same members, those first who read last."""
        ...

    def keys(self, members: Members) -> Keys: ...

    def push(self, link: Link, position: int, entry: bytes, keys: Keys) -> Awaitable[Outcome]:
        """Append an entry to timelines."""
        ...

    def push_own(
        self, link: Link, position: int, entry: bytes, author_id: int
    ) -> Awaitable[Outcome]:
        """Append an entry to a celebrity's own list."""
        ...

    def drop(self, link: Link, members: Sequence[int]) -> Awaitable[Outcome]: ...

    def promote(
        self, link: Link, position: int, slots: bytes, author_id: int
    ) -> Awaitable[Outcome]:
        """Make an account a celebrity whose own list, built at a position, holds these entries."""
        ...

    def demote(self, link: Link, author_id: int) -> Awaitable[Outcome]: ...

    async def take_turn(self, task: str, seconds: float) -> bool:
        """True for one worker in so many seconds."""
        ...

    async def lists(self, cursor: bytes, count: int) -> tuple[bytes, Mapping[bytes, bytes]]:
        """About so many kept lists with their slots, and where to go on; begins and ends at `0`.

        What is left of earlier epochs is removed on the way.
        """
        ...

    async def bury(self, name: bytes, graves: Iterable[tuple[int, bytes, bytes]]) -> int:
        """Put graves in place of entries of a list; answers how many, 0 if it has changed."""
        ...

    async def share(self, parts: Iterable[Part]) -> None:
        """Put parts of a fan-out where every worker finds them."""
        ...

    async def help(self) -> bool:
        """Do one shared part; False if there is none."""
        ...

    async def wait_for_parts(self, seconds: float) -> bool:
        """Return True once there are shared parts, False after `seconds`."""
        ...


class Brought(NamedTuple):
    """An entry that an account brings into timelines."""

    position: int
    post_position: int


class TimelineSources(Protocol):
    """The graph and the entries as of a position, from the read tables.

    Each waits until the tables have applied the partition up to that position.
    """

    async def followers(
        self, partition: int, position: int, author_ids: Collection[int], limit: int
    ) -> Mapping[int, Members]:
        """The followers of each account; of one that has `limit` or more, any `limit` of them."""
        ...

    async def follower_count(self, partition: int, position: int, author_id: int) -> int: ...

    async def entries(
        self, partition: int, position: int, author_id: int, limit: int
    ) -> Sequence[Brought]:
        """The newest entries of an account, oldest first, those since taken back among them."""
        ...

    async def checkpoints(self) -> Mapping[int, int]:
        """How far the tables are."""
        ...

    async def gone(self, positions: Collection[int]) -> Collection[int]:
        """Which of these entries can never be shown again."""
        ...


# Reading them.


@dataclass(frozen=True)
class PackedTimeline:
    """A member's kept timeline, and the lists of the celebrities to merge into it.

    `slots` and those of the celebrities are for `infra.formats.packed_timeline`; unless
    `complete`, they are only the newest. `position` is where the timeline was built.
    """

    position: int
    slots: bytes
    complete: bool
    celebrities: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Building:
    """A begun timeline: pull as of any position from `applied` on, then finish it."""

    member_id: int
    epoch: str
    token: bytes
    applied: int


class SlotsAsked(Protocol):
    """Takes a kept timeline that was asked for without a task to wait for it. Must not raise."""

    def found(self, built: int, slots: bytes) -> None:
        """Where the timeline was built, and its slots."""
        ...

    def not_found(self) -> None:
        """It is not kept, or cannot be read this way: only `TimelineReader.read` can tell."""
        ...


CelebritiesOf = Callable[[frozenset[int]], Collection[int]]
"""Given all celebrities, those that the reader follows."""


class TimelineReader(Protocol):
    """Kept timelines for pages. Everything may raise `TimelinesUnavailable`, and does so at once
    while the store is known to be away."""

    async def read(
        self, member_id: int, followed: CelebritiesOf, entries: int | None = None
    ) -> PackedTimeline | None:
        """The newest `entries` of a member's timeline, or all of it; None if it is not kept.

        Reading keeps it for another 30 days.
        """
        ...

    def ask(self, member_id: int, asked: SlotsAsked) -> bool:
        """Ask for the timeline of a reader who follows none of `known_celebrities`: the quick way
        to the most common page. False if nothing was asked, because only `read` can tell."""
        ...

    @property
    def known_celebrities(self) -> frozenset[int]:
        """The celebrities that `slots` has reckoned with."""
        ...

    async def begin(self, member_id: int) -> Building | None:
        """Begin to build a timeline; None if somebody else does, or has."""
        ...

    async def finish(
        self, building: Building, position: int, entries: Sequence[tuple[int, int]]
    ) -> bool:
        """Keep what was pulled as of `position`: (entry, post) positions, newest first, nothing
        subtracted. False if it no longer holds: pull again, or leave it to the next page."""
        ...

    async def applied(self) -> Mapping[int, int]:
        """How far each partition has been applied; empty if the store holds nothing."""
        ...

    async def celebrities(self) -> frozenset[int]: ...
