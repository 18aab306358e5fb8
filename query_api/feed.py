"""The home timeline, the busiest page there is: plain ASGI, and one look-up in most cases.

Where nothing about it is unusual, the newest page is made without a task, as soon as Redis has
answered; everything else goes the ordinary way, which shows the same.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal
from urllib.parse import unquote_plus

import structlog
from starlette.types import Receive, Scope, Send

from infra.http.authentication import Session
from infra.http.consistency import HEADER as POSITION_HEADER
from infra.http.consistency import required_position
from infra.http.entrance import HEADERS_KEY, Begun
from infra.http.lists import LIMIT_DEFAULT, choice_of, limit_of
from infra.http.openapi import Operation, Parameter
from query_api import past
from query_api.context import Context
from query_api.parameters import AS_OF, LIST_PARAMETERS, LOG_POSITION
from query_api.recommended import Recommendations, recommended_posts
from query_api.shapes.social import FeedPage
from query_api.timelines.bookmarks import Bookmark, bookmark_of_recommended, encoded, recommended_in
from query_api.timelines.pipeline import Selection, Since, later_page_of, page_of, rank
from query_api.timelines.present import page_json, post_page
from query_api.timelines.quick import latest_of, quick_page
from query_api.timelines.skeletons import Place, Skeleton, Skeletons
from query_api.timelines.viewers import Latest, Viewer

log = structlog.get_logger(__name__)

LATEST = "latest"
MODES = ("ranked", LATEST)
TIMED_EVERY = 16
ASKED_MAX = 1000
JSON = (b"content-type", b"application/json")
BEGIN = b'{"posts":['
END = b'],"nextCursor":null,"hasMore":false}'
NEXT = b'],"nextCursor":"'
MORE = b'","hasMore":true}'


@dataclass(frozen=True)
class Asked:
    """The parameters of a request, checked."""

    mode: str
    limit: int
    cursor: str | None
    as_of: str | None

    @property
    def simple(self) -> bool:
        """Whether the newest page is asked for."""
        return self.cursor is None and self.as_of is None


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
            "What the caller and the accounts they follow have posted or reposted, each post once: "
            "the best 200 first and then the newest, or all newest first with `mode=latest`. A "
            "reply is in it where it continues a thread of its author alone. "
            "`degraded` is true while the page comes from the fallback path: slower, same items. "
            "While that is nothing at all, posts of popular accounts and on what trends, of kind "
            "`recommended` and each with its `reason`; with `mode=latest` or `asOf` the timeline "
            "alone."
        ),
        parameters=[
            Parameter("mode", Literal["ranked", "latest"], "The order of the items."),
            *LIST_PARAMETERS,
            AS_OF,
            LOG_POSITION,
        ],
        refusals=(401, 422, 503),
    )

    def __init__(
        self,
        context: Context,
        skeletons: Skeletons,
        recommendations: Recommendations | None = None,
    ) -> None:
        self._context = context
        self._skeletons = skeletons
        self._recommendations = recommendations
        self._numbers = count()
        self._asked: dict[bytes, Asked] = {}

    def begin(self, begun: Begun) -> bool:
        """The newest page without a task; see `infra.http.entrance.Beginner`."""
        headers = begun.headers
        context = self._context
        session = context.authenticator.authenticate(headers.get(b"authorization"))
        wanted = self._asked.get(begun.query_string)
        viewer = context.viewers.kept.get(session.member_id)
        if wanted is None or viewer is None or not viewer.complete or POSITION_HEADER in headers:
            return False
        return self._skeletons.ask(viewer, FirstPage(self, viewer, wanted, begun))

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        headers = scope[HEADERS_KEY]
        session = self._context.authenticator.authenticate(headers.get(b"authorization"))
        body = await self._answer(headers, session, self._understood(scope["query_string"]))
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [JSON, (b"content-length", b"%d" % len(body))],
            }
        )
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self, headers: Mapping[bytes, bytes], session: Session, wanted: Asked
    ) -> bytes:
        context = self._context
        after = required_position(headers.items())
        if await context.caught_up(after):
            session = context.authenticator.authenticate(headers.get(b"authorization"))
        viewer = await context.viewers.get(session.member_id)
        if wanted.as_of is not None:
            return await self._past(viewer, wanted)
        return await self._page(viewer, wanted, after)

    def _understood(self, query_string: bytes) -> Asked:
        wanted = asked(query_string)
        if wanted.simple and len(self._asked) < ASKED_MAX:
            self._asked[query_string] = wanted
        return wanted

    def first_page(self, viewer: Viewer, wanted: Asked, built: int, slots: bytes) -> bytes | None:
        """The newest page of a kept timeline, if nothing about it is unusual."""
        timed = next(self._numbers) % TIMED_EVERY == 0
        started = time.perf_counter() if timed else 0.0
        page = latest_of(viewer, built, slots, wanted.limit)
        shown = None if page is None else quick_page(viewer, page, self._context.items)
        # What is shown in the place of an empty timeline has to be looked for.
        if page is None or not shown:
            return None
        hydrated_at = time.perf_counter() if timed else 0.0
        stages = self._context.stages
        stages.pages["pushed"] += 1
        body = BEGIN + shown + (self._more(viewer, wanted.mode, page, built) if page.more else END)
        if timed:
            stages.hydrate(hydrated_at - started)
            stages.present(time.perf_counter() - hydrated_at)
        return body

    def _more(self, viewer: Viewer, mode: str, page: Latest, built: int) -> bytes:
        more = page.cursors.get(mode)
        if more is None:
            entries, last = page.entries, page.entries[-1]
            served = [post for post in page.posts if post < last]
            payload = encoded(max(built, entries[0]), last, served)
            more = page.cursors[mode] = NEXT + self._seal(viewer, mode)(payload) + MORE
        return more

    def _seal(self, viewer: Viewer, mode: str) -> Callable[[bytes], bytes]:
        seal = viewer.seals.get(mode)
        if seal is None:
            seal = viewer.seals[mode] = self._context.cursors.sealer(f"feed {viewer.id} {mode}")
        return seal

    def _observe(self, started: float, found_at: float, hydrated_at: float) -> None:
        stages = self._context.stages
        stages.skeleton(found_at - started)
        stages.hydrate(hydrated_at - found_at)
        stages.present(time.perf_counter() - hydrated_at)

    async def _page(self, viewer: Viewer, wanted: Asked, after: int) -> bytes:
        timed = next(self._numbers) % TIMED_EVERY == 0
        started = time.perf_counter() if timed else 0.0
        context = self._context
        bookmark: Bookmark | None = None
        if wanted.cursor is None:
            skeleton = await self._skeletons.first(viewer, wanted.limit, after)
        else:
            listing = f"feed {viewer.id} {wanted.mode}"
            payload = context.cursors.open(listing, wanted.cursor)
            if (recommended := recommended_in(payload)) is not None:
                return await self._recommended(viewer, wanted, recommended)
            bookmark = Bookmark.decode(payload)
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
            await context.viewers.know(viewer, [found.post_position for found in shown])
        if self._recommendations is not None and not (shown or bookmark or wanted.mode == LATEST):
            chosen = await self._recommendations.for_reader(viewer, after)
            return await self._recommended(viewer, wanted, chosen, degraded=skeleton.degraded)
        hydrated_at = time.perf_counter() if timed else 0.0
        cursor = None
        if len(selection.shown) > wanted.limit:
            here = bookmark or Bookmark(skeleton.position, skeleton.position)
            following = here.next(shown, entries)
            cursor = self._seal(viewer, wanted.mode)(
                encoded(following.position, following.last, following.served)
            ).decode()
        body = post_page(shown, viewer, cursor, degraded=skeleton.degraded)
        if timed:
            self._observe(started, found_at, hydrated_at)
        return body

    async def _recommended(
        self, viewer: Viewer, wanted: Asked, left: Sequence[int], *, degraded: bool = False
    ) -> bytes:
        """A page of what is recommended; its cursor names all that is left."""
        assert self._recommendations is not None
        posts, left = await recommended_posts(
            self._context, self._recommendations, viewer, left, wanted.limit
        )
        cursor = None
        if left:
            cursor = self._seal(viewer, wanted.mode)(bookmark_of_recommended(left)).decode()
        self._context.stages.pages["recommended"] += 1
        return page_json(posts, cursor, degraded=degraded)

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
            cursor = context.cursors.seal(listing, encoded(end.position, end.last, ()))
        context.stages.pages["past"] += 1
        return post_page(shown[: wanted.limit], then, cursor)


class FirstPage:
    """A newest page under way: Redis has been asked for the timeline; see `SlotsAsked`."""

    __slots__ = ("_begun", "_feed", "_viewer", "_wanted")

    def __init__(self, feed: Feed, viewer: Viewer, wanted: Asked, begun: Begun) -> None:
        self._feed = feed
        self._viewer = viewer
        self._wanted = wanted
        self._begun = begun

    def found(self, built: int, slots: bytes) -> None:
        begun = self._begun
        try:
            body = self._feed.first_page(self._viewer, self._wanted, built, slots)
        except Exception:
            # Whatever it is, it must not reach the connection that others wait on too.
            log.exception("feed.first_page_failed")
            body = None
        if body is None:
            begun.leave()
        else:
            begun.answer(body)

    def not_found(self) -> None:
        self._begun.leave()
