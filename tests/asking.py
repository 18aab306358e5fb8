"""A query service in this process, asked over ASGI in members' names."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import httpx
from starlette.types import Receive, Scope, Send

from infra.adapters.reads.postgres_commerce_reads import PostgresCommerceReads
from infra.adapters.reads.postgres_discovery import PostgresDiscovery
from infra.adapters.reads.postgres_reads import PostgresReads
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.adapters.tables.postgres_changes import PostgresChanges
from infra.adapters.timelines.redis_timeline_reader import RedisTimelineReader
from infra.composition.services import query_api
from infra.composition.services.query_api import ForgettingRevocations, Resources, Secrets, Service
from infra.http.authentication import Session
from infra.http.entrance import Entrance
from projections import SOCIAL
from tests.square import Square


@dataclass
class WithoutTasks:
    """The service as its server calls it: what it can answer without a task it does so.

    `answered` counts those answers.
    """

    app: Entrance
    answered: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange()
        if not self.app.begin(scope, exchange):
            await self.app(scope, receive, send)
            return
        whole = await exchange.outcome
        if whole is None:
            await self.app(scope, receive, send)
            return
        self.answered += 1
        status, lines, body = whole
        headers = [tuple(line.split(b": ", 1)) for line in lines.split(b"\r\n")[:-1]]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Exchange:
    """See `infra.http.server.Exchange`; the outcome is None where the request was left."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[tuple[int, bytes, bytes] | None] = asyncio.Future()

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        self.outcome.set_result((status, headers, body))

    def leave(self) -> None:
        self.outcome.set_result(None)


@dataclass
class Asking:
    """Asks the service in members' names."""

    service: Service
    square: Square
    http: httpx.AsyncClient
    front: WithoutTasks
    timelines: RedisTimelineReader | None = None
    sessions: dict[str, Session] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def open(cls, square: Square, redis_url: str = "", **more: Any) -> AsyncIterator[Self]:
        """Without a Redis there is only the pull path; `more` are other `Resources`."""
        async with AsyncExitStack() as stack:
            timelines = None
            if redis_url:
                timelines = RedisTimelineReader(redis_url)
                await timelines.open()
                stack.push_async_callback(timelines.close)
                assert await timelines.wait_until_reachable(5)
            reads = PostgresReads(square.url)
            stack.push_async_callback(reads.close)
            switches = [reads.connections]
            commerce = None
            if square.projections is not SOCIAL:
                commerce = PostgresCommerceReads(square.url)
                stack.push_async_callback(commerce.close)
                switches.append(commerce.connections)
            keyring = await PostgresKeyring.connect(square.url)
            stack.push_async_callback(keyring.close)
            more.setdefault("clock", lambda: datetime.now(UTC))
            resources = Resources(
                reads=reads,
                changes=PostgresChanges(square.url),
                timelines=timelines,
                keyring=keyring,
                secrets=Secrets(
                    tokens=square.tokens._secret, names=square.names, cursors=b"c" * 32
                ),
                revocations=ForgettingRevocations(keyring),
                commerce=commerce,
                switches=switches,
                **more,
            )
            service = query_api.build(resources)
            await stack.enter_async_context(query_api.kept_current(service, resources))
            front = WithoutTasks(service.app)
            transport = httpx.ASGITransport(front)
            http = httpx.AsyncClient(transport=transport, base_url="http://plaza")
            await stack.enter_async_context(http)
            yield cls(service, square, http, front, timelines)

    def token(self, member: str) -> str:
        session = self.sessions.setdefault(member, self.square.session(member))
        return self.square.tokens.sign(session)

    async def raw(
        self, path: str, member: str = "", after: int | str | None = None, **parameters: Any
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token(member)}"} if member else {}
        if after is not None:
            headers["Log-Position"] = str(after)
        return await self.http.get(path, params=parameters, headers=headers)

    async def get(self, path: str, member: str = "", **parameters: Any) -> Any:
        answer = await self.raw(path, member, self.square.applied, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def feed(self, member: str, **parameters: Any) -> list[str]:
        """The post ids of all pages."""
        ids: list[str] = []
        while True:
            page = await self.get("/api/feed", member, **parameters)
            ids += [post["postId"] for post in page["posts"]]
            assert page["hasMore"] == (page["nextCursor"] is not None)
            if not page["hasMore"]:
                return ids
            parameters["cursor"] = page["nextCursor"]


@asynccontextmanager
async def discovering(square: Square, **more: Any) -> AsyncIterator[Asking]:
    """A service that knows what trends in a square, once everything there is applied."""
    await square.apply()
    discovery = PostgresDiscovery(square.url)
    try:
        async with Asking.open(square, discovery=discovery, **more) as asked:
            yield asked
    finally:
        await discovery.close()
