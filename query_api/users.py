"""An account's profile, its posts, who follows it and whom it follows.

Anybody may read them. To each other, two accounts of which one blocks the other do not exist: 404
for the profile and its lists, left out of the lists of others. An erased account does not exist.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.shared.identifiers import id_text
from infra.http.lists import limit_of
from infra.http.openapi import Operation, Parameter, described
from infra.http.problems import not_found
from infra.ports.log import OPEN
from infra.ports.reads import Edge
from query_api import past
from query_api.context import Context, member_number
from query_api.parameters import AS_OF, LIST_PARAMETERS, LOG_POSITION
from query_api.posts import visible_posts
from query_api.profiles import profiles, profiles_at
from query_api.shapes.social import PostPage, Profile, UserPage
from query_api.timelines.present import post_page
from query_api.timelines.viewers import Viewer
from query_api.walk import Walk, collect

TAG = "Users"
USER_ID = Parameter("userId", str, "The account's id, or `@` and its user name.", where="path")
REFUSALS = (401, 404, 422, 503)

FetchEdges = Callable[[int, int, int, int], Awaitable[Sequence[Edge]]]
"""A member's follows: by its number, as of a position, before another, at most so many."""


def list_of(summary: str, answer: type) -> Operation:
    """What the lists of an account have in common."""
    return Operation(
        summary=summary,
        tag=TAG,
        answers={200: answer},
        parameters=[USER_ID, *LIST_PARAMETERS, LOG_POSITION],
        refusals=REFUSALS,
        login="optional",
    )


def routes(context: Context) -> list[Route]:
    @described(
        Operation(
            summary="An account",
            tag=TAG,
            answers={200: Profile},
            parameters=[USER_ID, AS_OF, LOG_POSITION],
            refusals=REFUSALS,
            login="optional",
        )
    )
    async def user(request: Request) -> Response:
        viewer = await context.reader(request.scope["headers"])
        at = await context.as_of(request.query_params)
        number = await named(context, request, at)
        shown = (
            await profiles(context, viewer, [number])
            if at is None
            else await profiles_at(context, await past.viewer_at(context, viewer, at), number, at)
        )
        if not shown:
            raise not_found("user")
        return Response(msgspec.json.encode(shown[0]), media_type="application/json")

    @described(list_of("What an account has posted, replies too, newest first", PostPage))
    async def posts(request: Request) -> Response:
        return await posts_of(context, request)

    @described(list_of("Who follows an account, newest follow first", UserPage))
    async def followers(request: Request) -> Response:
        return await edges_of(context, request, "followers", context.reads.followers)

    @described(list_of("Whom an account follows, newest follow first", UserPage))
    async def following(request: Request) -> Response:
        return await edges_of(context, request, "following", context.reads.followees)

    return [
        Route("/api/users/{userId}", user),
        Route("/api/users/{userId}/posts", posts),
        Route("/api/users/{userId}/followers", followers),
        Route("/api/users/{userId}/following", following),
    ]


async def posts_of(context: Context, request: Request) -> Response:
    """A page of what the account has posted. Raises a 404 problem."""
    viewer = await context.reader(request.scope["headers"])
    limit = limit_of(request.query_params)
    number = await named(context, request, None)
    walk = Walk(context.cursors, f"posts {id_text(number)} {viewer.id}", request.query_params)
    (before,) = walk.place([OPEN])
    await existing(context, viewer, number)
    shown = await collect(
        partial(context.reads.posts_of, number),
        int,
        partial(visible_posts, context, viewer),
        before,
        limit + 1,
    )
    cursor = walk.cursor([shown[limit - 1].post_position]) if len(shown) > limit else None
    await context.viewers.know(viewer, [item.post_position for item in shown[:limit]])
    return Response(post_page(shown[:limit], viewer, cursor), media_type="application/json")


async def edges_of(context: Context, request: Request, listing: str, fetch: FetchEdges) -> Response:
    """A page of one of the account's lists of accounts. Raises a 404 problem."""
    viewer = await context.reader(request.scope["headers"])
    limit = limit_of(request.query_params)
    number = await named(context, request, None)
    walk = Walk(context.cursors, f"{listing} {id_text(number)} {viewer.id}", request.query_params)
    # The list is walked as of the first page, so that a follow made anew in the meantime
    # neither comes twice nor is missed.
    at, before = walk.place([await context.newest(), OPEN])
    await existing(context, viewer, number)
    found = await collect(
        partial(fetch, number, at),
        lambda edge: edge.since,
        partial(seen_edges, context, viewer),
        before,
        limit + 1,
    )
    cursor = walk.cursor([at, found[limit - 1][0].since]) if len(found) > limit else None
    page = UserPage(
        users=[profile for _, profile in found[:limit]],
        next_cursor=cursor,
        has_more=cursor is not None,
    )
    return Response(msgspec.json.encode(page), media_type="application/json")


async def named(context: Context, request: Request, at: int | None) -> int:
    """The number of the account that the path names. Raises a 404 problem."""
    text = request.path_params["userId"]
    if not text.startswith("@"):
        return member_number(text)
    key = context.username_key(text[1:])
    number = await context.reads.member_named(key, OPEN if at is None else at)
    if number is None:
        raise not_found("user")
    return number


async def existing(context: Context, viewer: Viewer, number: int) -> None:
    """Raises a 404 problem where there is no such account for this reader."""
    if not await profiles(context, viewer, [number]):
        raise not_found("user")


async def seen_edges(
    context: Context, viewer: Viewer, edges: Sequence[Edge]
) -> Sequence[tuple[Edge, Profile]]:
    """Those of the edges whose other end the reader may see, with its profile."""
    shown = await profiles(context, viewer, [edge.member_id for edge in edges])
    by_id = {profile.id: profile for profile in shown}
    return [(e, by_id[name]) for e in edges if (name := id_text(e.member_id)) in by_id]
