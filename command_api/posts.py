"""Publish and delete posts."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace
from starlette.routing import Route

from command_api.endpoint import Asked, Desk, Endpoint, Plan
from command_api.named_ids import NamedId, require_id, unknown
from command_api.new_ids import new_id
from command_api.texts import Content, HttpsUrl
from domain.shared.message import Command
from domain.social.post.commands import DeletePost, PublishPost, SeenPost
from domain.social.post.decider import post_stream
from domain.social.post.events import PostPublished
from domain.social.post.values import MEDIA_MAX, PRODUCTS_MAX
from infra.http.openapi import Operation
from infra.ports.log import Clock, Recorded
from infra.runtime.commands.execute import Look
from infra.runtime.commands.seen_post import seen_post

TAG = "Posts"
PATH = "/api/posts"


class Publishing(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    content: Content
    media_urls: Annotated[tuple[HttpsUrl, ...], Meta(max_length=MEDIA_MAX)] | None = None
    product_ids: Annotated[tuple[NamedId, ...], Meta(max_length=PRODUCTS_MAX)] | None = None
    reply_to: NamedId | None = None
    quote_of: NamedId | None = None


class Published(Struct, frozen=True, rename="camel"):
    post_id: str
    author_id: str
    created_at: datetime


KnowsProduct = Callable[[Look, str], Awaitable[bool]]
"""Whether there is a product of this id: the other half knows."""


async def knows_post(look: Look, post_id: str) -> bool:
    """For carts, which may name what has been deleted since, but nothing that never was."""
    return bool((await look(post_stream(post_id))).value.author_id)


def routes(desk: Desk, clock: Clock, knows: KnowsProduct | None = None) -> list[Route]:
    """`knows` None: nothing is sold, and any product may be named."""
    return [publishing(desk, clock, knows).route(), deleting(desk).route()]


def publishing(desk: Desk, clock: Clock, knows: KnowsProduct | None) -> Endpoint:
    async def publish(asked: Asked[Publishing]) -> Plan:
        body = asked.body
        author_id = asked.member_id
        post_id = new_id(clock)

        def facts(recorded: Sequence[Recorded]) -> Published:
            event = recorded[0].event
            assert isinstance(event, PostPublished)
            return Published(post_id, author_id, event.created_at)

        for index, product_id in enumerate(body.product_ids or ()):
            require_id(product_id, "product", f"/productIds/{index}")
        named = body.product_ids or () if knows is not None else ()
        command = PublishPost(
            post_id=post_id,
            author_id=author_id,
            content=body.content,
            media_urls=body.media_urls or (),
            product_ids=body.product_ids or (),
        )
        if body.reply_to is None and body.quote_of is None and not named:
            return Plan(facts, commands=(command,))
        if body.reply_to is not None:
            require_id(body.reply_to, "post", "/replyTo")
        if body.quote_of is not None:
            require_id(body.quote_of, "post", "/quoteOf")

        async def prepare(look: Look) -> Sequence[Command]:
            for index, product_id in enumerate(named):
                if knows is not None and not await knows(look, product_id):
                    raise unknown("product", f"/productIds/{index}")
            answered = await seen(look, body.reply_to, author_id)
            quoted = await seen(look, body.quote_of, author_id)
            return (replace(command, reply_to=answered, quote_of=quoted),)

        return Plan(facts, prepare=prepare)

    operation = Operation(
        summary="Publish a post",
        description="With `replyTo` it answers another post, with `quoteOf` it quotes one.",
        tag=TAG,
        body=Publishing,
        body_example={"content": "Good morning, square."},
        answers={201: Published},
        answer_example={
            "postId": "0d1kq3h8o2c7a",
            "authorId": "0d1kq3h8o2c7b",
            "createdAt": "2026-01-02T03:04:05Z",
        },
        refusals=(403, 404),
    )
    return Endpoint(desk, "POST", PATH, publish, operation=operation)


async def seen(look: Look, post_id: str | None, viewer_id: str) -> SeenPost | None:
    return None if post_id is None else await seen_post(look, post_id, viewer_id)


def deleting(desk: Desk) -> Endpoint:
    async def delete(asked: Asked[None]) -> Plan:
        command = DeletePost(post_id=asked.id_in_path("postId"), member_id=asked.member_id)
        return Plan(lambda _: None, commands=(command,))

    operation = Operation(
        summary="Delete one's post",
        description="Repeating it is the same answer.",
        tag=TAG,
        answers={204: None},
        refusals=(403, 404),
    )
    return Endpoint(desk, "DELETE", f"{PATH}/{{postId}}", delete, operation=operation)
