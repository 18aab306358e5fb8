"""The query service, assembled."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector
from starlette.routing import Route
from starlette.types import ASGIApp

from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.migrations import migrate
from infra.adapters.reads.postgres_commerce_reads import PostgresCommerceReads
from infra.adapters.reads.postgres_discovery import PostgresDemand, PostgresDiscovery
from infra.adapters.reads.postgres_reads import PostgresReads
from infra.adapters.secrets.keyring import PostgresKeyring, secret
from infra.adapters.system_view import SystemView
from infra.adapters.tables.postgres_changes import PostgresChanges
from infra.adapters.timelines.redis_timeline_reader import RedisTimelineReader
from infra.composition.services.moments import moments_indexed
from infra.composition.services.revocations import RevocationFollower, follow_revocations
from infra.composition.services.search_reads import search_reads
from infra.composition.services.seen_positions import SeenPositions
from infra.composition.settings import Settings
from infra.composition.tracing import spans_for
from infra.formats.codec import username_key
from infra.http import self_description
from infra.http.authentication import Authenticator, Revocations, Tokens
from infra.http.consistency import Applied
from infra.http.cursors import Cursors
from infra.http.entrance import Entrance, Origins
from infra.http.metrics import RequestMetrics
from infra.http.self_description import About
from infra.http.server import serve as serve_http
from infra.http.traced import TracedEntrance
from infra.http.whole_pages import WholePages
from infra.ports.commerce_reads import PROJECTIONS as COMMERCE_PROJECTIONS
from infra.ports.commerce_reads import CommerceReads
from infra.ports.discovery import Demand, Discovery
from infra.ports.frames import COMMERCE_PARTITIONS, SOCIAL_PARTITIONS
from infra.ports.log import Clock
from infra.ports.reads import Changes, Reads, ReadsUnavailable
from infra.ports.search_reads import SearchReads
from infra.ports.secrets import Keyring
from infra.ports.system_state import SystemState
from infra.ports.timelines import TimelineReader, TimelinesUnavailable
from infra.runtime.frames.frames import LogLines
from infra.runtime.projecting.live import Live
from infra.runtime.system_metrics import SystemMetrics
from infra.tracing import Spans
from query_api import (
    cart,
    checkouts,
    explain,
    orders,
    posts,
    products,
    search,
    search_kinds,
    suggestions,
    trending,
    typeahead,
    users,
)
from query_api.context import Context
from query_api.feed import Feed
from query_api.firehose import PATH as FIREHOSE
from query_api.firehose import Firehose
from query_api.firehose import routes as firehose_routes
from query_api.halves import AppliedBeside, AppliedHere
from query_api.market import Market, Products
from query_api.recommended import Recommendations
from query_api.searching.search_index import SearchIndex
from query_api.suggestions import PopularAccounts
from query_api.timelines.cache_metrics import measure_caches
from query_api.timelines.followers import CacheFollower, ProductFollower
from query_api.timelines.items import Items, NoProducts
from query_api.timelines.skeletons import Skeletons
from query_api.timelines.stages import Stages
from query_api.timelines.viewers import Viewers
from query_api.trends.board import Board, Categories

ABOUT = About(
    "Plaza: queries",
    "1",
    "Everything that is read. A `Log-Position` that a command was answered with makes a query wait "
    "until it can be seen. Every refusal is a problem document (RFC 9457).",
)

PROJECTIONS = ("members", "graph", "posts", "engagement", "sessions", "tags")
FEED = "/api/feed"


@dataclass(frozen=True, kw_only=True)
class Secrets:
    tokens: bytes
    names: bytes
    cursors: bytes


class Switches(Protocol):
    """Who notices that other tables are served than before."""

    @property
    def generation(self) -> int: ...

    def on_renewed(self, call: Callable[[str], None], /) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the service stands on. Tests hand in the same kinds of things as `serve` does."""

    reads: Reads
    changes: Changes
    timelines: TimelineReader | None
    keyring: Keyring
    secrets: Secrets
    revocations: Revocations
    clock: Clock
    commerce: CommerceReads | None = None
    """None: nothing is sold, and posts are shown without products."""
    log: LogLines | None = None
    """None: there is no firehose."""
    switches: Sequence[Switches] = ()
    search: SearchReads | None = None
    """None: nothing can be searched."""
    search_cache_seconds: float = 0.0

    discovery: Discovery | None = None
    """None: nothing trends, and nobody is suggested or recommended."""
    demand: Demand | None = None
    """None: nothing is sold, or nobody knows what is in demand."""
    system: Callable[[], Awaitable[SystemState]] | None = None
    """None: nothing is measured of the log and of who follows it."""

    spans: Spans | None = None
    """None: no traces are exported."""


