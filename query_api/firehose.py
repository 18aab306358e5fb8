"""The public events of the log as they happen: server-sent, resumable, without anything personal.

Nothing is kept for a client but its place. Whoever reads too slowly for what its connection holds
is cut, and resumes where it was. Clients at the same place are handed the same frames, made once.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from domain.commerce.product import events as products
from domain.commerce.shop import events as shops
from domain.shared.message import tag_of
from domain.social.engagement import events as engagement
from domain.social.member import events as members
from domain.social.post import events as posts
from domain.social.relation import events as relations
from infra.formats.codec import decode_lines, personal_fields
from infra.formats.event_shapes import EventShapes, camel, left_out, timestamp
from infra.http.openapi import Operation, Parameter, described
from infra.http.problems import Problem, invalid_header, invalid_parameter
from infra.ports.log import LogUnavailable, Recorded
from infra.runtime.frames.frames import LogLines

PUBLIC: frozenset[type] = frozenset(
    {
        members.MemberRegistered,
        members.MemberErased,
        relations.Followed,
        relations.Unfollowed,
        posts.PostPublished,
        posts.PostDeleted,
        engagement.PostLiked,
        engagement.PostUnliked,
        engagement.PostReposted,
        engagement.RepostRemoved,
        shops.ShopOpened,
        products.ProductListed,
        products.ProductDescribed,
        products.PriceChanged,
        products.ProductWithdrawn,
        products.ProductOffered,
    }
)
"""What everybody may know. What members keep to themselves (blocks, sessions, carts, orders) and
what tells of it (stock) is not among it."""

WITHHELD: Mapping[type, set[str]] = {
    members.MemberRegistered: {"username_key"},
    posts.PostPublished: {"media_urls_in_the_clear"},
}
TAGS = {tag_of(kind): kind for kind in PUBLIC}

LINES_AT_ONCE = 200
BATCHES_KEPT = 16
CLIENTS_MAX = 100
HEARTBEAT_SECONDS = 15.0
SLOW_SECONDS = 10.0
"""How long a client may leave what it was sent unread, once its connection holds no more."""

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_POSITION = re.compile(r"\d{1,18}")

PATH = "/api/firehose"
log = structlog.get_logger(__name__)


class PublicEvent(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The data of one server-sent event; its `id` is the position, its `event` the type.

    A type ends with the version of its schema. Personal texts are left out of `data`.
    """

    position: int
    type: str
    schema_version: int
    recorded_at: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """The public events after some position, up to `last`, as frames ready to be sent."""

    last: int
    frames: list[tuple[type, bytes]]


class SlowClient(Exception):
    """It has not read what it was sent in time."""


