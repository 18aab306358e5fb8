"""Accounts to follow: those whom one's follows follow, and for a newcomer those whom many follow.

Nobody is suggested who is followed already, hidden either way, erased, or the reader.
"""

from collections.abc import Mapping, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.shared.identifiers import id_number, id_text
from infra.http.consistency import Applied, required_position
from infra.http.lists import limit_of
from infra.http.openapi import Operation, described
from infra.http.problems import unauthenticated
from infra.ports.discovery import Discovery, SecondHop
from query_api.caches.kept import Kept
from query_api.context import Context
from query_api.parameters import LIST_PARAMETERS, LOG_POSITION
from query_api.profiles import profiles
from query_api.shapes.social import Profile
from query_api.timelines.viewers import NOBODY, Viewer
from query_api.walk import Walk

SUGGESTED_MAX = 200
"""So many are worth walking through; a cursor holds those that are left."""


class Suggestion(Profile, frozen=True, rename="camel", kw_only=True):
    """`mutual_count`: how many of those whom the caller follows follow this account."""

    reason: str
    mutual_count: int


class SuggestionPage(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    users: list[Suggestion]
    next_cursor: str | None
    has_more: bool


class PopularAccounts:
    """Whom most people follow, for those who follow nobody yet."""

    def __init__(self, discovery: Discovery, applied: Applied) -> None:
        self._discovery = discovery
        self._kept = Kept(self._find, applied)

    async def get(self, after: int) -> Sequence[int]:
        return await self._kept.get(after)

    async def _find(self) -> Sequence[int]:
        return [one.member_id for one in await self._discovery.popular(SUGGESTED_MAX)]


def routes(context: Context, discovery: Discovery, popular: PopularAccounts) -> list[Route]:
    @described(
        Operation(
            summary="Accounts to follow, each with its reason",
            tag="Discovery",
            answers={200: SuggestionPage},
            description=(
                "Accounts followed by those whom the caller follows, most mutual follows first. "
                "Where there are none, the accounts with most followers."
            ),
            parameters=[*LIST_PARAMETERS, LOG_POSITION],
            refusals=(401, 422, 503),
        )
    )
    async def suggestions(request: Request) -> Response:
        headers = request.scope["headers"]
        viewer = await context.reader(headers)
        if viewer is NOBODY:
            raise unauthenticated("There is no Authorization header.")
        limit = limit_of(request.query_params)
        walk = Walk(context.cursors, f"suggestions {viewer.id}", request.query_params)
        left = walk.place(())
        hops: Sequence[SecondHop] = ()
        if "cursor" not in request.query_params:
            hops = await discovery.second_hop(viewer.number, viewer.hidden, SUGGESTED_MAX)
            left = [hop.member_id for hop in hops]
            left = left or await popular.get(required_position(headers))
        found: list[Suggestion] = []
        # One more than is shown tells whether there is a next page.
        while left and len(found) <= limit:
            taken = limit + 1 - len(found)
            found += await suggested(context, discovery, viewer, left[:taken], hops)
            left = left[taken:]
        left = [*(id_number(one.id) for one in found[limit:]), *left]
        del found[limit:]
        cursor = walk.cursor(left) if left else None
        page = SuggestionPage(users=found, next_cursor=cursor, has_more=cursor is not None)
        return Response(msgspec.json.encode(page), media_type="application/json")

    return [Route("/api/suggestions", suggestions)]


async def suggested(
    context: Context,
    discovery: Discovery,
    viewer: Viewer,
    numbers: Sequence[int],
    hops: Sequence[SecondHop],
) -> Sequence[Suggestion]:
    """Those of these accounts that may still be suggested, in their order."""
    if not hops:
        # On a later page: why they are suggested may have changed since.
        hops = await discovery.second_hop(viewer.number, viewer.hidden, len(numbers), numbers)
    by_id = {hop.member_id: hop for hop in hops}
    wanted = [number for number in numbers if number not in viewer.hidden]
    via = {one for number in wanted if number in by_id for one in by_id[number].via}
    shown = await profiles(context, viewer, [*{*wanted, *via}])
    names = {profile.id: profile.display_name or "" for profile in shown}
    found = {id_number(profile.id): profile for profile in shown}
    return [
        suggestion_of(profile, by_id.get(number), names)
        for number in wanted
        if (profile := found.get(number)) is not None
        and not profile.following
        and number != viewer.number
    ]


def suggestion_of(profile: Profile, hop: SecondHop | None, names: Mapping[str, str]) -> Suggestion:
    mutual = 0 if hop is None else hop.mutual
    known = [] if hop is None else [names[key] for one in hop.via if (key := id_text(one)) in names]
    reason = followed_by(known, mutual) if known else popular_with(profile.follower_count)
    return Suggestion(**msgspec.structs.asdict(profile), reason=reason, mutual_count=mutual)


def followed_by(names: Sequence[str], mutual: int) -> str:
    """As in "Followed by Ada, Bob and 3 others"."""
    others = mutual - len(names)
    if others:
        ending = "1 other" if others == 1 else f"{others} others"
        return f"Followed by {', '.join(names)} and {ending}"
    return f"Followed by {' and '.join(names)}"


def popular_with(followers: int) -> str:
    return "Popular: 1 follower" if followers == 1 else f"Popular: {followers} followers"
