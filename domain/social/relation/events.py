"""What can have happened between two members.

Follows are ordered by the followee, so that an author's followers and posts keep their order.
"""

from typing import ClassVar

from domain.shared.message import Event


class Followed(Event, frozen=True, kw_only=True, tag="follow.started.v1"):
    ordered_by: ClassVar[str] = "followee_id"
    follower_id: str
    followee_id: str


class Unfollowed(Event, frozen=True, kw_only=True, tag="follow.ended.v1"):
    """`because_of` is `unfollow`, or `block` or `erasure` where that ended it."""

    ordered_by: ClassVar[str] = "followee_id"
    follower_id: str
    followee_id: str
    because_of: str = "unfollow"


class Blocked(Event, frozen=True, kw_only=True, tag="block.started.v1"):
    ordered_by: ClassVar[str] = "blocker_id"
    blocker_id: str
    blocked_id: str


class Unblocked(Event, frozen=True, kw_only=True, tag="block.ended.v1"):
    ordered_by: ClassVar[str] = "blocker_id"
    blocker_id: str
    blocked_id: str


class Muted(Event, frozen=True, kw_only=True, tag="mute.started.v1"):
    ordered_by: ClassVar[str] = "muter_id"
    muter_id: str
    muted_id: str


class Unmuted(Event, frozen=True, kw_only=True, tag="mute.ended.v1"):
    ordered_by: ClassVar[str] = "muter_id"
    muter_id: str
    muted_id: str


RelationEvent = Followed | Unfollowed | Blocked | Unblocked | Muted | Unmuted
