"""One post, and the conversation below it.

Anybody may read a post. Two accounts of which one blocks the other meet as if the other's posts
did not exist: 404 for one, left out of a list.
"""

from collections.abc import Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.shared.identifiers import id_text
from infra.http.lists import limit_of
from infra.http.openapi import Operation, Parameter, described
from infra.http.problems import not_found
from query_api import past
from query_api.context import Context, post_number
from query_api.parameters import AS_OF, LIST_PARAMETERS, LOG_POSITION
from query_api.shapes.social import FeedItem, PostPage
from query_api.timelines.items import Item
from query_api.timelines.present import post_page
from query_api.timelines.viewers import Viewer
from query_api.walk import Walk, collect

TAG = "Posts"
POST_ID = Parameter("postId", str, "The post.", where="path")


async def standing_post(context: Context, viewer: Viewer, number: int) -> Item:
    """A post that the reader may see now. Raises a 404 problem."""
    found = await context.items.by_id([number])
    return visible(found.get(number), viewer)


def visible(item: Item | None, viewer: Viewer) -> Item:
    if item is None or not item.stands or item.author_id in viewer.blocked:
        raise not_found("post")
    return item


async def visible_posts(
    context: Context, viewer: Viewer, positions: Sequence[int]
) -> Sequence[Item]:
    """Those of the posts at these positions that stand and are not across a block."""
    items = await context.items.by_position(positions)
    return [
        item
        for position in positions
        if (item := items.get(position)) is not None
        and item.stands
        and item.author_id not in viewer.blocked
    ]


def routes(context: Context) -> list[Route]:
    @described(
        Operation(
            summary="One post",
            tag=TAG,
            answers={200: FeedItem},
            parameters=[POST_ID, AS_OF, LOG_POSITION],
            refusals=(401, 404, 422, 503),
            login="optional",
        )
    )
    async def post(request: Request) -> Response:
        viewer = await context.reader(request.scope["headers"])
        number = post_number(request)
        at = await context.as_of(request.query_params)
        if at is None:
            item = await standing_post(context, viewer, number)
            await context.viewers.know(viewer, [item.post_position])
        else:
            viewer = await past.viewer_at(context, viewer, at)
            found = await past.items_at(context, at, post_ids=[number])
            item = visible(next(iter(found.values()), None), viewer)
            await past.flags_at(context, viewer, [item.post_position], at)
        return Response(item.json(viewer.flags(item.post_position)), media_type="application/json")

    @described(
        Operation(
            summary="The conversation below a post, each reply after what it answers",
            tag=TAG,
            answers={200: PostPage},
            parameters=[POST_ID, *LIST_PARAMETERS, LOG_POSITION],
            refusals=(401, 404, 422, 503),
            login="optional",
        )
    )
    async def replies(request: Request) -> Response:
        viewer = await context.reader(request.scope["headers"])
        number, limit = post_number(request), limit_of(request.query_params)
        walk = Walk(context.cursors, f"replies {id_text(number)} {viewer.id}", request.query_params)
        (after,) = walk.place([0])
        await standing_post(context, viewer, number)
        shown = await collect(
            partial(context.reads.replies_under, number),
            int,
            partial(visible_posts, context, viewer),
            after,
            limit + 1,
        )
        cursor = walk.cursor([shown[limit - 1].post_position]) if len(shown) > limit else None
        await context.viewers.know(viewer, [item.post_position for item in shown[:limit]])
        return Response(post_page(shown[:limit], viewer, cursor), media_type="application/json")

    return [
        Route("/api/posts/{postId}", post),
        Route("/api/posts/{postId}/replies", replies),
    ]
