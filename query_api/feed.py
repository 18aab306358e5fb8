"""The home timeline, the busiest page there is: plain ASGI, and one look-up in most cases.

A cursor pins the log position of the first page: later pages show what was in the timeline then,
less what has been deleted, hidden or taken back since. It also carries the old posts that were
shown because somebody reposted them, since an older entry may bring them again.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal
from urllib.parse import unquote_plus

from starlette.types import Receive, Scope, Send

from infra.http.authentication import header
from infra.http.consistency import required_position
from infra.http.lists import LIMIT_DEFAULT, choice_of, limit_of
from infra.http.openapi import Operation, Parameter
from query_api import past
from query_api.context import Context, Headers
from query_api.items import Shown
from query_api.parameters import AS_OF, LIST_PARAMETERS, LOG_POSITION
from query_api.pipeline import Selection, Since, later_page_of, page_of, rank
from query_api.present import post_page
from query_api.shapes import FeedPage
from query_api.skeletons import Place, Skeleton, Skeletons
from query_api.viewers import Viewer

MODES = ("ranked", "latest")
TIMED_EVERY = 16
JSON = (b"content-type", b"application/json")


@dataclass(frozen=True)
class Bookmark:
    """What a cursor of the feed holds. `served` are positions of posts older than `last`."""

    position: int
    last: int
    served: Sequence[int] = ()

    def encode(self) -> bytes:
        numbers = [self.position, self.position - self.last]
        before = self.last
        for post in sorted(self.served, reverse=True):
            numbers.append(before - post)
            before = post
        return b"".join(map(varint, numbers))

    @classmethod
    def decode(cls, payload: bytes) -> "Bookmark":
        position, below, *gaps = numbers_in(payload)
        last = before = position - below
        served = []
        for gap in gaps:
            before -= gap
            served.append(before)
        return cls(position, last, served)

    def next(self, shown: Sequence[Shown], entries: Sequence[int]) -> "Bookmark":
        """The bookmark after a page. A post that stands above its last entry cannot come again."""
        last = entries[-1]
        served = {post for post in self.served if post < last}
        served.update(found.post_position for found in shown if found.post_position < last)
        return Bookmark(self.position, last, sorted(served))


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def numbers_in(payload: bytes) -> list[int]:
    numbers, number, shift = [], 0, 0
    for byte in payload:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(number)
            number = shift = 0
    return numbers


@dataclass(frozen=True)
class Asked:
    """The parameters of a request, checked."""

    mode: str
    limit: int
    cursor: str | None
    as_of: str | None


DEFAULT = Asked(MODES[0], LIMIT_DEFAULT, None, None)


def asked(query_string: bytes) -> Asked:
    if not query_string:
        return DEFAULT
    parameters = parse(query_string)
    return Asked(
        choice_of(parameters, "mode", MODES),
        limit_of(parameters),
        parameters.get("cursor"),
        parameters.get("asOf"),
    )


def parse(query_string: bytes) -> dict[str, str]:
    """The parameters of a query string; of a repeated one the last."""
    found = {}
    for part in query_string.split(b"&"):
        name, _, value = part.decode("latin-1").partition("=")
        if "%" in value or "+" in value:
            value = unquote_plus(value)
        found[name] = value
    return found


class Feed:
    """`GET /api/feed`."""

    operation = Operation(
        summary="The caller's home timeline",
        tag="Feed",
        answers={200: FeedPage},
        description=(
            "What the caller and the accounts they follow have posted or reposted, newest first. "
            "`degraded` is true while the page comes from the fallback path: slower, same items."
        ),
        parameters=[
            Parameter("mode", Literal["ranked", "latest"], "The order of the items."),
            *LIST_PARAMETERS,
            AS_OF,
            LOG_POSITION,
        ],
        refusals=(401, 422, 503),
    )

    def __init__(self, context: Context, skeletons: Skeletons) -> None:
        self._context = context
        self._skeletons = skeletons
        self._numbers = count()

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        body = await self.answer(scope["headers"], scope["query_string"])
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [JSON, (b"content-length", b"%d" % len(body))],
            }
        )
        await send({"type": "http.response.body", "body": body})

    async def answer(self, headers: Headers, query_string: bytes) -> bytes:
        context = self._context
        authorization = header(headers, b"authorization")
        session = context.authenticator.authenticate(authorization)
        wanted = asked(query_string)
        if await context.caught_up(headers):
            session = context.authenticator.authenticate(authorization)
        viewer = await context.viewers.get(session.member_id)
        if wanted.as_of is not None:
            return await self._past(viewer, wanted)
        return await self._page(viewer, wanted, required_position(headers))

    async def _page(self, viewer: Viewer, wanted: Asked, after: int) -> bytes:
        timed = next(self._numbers) % TIMED_EVERY == 0
        started = time.perf_counter() if timed else 0.0
        context = self._context
        bookmark: Bookmark | None = None
        if wanted.cursor is None:
            skeleton = await self._skeletons.first(viewer, wanted.limit, after)
        else:
            listing = f"feed {viewer.id} {wanted.mode}"
            bookmark = Bookmark.decode(context.cursors.open(listing, wanted.cursor))
            place = Place(bookmark.position, bookmark.last)
            skeleton = await self._skeletons.below(viewer, place)
        found_at = time.perf_counter() if timed else 0.0
        # One more than is shown tells whether there is a next page.
        selection = await self._selection(skeleton, viewer, wanted.limit + 1, bookmark)
        while len(selection.shown) <= wanted.limit and skeleton.rest is not None:
            skeleton = await skeleton.rest()
            selection = await self._selection(skeleton, viewer, wanted.limit + 1, bookmark)
        shown, entries = selection.shown[: wanted.limit], selection.entries[: wanted.limit]
        if not viewer.complete:
            await context.viewers.know(viewer, [found.post_id for found in shown])
        hydrated_at = time.perf_counter() if timed else 0.0
        cursor = None
        if len(selection.shown) > wanted.limit:
            here = bookmark or Bookmark(skeleton.position, skeleton.position)
            following = here.next(shown, entries)
            listing = f"feed {viewer.id} {wanted.mode}"
            cursor = context.cursors.seal(listing, following.encode())
        body = post_page(shown, viewer, cursor, degraded=skeleton.degraded)
        if timed:
            stages = context.stages
            stages.skeleton(found_at - started)
            stages.hydrate(hydrated_at - found_at)
            stages.present(time.perf_counter() - hydrated_at)
        return body

    async def _selection(
        self, skeleton: Skeleton, viewer: Viewer, count: int, bookmark: Bookmark | None
    ) -> Selection:
        candidates, items = rank(skeleton.candidates), self._context.items
        if bookmark is None:
            return await page_of(candidates, items, viewer, count)
        since = Since(bookmark.position, bookmark.served, skeleton.left)
        return await later_page_of(
            candidates, items, viewer, count, since=since, brought=self._brought
        )

    async def _brought(self, viewer: Viewer, post_ids: Collection[int]) -> Mapping[int, int]:
        return await self._context.reads.brought(viewer.number, post_ids)

    async def _past(self, viewer: Viewer, wanted: Asked) -> bytes:
        """The timeline as of a position: everything is known, so the cursor is only a place."""
        context = self._context
        at = await context.as_of({"asOf": wanted.as_of or ""})
        assert at is not None
        listing = f"feed-at {viewer.id} {wanted.mode} {at}"
        last = at + 1
        if wanted.cursor is not None:
            last = Bookmark.decode(context.cursors.open(listing, wanted.cursor)).last
        then = await past.viewer_at(context, viewer, at)
        shown, entries = await past.timeline_at(context, then, at, last, wanted.limit + 1)
        cursor = None
        if len(shown) > wanted.limit:
            end = Bookmark(at, entries[wanted.limit - 1])
            cursor = context.cursors.seal(listing, end.encode())
        context.stages.past()
        return post_page(shown[: wanted.limit], then, cursor)
