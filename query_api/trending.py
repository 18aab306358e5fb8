"""What trends: hashtags, and categories of products, in the 24 hours up to now or to a moment.

The two come from the two halves, and meet here: while one of them cannot be read, the other is
still shown.
"""

from datetime import datetime

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.http.consistency import required_position
from infra.http.lists import limit_of
from infra.http.openapi import Operation, described
from infra.ports.discovery import Discovery
from query_api.as_of import moment_of
from query_api.context import Context
from query_api.parameters import AS_OF, LIST_PARAMETERS, LOG_POSITION
from query_api.trends.board import Board, Categories, Ranked

LIMIT, _ = LIST_PARAMETERS
NONE = Ranked((), complete=True)


class Topic(Struct, frozen=True, rename="camel", kw_only=True):
    """A hashtag without its sign, in folded case. `count`: how many people used it, each once."""

    tag: str
    count: int
    score: float


class Category(Struct, frozen=True, rename="camel", kw_only=True):
    """`count`: how many people put its products into their cart or ordered them, each once."""

    category: str
    count: int
    score: float


class Trending(Struct, frozen=True, rename="camel", kw_only=True):
    """`degraded`: after a restart the topics are not counted over the whole window yet, or one of
    the two could not be read just now."""

    topics: list[Topic]
    categories: list[Category]
    degraded: bool | UnsetType = UNSET


def routes(
    context: Context, discovery: Discovery, board: Board, categories: Categories | None
) -> list[Route]:
    @described(
        Operation(
            summary="What trends: hashtags and product categories",
            tag="Discovery",
            answers={200: Trending},
            description=(
                "Over the last 24 hours, highest score first. Each person counts once a tag, with "
                "the latest use, which weighs half as much after every six hours; deleted posts do "
                "not count. `asOf` answers the 24 hours before: as of a position, before the "
                "moment at which that was recorded."
            ),
            parameters=[LIMIT, AS_OF, LOG_POSITION],
            refusals=(401, 422, 503),
            login="optional",
        )
    )
    async def trending(request: Request) -> Response:
        await context.reader(request.scope["headers"])
        limit = limit_of(request.query_params)
        at = await context.as_of(request.query_params)
        if at is None:
            after = required_position(request.scope["headers"])
            topics = await board.now(after)
            wanted = NONE if categories is None else await categories.now(after)
        elif (moment := await moment_at(discovery, request.query_params["asOf"], at)) is None:
            topics = wanted = NONE
        else:
            topics = Ranked(await board.at(moment, at), complete=True)
            wanted = NONE if categories is None else await categories.at(moment, at)
        return Response(
            msgspec.json.encode(
                Trending(
                    topics=[
                        Topic(tag=trend.name, count=trend.people, score=trend.score)
                        for trend in topics.trends[:limit]
                    ],
                    categories=[
                        Category(category=trend.name, count=trend.people, score=trend.score)
                        for trend in wanted.trends[:limit]
                    ],
                    degraded=UNSET if topics.complete and wanted.complete else True,
                )
            ),
            media_type="application/json",
        )

    return [Route("/api/trending", trending)]


async def moment_at(discovery: Discovery, text: str, at: int) -> datetime | None:
    """Where the window ends that `asOf` names: there, or when the position was recorded."""
    return await discovery.recorded_at(at) if text.isdigit() else moment_of(text)
