"""Engagement events of earlier versions, and what they mean today.

Decoders know the old classes, and nobody else does: what is read is upcast before it is handed on.
"""

from typing import ClassVar

from domain.shared.message import Event
from domain.social.engagement.events import RepostRemoved


class RepostRemovedV1(Event, frozen=True, kw_only=True, tag="repost.removed.v1"):
    """Written when only the member could take a repost back."""

    ordered_by: ClassVar[str] = "member_id"
    post_id: str
    author_id: str
    member_id: str


def repost_removed(old: RepostRemovedV1) -> RepostRemoved:
    return RepostRemoved(
        post_id=old.post_id, author_id=old.author_id, member_id=old.member_id, because_of="member"
    )


OldEngagementEvent = RepostRemovedV1
