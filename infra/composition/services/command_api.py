"""The command service, assembled."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector
from starlette.routing import Route
from starlette.types import ASGIApp

from command_api import (
    carts,
    checkouts,
    engagement,
    orders,
    posts,
    products,
    relations,
    sessions,
    shops,
    users,
    webhooks,
)
from command_api.endpoint import Desk
from command_api.market import Market, knows_product
from command_api.users import Accounts
from domain.deciders import DECIDERS
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.migrations import migrate
from infra.adapters.payments.adyen_webhooks import AdyenNotifications
from infra.adapters.payments.payment_secrets import PAYMENTS_KEY, PostgresPaymentSecrets
from infra.adapters.reads.postgres_commerce_reads import PostgresCommerceReads
from infra.adapters.reads.postgres_reads import PostgresReads
from infra.adapters.secrets.keyring import PostgresCredentials, PostgresKeyring, secret
from infra.adapters.secrets.passwords import Argon2Passwords
from infra.adapters.tables.postgres_changes import PostgresChanges
from infra.composition.services.limits import FAILED_LOG_INS, LIMITS, limits_of, refuse_unknown
from infra.composition.services.revocations import follow_revocations
from infra.composition.settings import Settings
from infra.composition.tracing import TracedLog, spans_for
from infra.http import self_description
from infra.http.authentication import Authenticator, Revocations, Tokens
from infra.http.entrance import Entrance, Origins
from infra.http.metrics import RequestMetrics
from infra.http.rate_limits import Failures, Limit, RateLimits
from infra.http.self_description import About
from infra.http.server import serve as serve_http
from infra.http.traced import TracedEntrance
from infra.measures import Histogram
from infra.ports.log import Clock, EventLog, LogUnavailable, Recorded, StoredAnswer
from infra.ports.secrets import Credentials, Keyring, Passwords
from infra.runtime.commands.execute import Executor
from infra.tracing import Spans

ABOUT = About(
    "Plaza: commands",
    "1",
    "Everything that changes something. A success is answered once its events are durable, and "
    "its `Log-Position` lets the query service answer with them included. Every refusal is a "
    "problem document (RFC 9457). A body is read as JSON, whatever its Content-Type.",
)

HOT = {("POST", posts.PATH)}


@dataclass(frozen=True, kw_only=True)
class Secrets:
    tokens: bytes
    names: bytes
    answers: bytes


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the service stands on. Tests hand in the same kinds of things as `serve` does."""

    log: EventLog
    keyring: Keyring
    credentials: Credentials
    passwords: Passwords
    secrets: Secrets
    revocations: Revocations
    clock: Clock
    market: Market | None = None
    """None: nothing is sold."""

    spans: Spans | None = None
    """None: no traces are exported."""


def utc_now() -> datetime:
    return datetime.now(UTC)


