"""An account's profile, its posts, who follows it and whom it follows.

Anybody may read them. To each other, two accounts of which one blocks the other do not exist: 404
for the profile and its lists, left out of the lists of others. An erased account does not exist.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.shared.identifiers import id_text
from infra.http.lists import limit_of
from infra.http.openapi import Operation, Parameter, described
from infra.http.problems import not_found
from infra.ports.log import OPEN
from infra.ports.reads import CountsRow, Edge, MemberRow
from query_api import past
from query_api.context import Context, member_number
from query_api.parameters import AS_OF, LIST_PARAMETERS, LOG_POSITION
from query_api.posts import visible_posts
from query_api.shapes.social import PostPage, Profile, UserPage
from query_api.timelines.present import post_page
from query_api.timelines.viewers import NOBODY, Viewer
from query_api.walk import Walk, collect

TAG = "Users"
USER_ID = Parameter("userId", str, "The account's id, or `@` and its user name.", where="path")
LIST_OPERATION_REFUSALS = (401, 404, 422, 503)

FetchEdges = Callable[[int, int, int, int], Awaitable[Sequence[Edge]]]


def routes(context: Context) -> list[Route]:
    @described(
        Operation(
            summary="An account",
            tag=TAG,
            answers={200: Profile},
            parameters=[USER_ID, AS_OF, LOG_POSITION],
            refusals=(401, 404, 422, 503),
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

    @described(
        Operation(
            summary="What an account has posted, replies too, newest first",
            tag=TAG,
            answers={200: PostPage},
            parameters=[USER_ID, *LIST_PARAMETERS, LOG_POSITION],
            refusals=LIST_OPERATION_REFUSALS,
            login="optional",
        )
    )
    async def posts(request: Request) -> Response:
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

    @described(
        Operation(
            summary="Who follows an account, newest follow first",
            tag=TAG,
            answers={200: UserPage},
            parameters=[USER_ID, *LIST_PARAMETERS, LOG_POSITION],
            refusals=LIST_OPERATION_REFUSALS,
            login="optional",
        )
    )
    async def followers(request: Request) -> Response:
        return await edges(request, "followers", context.reads.followers)

    @described(
        Operation(
            summary="Whom an account follows, newest follow first",
            tag=TAG,
            answers={200: UserPage},
            parameters=[USER_ID, *LIST_PARAMETERS, LOG_POSITION],
            refusals=LIST_OPERATION_REFUSALS,
            login="optional",
        )
    )
    async def following(request: Request) -> Response:
        return await edges(request, "following", context.reads.followees)

    async def edges(request: Request, name: str, fetch: FetchEdges) -> Response:
        viewer = await context.reader(request.scope["headers"])
        limit = limit_of(request.query_params)
        number = await named(context, request, None)
        walk = Walk(context.cursors, f"{name} {id_text(number)} {viewer.id}", request.query_params)
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
        cursor = None
        if len(found) > limit:
            cursor = walk.cursor([at, found[limit - 1][0].since])
        page = UserPage(
            users=[profile for _, profile in found[:limit]],
            next_cursor=cursor,
            has_more=cursor is not None,
        )
        return Response(msgspec.json.encode(page), media_type="application/json")

    return [
        Route("/api/users/{userId}", user),
        Route("/api/users/{userId}/posts", posts),
        Route("/api/users/{userId}/followers", followers),
        Route("/api/users/{userId}/following", following),
    ]


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
    if not await profiles(context, viewer, [number]):
        raise not_found("user")


async def seen_edges(
    context: Context, viewer: Viewer, edges: Sequence[Edge]
) -> Sequence[tuple[Edge, Profile]]:
    shown = await profiles(context, viewer, [edge.member_id for edge in edges])
    by_id = {profile.id: profile for profile in shown}
    return [(e, by_id[name]) for e in edges if (name := id_text(e.member_id)) in by_id]


async def profiles(context: Context, viewer: Viewer, numbers: Sequence[int]) -> Sequence[Profile]:
    """The profiles of those accounts that there are and that the reader may see."""
    found = await context.reads.profiles(numbers, viewer.number)
    await context.keyring.fetch(id_text(row.member_id) for row in found.members)
    counts = {row.member_id: row for row in found.counts}
    return [
        profile_of(context, row, counts[row.member_id], viewer, found.following)
        for row in found.members
        if not row.erased and row.member_id not in viewer.blocked
    ]


async def profiles_at(context: Context, then: Viewer, number: int, at: int) -> Sequence[Profile]:
    if number in then.blocked:
        return []
    rows = await context.reads.members_at(at, [number])
    if not rows or rows[0].erased:
        return []
    counts = await context.reads.counts_at(at, number)
    following = frozenset[int]()
    if then is not NOBODY:
        following = await context.reads.following_among(then.number, [number], at)
    await context.keyring.fetch([id_text(number)])
    profile = profile_of(context, rows[0], counts, then, following)
    # The key of an account erased later is gone, and with it all that its profile said.
    return [] if profile.username is None else [profile]


def profile_of(
    context: Context,
    row: MemberRow,
    counts: CountsRow,
    viewer: Viewer,
    following: frozenset[int],
) -> Profile:
    person = id_text(row.member_id)
    opened = partial(context.keyring.open, person)
    return Profile(
        id=person,
        username=opened(row.username),
        display_name=opened(row.display_name),
        bio=opened(row.bio),
        avatar_url=opened(row.avatar_url),
        is_verified=row.is_verified,
        follower_count=counts.followers,
        following_count=counts.following,
        post_count=counts.posts,
        following=UNSET if viewer is NOBODY else row.member_id in following,
    )
