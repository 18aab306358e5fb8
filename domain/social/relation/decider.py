"""What two members are to each other.

A pair has one stream, whoever of the two acts, so that a follow and a block never pass each other.
"""

from datetime import datetime
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.shared.decider import Decider
from domain.shared.rejection import Invalid
from domain.social.relation import commands, events
from domain.social.relation.commands import RelationCommand
from domain.social.relation.events import RelationEvent
from domain.social.relation.rejections import AcrossBlock

NOBODY: frozenset[str] = frozenset()


class Relation(Struct, frozen=True):
    """Which of the two follow, block or mute the other one."""

    following: frozenset[str] = NOBODY
    blocking: frozenset[str] = NOBODY
    muting: frozenset[str] = NOBODY


def decide(command: RelationCommand, relation: Relation, _now: datetime) -> list[RelationEvent]:
    match command:
        case commands.FollowMember():
            return follow(command, relation)
        case commands.UnfollowMember():
            return unfollow(command, relation)
        case commands.BlockMember():
            return block(command, relation)
        case commands.UnblockMember():
            return unblock(command, relation)
        case commands.MuteMember():
            return mute(command, relation)
        case commands.UnmuteMember():
            return unmute(command, relation)
        case _:
            assert_never(command)


def follow(command: commands.FollowMember, relation: Relation) -> list[RelationEvent]:
    require_two(command.follower_id, command.followee_id)
    if relation.blocking:
        raise AcrossBlock(command.followee_id)
    if command.follower_id in relation.following:
        return []
    return [events.Followed(follower_id=command.follower_id, followee_id=command.followee_id)]


def unfollow(command: commands.UnfollowMember, relation: Relation) -> list[RelationEvent]:
    require_two(command.follower_id, command.followee_id)
    if command.follower_id not in relation.following:
        return []
    return [
        events.Unfollowed(
            follower_id=command.follower_id,
            followee_id=command.followee_id,
            because_of=command.because_of,
        )
    ]


def block(command: commands.BlockMember, relation: Relation) -> list[RelationEvent]:
    blocker, blocked = command.blocker_id, command.blocked_id
    require_two(blocker, blocked)
    if blocker in relation.blocking:
        return []
    ended: list[RelationEvent] = [
        events.Unfollowed(follower_id=follower, followee_id=followee, because_of="block")
        for follower, followee in ((blocker, blocked), (blocked, blocker))
        if follower in relation.following
    ]
    return [*ended, events.Blocked(blocker_id=blocker, blocked_id=blocked)]


def unblock(command: commands.UnblockMember, relation: Relation) -> list[RelationEvent]:
    require_two(command.blocker_id, command.blocked_id)
    if command.blocker_id not in relation.blocking:
        return []
    return [events.Unblocked(blocker_id=command.blocker_id, blocked_id=command.blocked_id)]


def mute(command: commands.MuteMember, relation: Relation) -> list[RelationEvent]:
    require_two(command.muter_id, command.muted_id)
    if command.muter_id in relation.muting:
        return []
    return [events.Muted(muter_id=command.muter_id, muted_id=command.muted_id)]


def unmute(command: commands.UnmuteMember, relation: Relation) -> list[RelationEvent]:
    require_two(command.muter_id, command.muted_id)
    if command.muter_id not in relation.muting:
        return []
    return [events.Unmuted(muter_id=command.muter_id, muted_id=command.muted_id)]


def require_two(member_id: str, other_id: str) -> None:
    if member_id == other_id:
        raise Invalid("/userId", "must be another member than yourself")


def evolve(relation: Relation, event: RelationEvent) -> Relation:
    match event:
        case events.Followed():
            return replace(relation, following=relation.following | {event.follower_id})
        case events.Unfollowed():
            return replace(relation, following=relation.following - {event.follower_id})
        case events.Blocked():
            return replace(relation, blocking=relation.blocking | {event.blocker_id})
        case events.Unblocked():
            return replace(relation, blocking=relation.blocking - {event.blocker_id})
        case events.Muted():
            return replace(relation, muting=relation.muting | {event.muter_id})
        case events.Unmuted():
            return replace(relation, muting=relation.muting - {event.muter_id})
        case _:
            assert_never(event)


def relation_stream(member_id: str, other_id: str) -> str:
    """The one stream of a pair, in whichever order the two are named."""
    low, high = sorted((member_id, other_id))
    return f"relation:{low}:{high}"


def stream(command: RelationCommand) -> str:
    match command:
        case commands.FollowMember() | commands.UnfollowMember():
            return relation_stream(command.follower_id, command.followee_id)
        case commands.BlockMember() | commands.UnblockMember():
            return relation_stream(command.blocker_id, command.blocked_id)
        case commands.MuteMember() | commands.UnmuteMember():
            return relation_stream(command.muter_id, command.muted_id)
        case _:
            assert_never(command)


RELATION = Decider(
    prefix="relation", stream=stream, initial=Relation(), decide=decide, evolve=evolve
)