def build(
    resources: Resources,
    *,
    session_lifetime: timedelta = timedelta(days=30),
    limits: Mapping[str, Limit] | None = LIMITS,
    monotonic: Callable[[], float] = time.monotonic,
    origins: Sequence[str] = (),
) -> Entrance:
    """The service as an ASGI application. `limits` None: nothing is limited."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    metrics = RequestMetrics(registry)
    spans = resources.spans
    traced = resources.log if spans is None else TracedLog(resources.log, spans)
    log = MeasuredLog(traced, registry)

    def now() -> float:
        # Every request asks, and a moment of the calendar costs twenty times as much.
        return time.time() if resources.clock is utc_now else resources.clock().timestamp()

    desk = Desk(
        executor=Executor(log, resources.keyring, DECIDERS, resources.clock),
        log=log,
        authenticator=Authenticator(
            Tokens(resources.secrets.tokens),
            resources.revocations,
            now,
        ),
        limits=RateLimits(limits or {}, monotonic),
        secret=resources.secrets.answers,
    )
    accounts = Accounts(
        keyring=resources.keyring,
        credentials=resources.credentials,
        passwords=resources.passwords,
        failures=Failures(FAILED_LOG_INS if limits else UNLIMITED, monotonic),
        name_secret=resources.secrets.names,
        clock=resources.clock,
    )
    routes = [
        *users.routes(desk, accounts),
        *sessions.routes(desk, accounts, session_lifetime),
        *relations.routes(desk),
        *posts.routes(desk, resources.clock, knows_product if resources.market else None),
        *engagement.routes(desk),
        *(market_routes(desk, resources.market) if resources.market else ()),
    ]
    own = self_description.routes(ABOUT, others=routes, metrics_kept=metrics, ready=readiness(log))
    entrance = Entrance if spans is None else partial(TracedEntrance, spans=spans)
    return entrance(
        [*routes, *own],
        metrics=metrics,
        log=structlog.get_logger("command_api"),
        origins=Origins(origins),
        hot=hot_endpoints(routes),
    )


def market_routes(desk: Desk, market: Market) -> list[Route]:
    return [
        *shops.routes(desk, market),
        *products.routes(desk, market),
        *carts.routes(desk, posts.knows_post),
        *checkouts.routes(desk, market),
        *orders.routes(desk, market),
        *webhooks.routes(desk, market),
    ]


UNLIMITED = Limit(per_minute=1e9, burst=1_000_000_000)


def hot_endpoints(routes: Sequence[Route]) -> dict[tuple[str, str], ASGIApp]:
    return {
        (method, route.path): route.endpoint
        for route in routes
        for method in route.methods or ()
        if (method, route.path) in HOT
    }


def readiness(log: EventLog) -> self_description.Ready:
    async def missing() -> str | None:
        try:
            async with asyncio.timeout(2):
                await log.head()
        except (LogUnavailable, TimeoutError):
            return "The event log cannot be reached."
        return None

    return missing


class MeasuredLog:
    """An event log that measures how long appends take."""

    def __init__(self, log: EventLog, registry: CollectorRegistry) -> None:
        self._log = log
        self.load = log.load
        self.load_many = log.load_many
        self.answer = log.answer
        self.read = log.read
        self.head = log.head
        self.wait = log.wait
        about = "Time from a command's decision until its events are durable"
        self._observe = Histogram("plaza_append_seconds", about, [], registry).times().observe

    async def append(
        self, events: Sequence[Recorded], answer: StoredAnswer | None = None
    ) -> Sequence[int]:
        started = time.perf_counter()
        positions = await self._log.append(events, answer)
        self._observe(time.perf_counter() - started)
        return positions


async def serve(settings: Settings, on_ready: Callable[[int], None] | None = None) -> None:
    """Serve until cancelled; requests under way are finished first."""
    await migrate(settings.postgres_url)
    limits = limits_of(settings)
    async with opened(settings) as resources:
        app = build(
            resources,
            session_lifetime=timedelta(days=settings.session_days),
            limits=limits,
            origins=settings.origins,
        )
        refuse_unknown(limits, app.routes)
        await serve_http(app, settings.bind_host, settings.command_api_port, on_ready)


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Resources]:
    """Everything the service stands on, connected, and closed again afterwards."""
    url = settings.postgres_url
    async with contextlib.AsyncExitStack() as stack:
        log = await PostgresEventLog.open(url)
        stack.push_async_callback(log.close)
        keyring = await PostgresKeyring.connect(url)
        stack.push_async_callback(keyring.close)
        credentials = await PostgresCredentials.connect(url)
        stack.push_async_callback(credentials.close)
        passwords = Argon2Passwords()
        stack.callback(passwords.close)
        reads = PostgresReads(url, connections_max=1)
        stack.push_async_callback(reads.close)
        revocations = Revocations()
        following = asyncio.create_task(
            follow_revocations(reads, PostgresChanges(url), revocations)
        )
        stack.callback(following.cancel)
        yield Resources(
            log=log,
            keyring=keyring,
            credentials=credentials,
            passwords=passwords,
            secrets=Secrets(
                tokens=await secret(url, "token"),
                names=await secret(url, "username"),
                answers=await secret(url, "idempotency"),
            ),
            revocations=revocations,
            clock=utc_now,
            market=await opened_market(settings, stack),
            spans=spans_for(settings, "command-api", stack),
        )


async def opened_market(settings: Settings, stack: contextlib.AsyncExitStack) -> Market:
    url = settings.postgres_url
    entrusted = await PostgresPaymentSecrets.connect(url, await secret(url, PAYMENTS_KEY))
    stack.push_async_callback(entrusted.close)
    reads = PostgresCommerceReads(url, connections_max=2)
    stack.push_async_callback(reads.close)
    # Without a key nobody can sign, so that every notification is refused.
    hmac_key = settings.adyen_hmac_key or secrets.token_hex(32)
    return Market(
        secrets=entrusted,
        notifications=AdyenNotifications(hmac_key),
        availability=reads,
        hold_seconds=settings.reservation_seconds,
        clock=utc_now,
    )
