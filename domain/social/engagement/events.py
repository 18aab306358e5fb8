"""What a member can have done with somebody's post.

Likes are ordered by the post's author; reposts by who reposts, since they are entries of that
member's own timeline.
"""

from typing import ClassVar

from domain.shared.message import Event


class PostLiked(Event, frozen=True, kw_only=True, tag="like.added.v1"):
    ordered_by: ClassVar[str] = "author_id"
    post_id: str
    author_id: str
    member_id: str


class PostUnliked(Event, frozen=True, kw_only=True, tag="like.removed.v1"):
    ordered_by: ClassVar[str] = "author_id"
    post_id: str
    author_id: str
    member_id: str


class PostReposted(Event, frozen=True, kw_only=True, tag="repost.added.v1"):
    """`post_position` is where the reposted post stands in the log."""

    ordered_by: ClassVar[str] = "member_id"
    post_id: str
    author_id: str
    member_id: str
    post_position: int


class RepostRemoved(Event, frozen=True, kw_only=True, tag="repost.removed.v2"):
    """`because_of` is `member`, or `erasure` where the member is erased."""

    ordered_by: ClassVar[str] = "member_id"
    post_id: str
    author_id: str
    member_id: str
    because_of: str = "member"


LikeEvent = PostLiked | PostUnliked
RepostEvent = PostReposted | RepostRemoved
EngagementEvent = LikeEvent | RepostEvent