class Firehose:
    """Streams to any number of clients until `end`."""

    def __init__(self, lines: LogLines) -> None:
        self._lines = lines
        self._batches: OrderedDict[int, asyncio.Task[Batch]] = OrderedDict()
        self._shapes = EventShapes(left_out)
        self._ended = asyncio.Event()
        self._clients = 0

    def end(self) -> None:
        """Finish all streams: the service is about to stop."""
        self._ended.set()

    async def head(self) -> int:
        return await self._lines.head()

    async def stream(
        self, after: int, kinds: frozenset[type], receive: Receive, send: Send
    ) -> None:
        """Send what comes after a position, until the client or the service goes."""
        self._clients += 1
        tasks = [
            asyncio.create_task(self._send_all(after, kinds, send)),
            asyncio.create_task(gone(receive)),
            asyncio.create_task(self._ended.wait()),
        ]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
            if not tasks[1].done():
                await send_part(send, b"", more=False)
        except SlowClient:
            log.info("firehose.client_cut", after=after)
        finally:
            self._clients -= 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def admit(self) -> None:
        """Raises `Problem` where there are enough clients."""
        if self._clients >= CLIENTS_MAX or self._ended.is_set():
            raise Problem(
                503,
                "too-many-streams",
                "There are too many streams",
                f"At most {CLIENTS_MAX} are served at a time.",
                headers={"Retry-After": "5"},
            )

    async def _send_all(self, after: int, kinds: frozenset[type], send: Send) -> None:
        await send_part(send, b"retry: 1000\n\n")
        try:
            while True:
                batch = await self._batch(after)
                if batch.last == after:
                    if not await self._lines.wait(after, HEARTBEAT_SECONDS):
                        # The id lets a client resume behind events that were not for it.
                        await send_part(send, b": still here\nid: %d\n\n" % after)
                    continue
                wanted = [frame for kind, frame in batch.frames if kind in kinds]
                if wanted:
                    await send_part(send, b"".join(wanted))
                after = batch.last
        except LogUnavailable:
            # The client comes back with the last id that it has seen.
            await send_part(send, b": the log cannot be reached\n\n")

    async def _batch(self, after: int) -> Batch:
        reading = self._batches.get(after)
        if reading is None:
            reading = self._batches[after] = asyncio.create_task(self._read(after))
            if len(self._batches) > BATCHES_KEPT:
                self._batches.popitem(last=False)
        try:
            batch = await asyncio.shield(reading)
        except LogUnavailable:
            self._forget(after, reading)
            raise
        if batch.last == after:
            self._forget(after, reading)
        return batch

    def _forget(self, after: int, reading: asyncio.Task[Batch]) -> None:
        if self._batches.get(after) is reading:
            del self._batches[after]

    async def _read(self, after: int) -> Batch:
        lines = await self._lines.read_lines(after, LINES_AT_ONCE)
        events, _ = decode_lines(lines)
        frames = [
            (type(one.event), self._frame(one)) for one in events if type(one.event) in PUBLIC
        ]
        return Batch(lines[-1].position if lines else after, frames)

    def _frame(self, recorded: Recorded) -> bytes:
        kind = type(recorded.event)
        tag = tag_of(kind)
        data = msgspec.to_builtins(self._shapes.shaped(recorded.event))
        for name in (*personal_fields(kind), *WITHHELD.get(kind, ())):
            data.pop(camel(name), None)
        event = PublicEvent(
            position=recorded.position,
            type=tag,
            schema_version=int(tag.rpartition(".v")[2]),
            recorded_at=timestamp(recorded.recorded_at),
            data=data,
        )
        # JSON holds no line ends, which would end a field of the frame.
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (
            recorded.position,
            tag.encode(),
            msgspec.json.encode(event),
        )


class Streamed(Response):
    """An answer that goes on."""

    def __init__(self, stream: Callable[[Receive, Send], Awaitable[None]]) -> None:
        super().__init__()
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        await self._stream(receive, send)


async def send_part(send: Send, body: bytes, *, more: bool = True) -> None:
    """Raises `SlowClient`."""
    try:
        async with asyncio.timeout(SLOW_SECONDS):
            await send({"type": "http.response.body", "body": body, "more_body": more})
    except TimeoutError:
        raise SlowClient from None


async def gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def routes(firehose: Firehose) -> list[Route]:
    @described(
        Operation(
            summary="Public events as they happen",
            tag="Events",
            description=(
                "Server-sent events: `id` is the log position, `event` the type, `data` a"
                " `PublicEvent`. A reconnect with `Last-Event-ID`, or `after`, misses nothing and"
                " repeats nothing. A comment comes every 15 seconds in which nothing else does."
                " A client that does not read is cut after 10 seconds."
            ),
            answers={200: PublicEvent},
            media_type="text/event-stream",
            login="none",
            parameters=[
                Parameter("types", str, "Of these types only, separated by commas."),
                Parameter(
                    "after",
                    str,
                    "After this position; 0: from the beginning; default: from now on.",
                ),
                Parameter("Last-Event-ID", str, "The same, and it comes first.", where="header"),
            ],
            refusals=(422, 503),
        )
    )
    async def stream(request: Request) -> Response:
        kinds = kinds_of(request.query_params.get("types"))
        after = place_of(request)
        firehose.admit()
        if after is None:
            after = await firehose.head()
        return Streamed(lambda receive, send: firehose.stream(after, kinds, receive, send))

    return [Route(PATH, stream, methods=["GET"])]


def kinds_of(text: str | None) -> frozenset[type]:
    if not text:
        return PUBLIC
    names = {name.strip() for name in text.split(",") if name.strip()}
    if unknown := sorted(names - TAGS.keys()):
        raise invalid_parameter("types", f"These are no public types: {', '.join(unknown)[:200]}.")
    return frozenset(TAGS[name] for name in names)


def place_of(request: Request) -> int | None:
    last_id = request.headers.get("last-event-id")
    if last_id is not None:
        if not _POSITION.fullmatch(last_id):
            raise invalid_header("Last-Event-ID", "Must be the id of an event.")
        return int(last_id)
    after = request.query_params.get("after")
    if after is None:
        return None
    if not _POSITION.fullmatch(after):
        raise invalid_parameter("after", "Must be a log position.")
    return int(after)
