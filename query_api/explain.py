"""Why a post is, or is not, in the caller's feed: each way in, each filter, its place.

It is answered from the pull path and the same steps that make pages, not from a second opinion.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.shared.identifiers import id_text
from infra.http.openapi import Operation, Parameter, described
from infra.http.problems import not_found, unauthenticated
from infra.ports.log import OPEN
from infra.ports.reads import Pulled, Way
from query_api.context import Context, post_number
from query_api.parameters import LOG_POSITION
from query_api.recommended import Recommendations
from query_api.timelines.items import Item
from query_api.timelines.pipeline import page_of
from query_api.timelines.skeletons import skeleton_of
from query_api.timelines.viewers import NOBODY, Viewer

TIMELINE_MAX = 800
POLICY = "latest"
RECOMMENDED = "recommended"


class Source(Struct, frozen=True, rename="camel", kw_only=True):
    """One way by which the post comes to the caller.

    `since` is the log position of the follow, 0 for the caller's own and what is recommended.
    `entry` is the position at
    which this way brings the post; `amongNewest` whether that is one of the 800 newest entries that
    the timeline holds.
    """

    kind: Literal["own", "follow", "repost", "recommended"]
    account_id: str
    since: int
    entry: int
    among_newest: bool
    taken_back: bool
    hidden: bool


class Term(Struct, frozen=True, rename="camel", kw_only=True):
    """A part of the score by which the policy orders; the greater comes first."""

    name: str
    value: float


Rule = Literal[
    "deleted",
    "blocked",
    "muted",
    "not_followed",
    "reply_rule",
    "taken_back",
    "before_follow",
    "beyond_newest_800",
]

DETAILS: dict[Rule, str] = {
    "deleted": "A deleted post is shown to nobody.",
    "blocked": "You block its author.",
    "muted": "You mute its author.",
    "not_followed": "Neither you nor anybody whom you follow has posted or reposted it.",
    "reply_rule": "A reply comes into feeds only where it continues its author's own thread.",
    "taken_back": "The repost that brought it has been taken back.",
    "before_follow": "Of what stood before a follow only the 20 newest come with it.",
    "beyond_newest_800": "800 newer entries have come since.",
}


class Filter(Struct, frozen=True, rename="camel", kw_only=True):
    """A rule that can keep the post out, and whether it does."""

    name: Rule
    applies: bool
    detail: str


class Explanation(Struct, frozen=True, rename="camel", kw_only=True):
    """`place` counts from 1 in the caller's whole feed, and is null where the post is not in it.

    Where nothing is in the caller's timeline, posts are recommended, and `reason` says why.
    """

    post_id: str
    in_feed: bool
    place: int | None
    policy: str
    sources: list[Source]
    terms: list[Term]
    filters: list[Filter]
    reason: str | UnsetType = UNSET


def routes(context: Context, recommendations: Recommendations | None = None) -> list[Route]:
    @described(
        Operation(
            summary="Why a post is, or is not, in the caller's feed",
            tag="Feed",
            answers={200: Explanation},
            parameters=[Parameter("postId", str, "The post.", where="path"), LOG_POSITION],
            refusals=(401, 404, 422, 503),
        )
    )
    async def explain(request: Request) -> Response:
        viewer = await context.reader(request.scope["headers"])
        if viewer is NOBODY:
            raise unauthenticated("There is no Authorization header.")
        number = post_number(request)
        item = (await context.items.by_id([number])).get(number)
        hides = await context.reads.hides_of(viewer.number)
        if item is None or blocked_by(item.author_id, viewer, hides):
            raise not_found("post")
        found = await explanation(context, viewer, item, hides, recommendations)
        return Response(msgspec.json.encode(found), media_type="application/json")

    return [Route("/api/feed/explain/{postId}", explain)]


Hides = frozenset[tuple[int, str]]


def blocked_by(author_id: int, viewer: Viewer, hides: Hides) -> bool:
    """Whether the author blocks the reader, to whom the post then does not exist."""
    return author_id in viewer.blocked and (author_id, "block") not in hides


async def explanation(
    context: Context,
    viewer: Viewer,
    item: Item,
    hides: Hides,
    recommendations: Recommendations | None = None,
) -> Explanation:
    at = await context.newest()
    pulled = await context.reads.pull(viewer.number, at)
    ways = await context.reads.ways(viewer.number, item.post_id, at)
    selection = await page_of(skeleton_of(pulled).candidates, context.items, viewer, TIMELINE_MAX)
    if not selection.shown and recommendations is not None and item.stands:
        recommended = await recommendations.for_reader(viewer, 0)
        if item.post_position in recommended:
            reason = await recommendations.reason(item.post_position)
            return recommended_explanation(item, recommended.index(item.post_position) + 1, reason)
    posts = [found.post_id for found in selection.shown]
    place = posts.index(item.post_id) + 1 if item.post_id in posts else None
    found = sources(ways, pulled, viewer)
    terms = [Term(name="entry", value=selection.entries[place - 1])] if place else []
    return Explanation(
        post_id=id_text(item.post_id),
        in_feed=place is not None,
        place=place,
        policy=POLICY,
        sources=found,
        terms=terms,
        filters=filters(item, found, pulled, hides),
    )


def recommended_explanation(item: Item, place: int, reason: str) -> Explanation:
    """The timeline is empty; this is shown in its place, and no rule keeps it out."""
    source = Source(
        kind="recommended",
        account_id=id_text(item.author_id),
        since=0,
        entry=item.post_position,
        among_newest=True,
        taken_back=False,
        hidden=False,
    )
    return Explanation(
        post_id=id_text(item.post_id),
        in_feed=True,
        place=place,
        policy=RECOMMENDED,
        sources=[source],
        terms=[],
        filters=[Filter(name=name, applies=False, detail=DETAILS[name]) for name in DETAILS],
        reason=reason,
    )


def sources(ways: Sequence[Way], pulled: Pulled, viewer: Viewer) -> list[Source]:
    among = {row.position for row in pulled.entries}
    return [
        Source(
            kind="repost" if way.is_repost else "follow" if way.since else "own",
            account_id=id_text(way.bringer_id),
            since=way.since,
            entry=way.position,
            among_newest=way.position in among,
            taken_back=way.is_repost and way.until != OPEN,
            hidden=way.bringer_id in viewer.hidden,
        )
        for way in ways
    ]


def filters(item: Item, found: Sequence[Source], pulled: Pulled, hides: Hides) -> list[Filter]:
    author = item.author_id
    returned = [source for source in found if not source.taken_back]
    outside = bool(returned) and not any(source.among_newest for source in returned)
    full = len(pulled.entries) == TIMELINE_MAX
    floor = pulled.entries[-1].position if full else 0
    answers: dict[Rule, bool] = {
        "deleted": not item.stands,
        "blocked": (author, "block") in hides,
        "muted": (author, "mute") in hides,
        "not_followed": not found and not item.answers,
        "reply_rule": not found and item.answers,
        "taken_back": bool(found) and not returned,
        "before_follow": outside and any(source.entry > floor for source in returned),
        "beyond_newest_800": outside and all(source.entry < floor for source in returned),
    }
    return [
        Filter(name=name, applies=applies, detail=DETAILS[name])
        for name, applies in answers.items()
    ]
