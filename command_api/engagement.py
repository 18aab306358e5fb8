"""Like and repost a post, and take either back."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import Struct
from starlette.routing import Route

from command_api.endpoint import Asked, Desk, Endpoint, Plan
from domain.shared.message import Command
from domain.social.engagement.commands import LikePost, RemoveRepost, RepostPost, UnlikePost
from infra.http.openapi import Operation
from infra.runtime.commands.execute import Look
from infra.runtime.commands.seen_post import seen_post

TAG = "Posts"


class Liked(Struct, frozen=True, rename="camel"):
    liked: bool


class Reposted(Struct, frozen=True, rename="camel"):
    reposted: bool


Make = Callable[[Look, str, str], Awaitable[Command]]


def routes(desk: Desk) -> list[Route]:
    def endpoint(method: str, what: str, summary: str, make: Make, answer: Any) -> Route:
        holds = method == "POST"

        async def engage(asked: Asked[None]) -> Plan:
            post_id = asked.id_in_path("postId")

            async def prepare(look: Look) -> Sequence[Command]:
                return (await make(look, post_id, asked.member_id),)

            return Plan(lambda _: answer(holds), prepare=prepare)

        refusals = (403, 404) if holds else (404,)
        operation = Operation(summary=summary, tag=TAG, answers={200: answer}, refusals=refusals)
        path = f"/api/posts/{{postId}}/{what}"
        return Endpoint(desk, method, path, engage, operation=operation).route()

    return [
        endpoint("POST", "like", "Like a post", like, Liked),
        endpoint("DELETE", "like", "Take a like back", unlike, Liked),
        endpoint("POST", "repost", "Repost a post to one's followers", repost, Reposted),
        endpoint("DELETE", "repost", "Take a repost back", remove_repost, Reposted),
    ]


async def like(look: Look, post_id: str, member_id: str) -> Command:
    return LikePost(post=await seen_post(look, post_id, member_id), member_id=member_id)


async def unlike(look: Look, post_id: str, member_id: str) -> Command:
    await seen_post(look, post_id, member_id)
    return UnlikePost(post_id=post_id, member_id=member_id)


async def repost(look: Look, post_id: str, member_id: str) -> Command:
    return RepostPost(post=await seen_post(look, post_id, member_id), member_id=member_id)


async def remove_repost(look: Look, post_id: str, member_id: str) -> Command:
    await seen_post(look, post_id, member_id)
    return RemoveRepost(post_id=post_id, member_id=member_id)
