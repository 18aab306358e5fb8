"""Whether a member likes a post, and whether the member has reposted it.

Each member and post has a stream for either, so that a post with a million likes has no hot stream.
Taking back is never refused: what a deleted post was liked with can still be taken back.
"""

from datetime import datetime
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.shared.decider import Decider
from domain.social.engagement import commands, events
from domain.social.engagement.commands import LikeCommand, RepostCommand
from domain.social.engagement.events import LikeEvent, RepostEvent
from domain.social.post.decider import require_open


class Engagement(Struct, frozen=True):
    """`author_id` is the post's author, known since the first time."""

    author_id: str = ""
    stands: bool = False


def decide_like(command: LikeCommand, like: Engagement, _now: datetime) -> list[LikeEvent]:
    match command:
        case commands.LikePost():
            return add_like(command, like)
        case commands.UnlikePost():
            return remove_like(command, like)
        case _:
            assert_never(command)


def add_like(command: commands.LikePost, like: Engagement) -> list[LikeEvent]:
    require_open(command.post)
    if like.stands:
        return []
    return [
        events.PostLiked(
            post_id=command.post.post_id,
            author_id=command.post.author_id,
            member_id=command.member_id,
        )
    ]


def remove_like(command: commands.UnlikePost, like: Engagement) -> list[LikeEvent]:
    if not like.stands:
        return []
    return [
        events.PostUnliked(
            post_id=command.post_id, author_id=like.author_id, member_id=command.member_id
        )
    ]


def evolve_like(like: Engagement, event: LikeEvent) -> Engagement:
    match event:
        case events.PostLiked():
            return Engagement(event.author_id, stands=True)
        case events.PostUnliked():
            return replace(like, stands=False)
        case _:
            assert_never(event)


def decide_repost(command: RepostCommand, repost: Engagement, _now: datetime) -> list[RepostEvent]:
    match command:
        case commands.RepostPost():
            return add_repost(command, repost)
        case commands.RemoveRepost():
            return remove_repost(command, repost)
        case _:
            assert_never(command)


def add_repost(command: commands.RepostPost, repost: Engagement) -> list[RepostEvent]:
    require_open(command.post)
    if repost.stands:
        return []
    return [
        events.PostReposted(
            post_id=command.post.post_id,
            author_id=command.post.author_id,
            member_id=command.member_id,
            post_position=command.post.position,
        )
    ]


def remove_repost(command: commands.RemoveRepost, repost: Engagement) -> list[RepostEvent]:
    if not repost.stands:
        return []
    return [
        events.RepostRemoved(
            post_id=command.post_id,
            author_id=repost.author_id,
            member_id=command.member_id,
            because_of=command.because_of,
        )
    ]


def evolve_repost(repost: Engagement, event: RepostEvent) -> Engagement:
    match event:
        case events.PostReposted():
            return Engagement(event.author_id, stands=True)
        case events.RepostRemoved():
            return replace(repost, stands=False)
        case _:
            assert_never(event)


def like_stream(command: LikeCommand) -> str:
    return f"like:{subject(command)}"


def repost_stream(command: RepostCommand) -> str:
    return f"repost:{subject(command)}"


def subject(command: LikeCommand | RepostCommand) -> str:
    match command:
        case commands.LikePost() | commands.RepostPost():
            return f"{command.post.post_id}:{command.member_id}"
        case commands.UnlikePost() | commands.RemoveRepost():
            return f"{command.post_id}:{command.member_id}"
        case _:
            assert_never(command)


LIKE = Decider(
    prefix="like",
    stream=like_stream,
    initial=Engagement(),
    decide=decide_like,
    evolve=evolve_like,
)

REPOST = Decider(
    prefix="repost",
    stream=repost_stream,
    initial=Engagement(),
    decide=decide_repost,
    evolve=evolve_repost,
)
