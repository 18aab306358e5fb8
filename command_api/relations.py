"""Follow, block and mute another member, and the reverse."""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from starlette.routing import Route

from command_api.endpoint import Asked, Desk, Endpoint, Plan
from domain.shared.message import Command
from domain.social.relation.commands import (
    BlockMember,
    FollowMember,
    MuteMember,
    UnblockMember,
    UnfollowMember,
    UnmuteMember,
)
from infra.http.openapi import Operation
from infra.runtime.commands.execute import Look
from infra.runtime.commands.seen_post import known_member

TAG = "Members"


class Following(Struct, frozen=True, rename="camel"):
    following: bool
    followee_id: str


class Blocking(Struct, frozen=True, rename="camel"):
    blocking: bool
    user_id: str


class Muting(Struct, frozen=True, rename="camel"):
    muting: bool
    user_id: str


Make = Callable[[str, str], Command]


def routes(desk: Desk) -> list[Route]:
    def endpoint(method: str, what: str, summary: str, make: Make, answer: Any) -> Route:
        holds = method == "POST"

        async def relate(asked: Asked[None]) -> Plan:
            other_id = asked.id_in_path("userId")

            async def prepare(look: Look) -> Sequence[Command]:
                await known_member(look, other_id)
                return (make(asked.member_id, other_id),)

            return Plan(lambda _: answer(holds, other_id), prepare=prepare)

        operation = Operation(
            summary=summary, tag=TAG, answers={200: answer}, refusals=(403, 404, 422)
        )
        path = f"/api/users/{{userId}}/{what}"
        return Endpoint(desk, method, path, relate, operation=operation).route()

    return [
        endpoint("POST", "follow", "Follow a member", follow, Following),
        endpoint("DELETE", "follow", "Follow a member no more", unfollow, Following),
        endpoint("POST", "block", "Block a member, which ends follows both ways", block, Blocking),
        endpoint("DELETE", "block", "Block a member no more", unblock, Blocking),
        endpoint("POST", "mute", "See nothing of a member in timelines", mute, Muting),
        endpoint("DELETE", "mute", "Mute a member no more", unmute, Muting),
    ]


def follow(member_id: str, other_id: str) -> Command:
    return FollowMember(follower_id=member_id, followee_id=other_id)


def unfollow(member_id: str, other_id: str) -> Command:
    return UnfollowMember(follower_id=member_id, followee_id=other_id)


def block(member_id: str, other_id: str) -> Command:
    return BlockMember(blocker_id=member_id, blocked_id=other_id)


def unblock(member_id: str, other_id: str) -> Command:
    return UnblockMember(blocker_id=member_id, blocked_id=other_id)


def mute(member_id: str, other_id: str) -> Command:
    return MuteMember(muter_id=member_id, muted_id=other_id)


def unmute(member_id: str, other_id: str) -> Command:
    return UnmuteMember(muter_id=member_id, muted_id=other_id)
