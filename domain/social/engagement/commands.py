"""What a member can do with somebody's post."""

from typing import ClassVar

from domain.shared.message import Command
from domain.social.post.commands import SeenPost


class LikePost(Command, frozen=True, kw_only=True):
    creates: ClassVar[bool] = True
    post: SeenPost
    member_id: str


class UnlikePost(Command, frozen=True, kw_only=True):
    post_id: str
    member_id: str


class RepostPost(Command, frozen=True, kw_only=True):
    creates: ClassVar[bool] = True
    post: SeenPost
    member_id: str


class RemoveRepost(Command, frozen=True, kw_only=True):
    """`because_of` is `member`, or `erasure` where the member is erased."""

    post_id: str
    member_id: str
    because_of: str = "member"


LikeCommand = LikePost | UnlikePost
RepostCommand = RepostPost | RemoveRepost