@dataclass(frozen=True)
class Service:
    """The application, and what keeps it current for as long as it is served."""

    app: Entrance
    lives: Sequence[Live]
    firehose: Firehose | None = None

    def end(self) -> None:
        """Finish the answers that would go on without end."""
        if self.firehose is not None:
            self.firehose.end()


class ForgettingRevocations(Revocations):
    """Who is erased is refused, and their key forgotten: another process destroyed it."""

    def __init__(self, keyring: Keyring) -> None:
        super().__init__()
        self._keyring = keyring

    def erase_members(self, member_ids: Iterable[str]) -> None:
        new = [member_id for member_id in member_ids if member_id not in self._erased]
        super().erase_members(new)
        for member_id in new:
            self._keyring.forget(member_id)


def utc_now() -> datetime:
    return datetime.now(UTC)


def build(resources: Resources, *, origins: Sequence[str] = ()) -> Service:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    system = None if resources.system is None else SystemMetrics(registry, resources.system)
    metrics = RequestMetrics(registry, None if system is None else system.refresh)
    reads, keyring = resources.reads, resources.keyring
    catalogue = None if resources.commerce is None else Products(resources.commerce, keyring)
    cards = catalogue or NoProducts()
    items, viewers, applied = Items(reads, keyring, cards), Viewers(reads), Applied()
    sold_up_to = None if resources.commerce is None else AppliedHere(resources.commerce)

    def now() -> float:
        # Every request asks, and a moment of the calendar costs twenty times as much.
        return time.time() if resources.clock is utc_now else resources.clock().timestamp()

    seen = SeenPositions()
    live = Live(
        resources.changes,
        reads,
        projections=PROJECTIONS,
        followers=[CacheFollower(items, viewers), RevocationFollower(resources.revocations, now)],
        on_position=seen.following(SOCIAL_PARTITIONS, applied.advance),
        on_lost=lambda: applied.rewind(0),
    )
    context = Context(
        reads=reads,
        items=items,
        viewers=viewers,
        keyring=keyring,
        authenticator=Authenticator(Tokens(resources.secrets.tokens), resources.revocations, now),
        applied=applied if sold_up_to is None else AppliedBeside(applied, sold_up_to),
        cursors=Cursors(resources.secrets.cursors),
        clock=resources.clock,
        newest=live.newest_position,
        username_key=lambda name: username_key(resources.secrets.names, name),
        stages=Stages(registry),
        products=cards,
    )
    measure_caches(registry, context.stages, items, viewers)
    skeletons = Skeletons(reads, resources.timelines, applied, live.newest_position, context.stages)
    discovery, recommendations, board = resources.discovery, None, None
    if discovery is not None:
        board = Board(discovery, context.applied, resources.clock)
        recommendations = Recommendations(discovery, board, context.applied, resources.clock)
    feed = Feed(context, skeletons, recommendations)
    routes = [
        Route(FEED, feed, methods=["GET"]),
        *explain.routes(context, recommendations),
        *posts.routes(context),
        *users.routes(context),
    ]
    if discovery is not None and board is not None:
        routes += discovery_routes(resources, context, discovery, board)
    lives = [live]
    market = None
    hot_below: dict[tuple[str, str], tuple[ASGIApp, str]] = {}
    if catalogue is not None and sold_up_to is not None:
        market, market_live = sold(resources, catalogue, sold_up_to, context, seen)
        product = products.ProductEndpoint(market)
        routes += market_routes(market, product)
        hot_below["GET", products.PATH] = (product, "productId")
        lives.append(market_live)
    routes += search_routes(resources, context, market, registry, board)
    firehose = None
    if resources.log is not None:
        firehose = Firehose(resources.log)
        routes += firehose_routes(firehose)
    own = self_description.routes(
        ABOUT, others=routes, metrics_kept=metrics, ready=readiness(live, reads)
    )
    spans = resources.spans
    entrance = Entrance if spans is None else partial(TracedEntrance, spans=spans)
    app = entrance(
        [*routes, *own, seen.route()],
        metrics=metrics,
        log=structlog.get_logger("query_api"),
        origins=Origins(origins),
        beginners={("GET", FEED): feed},
        hot_below=hot_below,
        pages=whole_pages(resources, lives),
    )
    return Service(app, lives, firehose)


def whole_pages(resources: Resources, lives: Sequence[Live]) -> WholePages:
    """No page shows two builds, nor what was kept from one that is not served any more."""
    for switches in resources.switches:
        for live in lives:
            switches.on_renewed(live.forget)
    return WholePages(
        lambda: sum(switches.generation for switches in resources.switches), frozenset({FIREHOSE})
    )


