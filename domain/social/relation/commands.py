"""What one member can ask about another."""

from domain.shared.message import Command


class FollowMember(Command, frozen=True, kw_only=True):
    follower_id: str
    followee_id: str


class UnfollowMember(Command, frozen=True, kw_only=True):
    """`because_of` is `unfollow`, or `erasure` where one of the two is erased."""

    follower_id: str
    followee_id: str
    because_of: str = "unfollow"


class BlockMember(Command, frozen=True, kw_only=True):
    blocker_id: str
    blocked_id: str


class UnblockMember(Command, frozen=True, kw_only=True):
    blocker_id: str
    blocked_id: str


class MuteMember(Command, frozen=True, kw_only=True):
    muter_id: str
    muted_id: str


class UnmuteMember(Command, frozen=True, kw_only=True):
    muter_id: str
    muted_id: str


RelationCommand = (
    FollowMember | UnfollowMember | BlockMember | UnblockMember | MuteMember | UnmuteMember
)
