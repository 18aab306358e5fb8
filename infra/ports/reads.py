"""What pages are made of: the rows that read tables answer, and the port that fetches them.

Ids are numbers here, as the tables keep them; personal texts are sealed until a page opens them.
"""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from infra.ports.frames import Applied
from infra.ports.log import OPEN


class ReadsUnavailable(Exception):
    """The read tables cannot be reached, or did not answer in time."""


class PostRow(NamedTuple):
    """A post with its counts. `until` is the position of its deletion, `OPEN` while it stands."""

    position: int
    post_id: int
    author_id: int
    created_at: datetime
    content: bytes | None
    media_urls: bytes | None
    product_ids: Sequence[str]
    reply_to: int | None
    quote_of: int | None
    until: int
    likes: int
    reposts: int
    replies: int


class MemberRow(NamedTuple):
    """A member as of some position."""

    member_id: int
    username: bytes | None
    display_name: bytes | None
    bio: bytes | None
    avatar_url: bytes | None
    is_verified: bool
    erased: bool


class CountsRow(NamedTuple):
    member_id: int
    followers: int
    following: int
    posts: int


class RepostRow(NamedTuple):
    """A repost as an entry of the reposter's followers' timelines."""

    position: int
    author_id: int
    post_position: int
    until: int


class EntryRow(NamedTuple):
    """One entry of a timeline: `bringer_id` posted or reposted the post at `position`.

    `followed`: the reader follows the bringer now, or is the bringer.
    """

    position: int
    post_position: int
    bringer_id: int
    is_repost: bool
    until: int
    followed: bool


@dataclass(frozen=True)
class Pulled:
    """A timeline as of `position`, newest entry first; nothing is subtracted from it yet."""

    position: int
    entries: Sequence[EntryRow]


@dataclass(frozen=True)
class ViewerRow:
    """What makes pages differ from reader to reader.

    `hidden`: whom the reader blocks or mutes, and who blocks the reader; `blocked`: the same
    without those muted. `liked` and `reposted` hold the newest post ids, all of them where
    `complete`.
    """

    hidden: frozenset[int]
    blocked: frozenset[int]
    liked: Collection[int]
    reposted: Collection[int]
    complete: bool


@dataclass(frozen=True)
class Cards:
    """Everything that was missing for one page."""

    posts: Sequence[PostRow] = ()
    reposts: Sequence[RepostRow] = ()
    members: Sequence[MemberRow] = ()


@dataclass(frozen=True)
class Profiles:
    """Members, their counts, and which of them the viewer follows."""

    members: Sequence[MemberRow]
    counts: Sequence[CountsRow]
    following: frozenset[int]


class Edge(NamedTuple):
    """One row of a list of members: who, and since which position."""

    member_id: int
    since: int


class Way(NamedTuple):
    """One way by which a post can come into a timeline, for `explain`.

    `since` is the position of the follow, 0 for the reader's own.
    """

    position: int
    bringer_id: int
    is_repost: bool
    until: int
    since: int


class Checkpoints(Protocol):
    """How far read tables are. Every method raises `ReadsUnavailable` where they cannot answer."""

    async def renew(self, switched: str = "") -> None:
        """Look for everything anew: other tables are served, of this projection or of any, or the
        server was restarted."""
        ...

    async def checkpoints(self, projections: Collection[str]) -> Mapping[str, Mapping[int, int]]:
        """How far each partition of these projections has been applied."""
        ...


class Reads(Checkpoints, Protocol):
    """The read tables of the social half."""

    async def position_at(self, moment: datetime) -> int:
        """The position of the newest event recorded at or before a moment; 0 if there is none."""
        ...

    async def head(self) -> int:
        """The position of the newest event of the log."""
        ...

    async def pull(self, member_id: int, position: int) -> Pulled:
        """The timelines law, as of a position."""
        ...

    async def cards(
        self,
        positions: Collection[int] = (),
        post_ids: Collection[int] = (),
        entries: Collection[int] = (),
        member_ids: Collection[int] = (),
    ) -> Cards:
        """Posts by position or id, reposts by entry position, members by id and as the authors or
        reposters of those: all in one round trip, as they are now."""
        ...

    async def cards_at(
        self, position: int, positions: Collection[int] = (), post_ids: Collection[int] = ()
    ) -> Cards:
        """Posts with their authors and counts as of a position. Later posts are left out."""
        ...

    async def members_at(
        self, position: int, member_ids: Collection[int]
    ) -> Sequence[MemberRow]: ...

    async def viewer(self, member_id: int) -> ViewerRow: ...

    async def hidden_at(
        self, position: int, member_id: int
    ) -> tuple[frozenset[int], frozenset[int]]:
        """Whom the reader did not see at a position, and the same without those muted."""
        ...

    async def hides_of(self, member_id: int) -> frozenset[tuple[int, str]]:
        """Whom the member hides, and whether by `block` or by `mute`."""
        ...

    async def engaged(
        self, member_id: int, posts: Collection[int], position: int = OPEN
    ) -> tuple[frozenset[int], frozenset[int]]:
        """Which of these posts (by position) the member likes and reposts, now or then."""
        ...

    async def member_named(self, username_key: str, position: int = OPEN) -> int | None: ...

    async def profiles(self, member_ids: Collection[int], viewer_id: int) -> Profiles:
        """Members as they are now, with their counts, in one round trip."""
        ...

    async def counts_at(self, position: int, member_id: int) -> CountsRow: ...

    async def following_among(
        self, member_id: int, others: Collection[int], position: int = OPEN
    ) -> frozenset[int]:
        """Which of the others the member follows, now or as of a position."""
        ...

    async def followed_since(self, member_id: int, others: Collection[int]) -> Mapping[int, int]:
        """Since which position the member follows those of the others whom they follow now."""
        ...

    async def posts_of(self, author_id: int, before: int, limit: int) -> Sequence[int]:
        """Positions of an author's standing posts, replies too, newest first."""
        ...

    async def replies_under(self, post_id: int, after: int, limit: int) -> Sequence[int]:
        """Positions of the standing posts below a post, parents before what answers them."""
        ...

    async def followers(self, member_id: int, at: int, before: int, limit: int) -> Sequence[Edge]:
        """Who followed as of a position and still does, newest follow first."""
        ...

    async def followees(
        self, member_id: int, at: int, before: int, limit: int
    ) -> Sequence[Edge]: ...

    async def brought(self, member_id: int, post_ids: Collection[int]) -> Mapping[int, int]:
        """By post position, the newest entry that brings a post to a member's timeline now."""
        ...

    async def ways(self, member_id: int, post_id: int, position: int) -> Sequence[Way]:
        """All entries of a post by accounts whom the member followed at a position, or own."""
        ...

    async def ended_sessions(self, after: int) -> Sequence[tuple[str, int, int]]:
        """Sessions ended after a position: id, expiry in seconds since 1970, position."""
        ...

    async def erased_members(self) -> Sequence[int]: ...


class Changes(Protocol):
    """The stream of notifications about what projections applied."""

    def follow(self) -> AsyncGenerator[Applied | None, None]:
        """Yield what is told from now on. The first is None, once listening has begun; further
        ones say that nothing was told for a while. Raises `ReadsUnavailable` when the connection
        is lost."""
        ...