def sold(
    resources: Resources,
    catalogue: Products,
    applied: AppliedHere,
    context: Context,
    seen: SeenPositions,
) -> tuple[Market, Live]:
    """The commerce half: its pages wait for its own projections, and for no others."""
    reads = applied.reads
    live = Live(
        resources.changes,
        reads,
        projections=COMMERCE_PROJECTIONS,
        partitions=COMMERCE_PARTITIONS,
        followers=[catalogue, ProductFollower(context.items)],
        on_position=seen.following(COMMERCE_PARTITIONS, applied.advance),
        on_lost=lambda: applied.rewind(0),
    )
    market = Market(
        reads=reads,
        products=catalogue,
        keyring=resources.keyring,
        authenticator=context.authenticator,
        applied=applied,
        cursors=context.cursors,
        clock=resources.clock,
    )
    return market, live


def discovery_routes(
    resources: Resources, context: Context, discovery: Discovery, board: Board
) -> list[Route]:
    categories = None
    if resources.demand is not None:
        categories = Categories(resources.demand, context.applied, resources.clock)
    return [
        *trending.routes(context, discovery, board, categories),
        *suggestions.routes(context, discovery, PopularAccounts(discovery, context.applied)),
    ]


def market_routes(market: Market, product: products.ProductEndpoint) -> list[Route]:
    return [
        *products.routes(market, product),
        *cart.routes(market),
        *checkouts.routes(market),
        *orders.routes(market),
    ]


def search_routes(
    resources: Resources,
    context: Context,
    market: Market | None,
    registry: CollectorRegistry,
    board: Board | None,
) -> list[Route]:
    if resources.search is None:
        return []
    index = SearchIndex(
        resources.search,
        context.newest,
        resources.clock,
        registry,
        seconds=resources.search_cache_seconds,
        happened={} if market is None else {"products": market.reads.happened},
    )
    return [
        *search.routes(context, index, search_kinds.Products(index, market)),
        *typeahead.routes(context, index, market, board),
    ]


def readiness(live: Live, reads: Reads) -> self_description.Ready:
    async def missing() -> str | None:
        if not live.connected:
            return "The read tables are not being followed yet."
        try:
            # Nobody has this id; but all tables have to be there to say so.
            await reads.profiles([0], 0)
        except ReadsUnavailable:
            return "The read tables cannot be reached."
        return None

    return missing


async def serve(settings: Settings, on_ready: Callable[[int], None] | None = None) -> None:
    """Serve until cancelled; requests under way are finished first."""
    await migrate(settings.postgres_url)
    async with opened(settings) as resources:
        service = build(resources, origins=settings.origins)
        async with kept_current(service, resources):
            await serve_http(
                service.app,
                settings.bind_host,
                settings.query_api_port,
                on_ready,
                on_end=service.end,
            )


@contextlib.asynccontextmanager
async def kept_current(service: Service, resources: Resources) -> AsyncIterator[None]:
    """Follow what projections tell for as long as this is open."""
    tasks = [
        *(asyncio.create_task(live.run(), name="live") for live in service.lives),
        asyncio.create_task(
            follow_revocations(resources.reads, resources.changes, resources.revocations),
            name="revocations",
        ),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Resources]:
    """Everything the service stands on, connected, and closed again afterwards."""
    url = settings.postgres_url
    async with contextlib.AsyncExitStack() as stack:
        keyring = await PostgresKeyring.connect(url)
        stack.push_async_callback(keyring.close)
        reads = PostgresReads(url)
        stack.push_async_callback(reads.close)
        await stack.enter_async_context(moments_indexed(reads))
        commerce = PostgresCommerceReads(url)
        stack.push_async_callback(commerce.close)
        timelines = RedisTimelineReader(settings.redis_url)
        await timelines.open()
        stack.push_async_callback(timelines.close)
        log = await PostgresEventLog.open(url)
        stack.push_async_callback(log.close)
        discovery, demand = PostgresDiscovery(url), PostgresDemand(url)
        stack.push_async_callback(discovery.close)
        stack.push_async_callback(demand.close)
        found = search_reads(settings) if settings.opensearch_url else None
        if found is not None:
            stack.push_async_callback(found.close)

        async def kept() -> Mapping[int, int]:
            try:
                return await timelines.applied()
            except TimelinesUnavailable:
                return {}

        system = await SystemView.open(url, kept)
        stack.push_async_callback(system.close)
        yield Resources(
            reads=reads,
            changes=PostgresChanges(url),
            timelines=timelines,
            keyring=keyring,
            secrets=Secrets(
                tokens=await secret(url, "token"),
                names=await secret(url, "username"),
                cursors=await secret(url, "cursor"),
            ),
            revocations=ForgettingRevocations(keyring),
            clock=utc_now,
            commerce=commerce,
            log=log,
            switches=(reads.connections, commerce.connections),
            search=found,
            search_cache_seconds=settings.search_cache_seconds,
            discovery=discovery,
            demand=demand,
            system=system.look,
            spans=spans_for(settings, "query-api", stack),
        )
