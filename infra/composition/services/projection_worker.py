"""The worker that keeps read models current and runs processes, assembled.

It takes frames from Kafka where there is a broker, and else follows the log itself.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from domain.deciders import DECIDERS
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.migrations import migrate
from infra.adapters.processes.process_progress import PostgresProgress
from infra.adapters.reads.member_traces import PostgresMemberTraces
from infra.adapters.reads.postgres_timeline_sources import PostgresTimelineSources
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.adapters.tables.postgres_builds import PostgresBuilds
from infra.adapters.tables.postgres_projections import PostgresProjections
from infra.adapters.timelines.redis_timelines import RedisTimelines
from infra.composition.operations.tables_keeper import HOUR_SECONDS
from infra.composition.services import commerce_worker, kafka_worker
from infra.composition.services.auditing import look_after
from infra.composition.services.metrics_server import serve_metrics
from infra.composition.services.search_indexing import indexing
from infra.composition.services.tasks import Tasks, halves
from infra.composition.settings import Settings
from infra.composition.tracing import TracedLog, spans_for
from infra.ports.frames import COMMERCE_PARTITIONS, SOCIAL_PARTITIONS
from infra.ports.keepers import AlreadyRebuilding
from infra.runtime.commands.execute import Executor
from infra.runtime.frames.embedded import EmbeddedRunner
from infra.runtime.frames.paced import Paced
from infra.runtime.indexing.search_indexing import SearchMetrics
from infra.runtime.projecting.applied_spans import AppliedSpans
from infra.runtime.projecting.appliers import ApplierMetrics, Appliers
from infra.runtime.projecting.project import PATIENCE_SECONDS, FrameApplier, Projector, persist
from infra.runtime.projecting.projection import Projection
from infra.runtime.projecting.sparse import Sparse
from infra.runtime.reacting.checkout_outcomes import CheckoutOutcomes
from infra.runtime.reacting.react import ProcessRunner
from infra.runtime.rebuilding.rebuild import Rebuilder, rare_collections
from infra.runtime.timelines.fanout import Limits, TimelineFanout
from infra.runtime.timelines.fanout_metrics import FanoutMetrics
from infra.runtime.timelines.sweep import TimelineSweep
from processes.erasure import erasure
from projections import COMMERCE, SOCIAL
from projections.home_timeline import effect_of
from projections.search import COMMERCE_SEARCH, SOCIAL_SEARCH

REDIS_WAIT_SECONDS = 2.0
COMMERCE_PAUSE_SECONDS = 0.025
RENEW_SECONDS = 1.0


async def serve(
    settings: Settings,
    projections: Collection[str] | None = None,
    processes: Collection[str] | None = None,
) -> None:
    """Run until cancelled: these projections and processes, or all there are."""
    await migrate(settings.postgres_url)
    with contextlib.ExitStack() as stack:
        spans = spans_for(settings, "worker", stack)
        applied = None if spans is None else AppliedSpans(spans)
        metrics = ApplierMetrics(REGISTRY, spans=applied)
        if settings.metrics_port:
            serve_metrics(settings.metrics_port, settings.bind_host, REGISTRY, metrics.history)
        stack.enter_context(rare_collections())
        await follow(settings, projections, processes, metrics)


async def follow(
    settings: Settings,
    projections: Collection[str] | None,
    processes: Collection[str] | None,
    metrics: ApplierMetrics,
) -> None:
    """Both halves, or the one that the names belong to. Raises `NotKnown`."""
    social, commerce = halves(projections, processes)
    searched = SearchMetrics(REGISTRY, caught_up=metrics.caught_up)
    async with asyncio.TaskGroup() as group:
        if any(social):
            group.create_task(follow_social(settings, social, metrics, searched))
        if commerce.projections:
            group.create_task(follow_commerce(settings, commerce.projections, metrics, searched))
        if commerce.processes:
            group.create_task(commerce_worker.run_processes(settings, commerce.processes))
        if social.projections or commerce.projections:
            group.create_task(look_after(settings))


async def follow_social(
    settings: Settings, tasks: Tasks, metrics: ApplierMetrics, searched: SearchMetrics
) -> None:
    async with opened(settings, *tasks, metrics=metrics, searched=searched) as (log, appliers):
        if settings.kafka_bootstrap:
            # Workers that do everything share one consumer group, however they were asked for it.
            named = None if tasks == halves(None, None)[0] else tasks
            projections, processes = named or (None, None)
            await kafka_worker.follow(settings, projections, processes, appliers)
        else:
            await EmbeddedRunner(log, appliers, SOCIAL_PARTITIONS).run()


async def follow_commerce(
    settings: Settings,
    projections: Collection[str],
    metrics: ApplierMetrics,
    searched: SearchMetrics | None = None,
) -> None:
    """The commerce half's read models follow the log itself, with a broker or without."""
    kept = [projection for projection in COMMERCE if projection.name in projections]
    async with contextlib.AsyncExitStack() as stack:
        log = await PostgresEventLog.open(settings.postgres_url)
        stack.push_async_callback(log.close)
        await renew(settings, kept, log)
        applier = await tables(settings, kept, log, stack)
        outcomes = CheckoutOutcomes(REGISTRY)
        indices = await indexing(
            settings,
            [one for one in COMMERCE_SEARCH if one.name in projections],
            log,
            stack,
            searched or SearchMetrics(CollectorRegistry()),
        )
        appliers = Appliers([Sparse(applier), *indices], metrics, seen=[outcomes.seen])
        paced = Paced(log, COMMERCE_PAUSE_SECONDS)
        await EmbeddedRunner(paced, appliers, COMMERCE_PARTITIONS).run()


@contextlib.asynccontextmanager
async def opened(  # noqa: PLR0913, PLR0917
    settings: Settings,
    projections: Collection[str] | None = None,
    processes: Collection[str] | None = None,
    registry: CollectorRegistry = REGISTRY,
    metrics: ApplierMetrics | None = None,
    searched: SearchMetrics | None = None,
) -> AsyncIterator[tuple[PostgresEventLog, Appliers]]:
    """The log, and everything that this worker keeps current, whoever hands it frames.

    Raises `NotKnown`.
    """
    names, running = halves(projections, processes)[0]
    kept = [projection for projection in SOCIAL if projection.name in names]
    async with contextlib.AsyncExitStack() as stack:
        log = await PostgresEventLog.open(settings.postgres_url)
        stack.push_async_callback(log.close)
        # Tables first: what stands behind them may read them.
        appliers: list[FrameApplier] = []
        if kept:
            keyring = await PostgresKeyring.connect(settings.postgres_url)
            stack.push_async_callback(keyring.close)
            kept = [projection.with_texts(keyring) for projection in kept]
            await renew(settings, kept, log)
            appliers.append(await tables(settings, kept, log, stack))
        if settings.redis_url and TimelineFanout.name in names:
            appliers.append(await timelines(settings, log, stack, registry))
        appliers += await indexing(
            settings,
            [one for one in SOCIAL_SEARCH if one.name in names],
            log,
            stack,
            searched or SearchMetrics(registry),
        )
        if "erasure" in running:
            appliers.append(await erasing(settings, log, stack))
        yield log, Appliers(appliers, metrics or ApplierMetrics(registry))


async def renew(
    settings: Settings, projections: Sequence[Projection], log: PostgresEventLog
) -> None:
    """Build anew what is served in an earlier version of its projection, and switch to that."""
    builds = PostgresBuilds(settings.postgres_url)
    keep_seconds = settings.retired_build_hours * HOUR_SECONDS
    while outdated := await persist(lambda: builds.outdated(projections), PATIENCE_SECONDS):
        chosen = [projection for projection in projections if projection.name in outdated]
        try:
            await Rebuilder(builds, log, keep_seconds=keep_seconds).rebuild(chosen)
        except AlreadyRebuilding:
            await asyncio.sleep(RENEW_SECONDS)


async def tables(
    settings: Settings,
    projections: Sequence[Projection],
    log: PostgresEventLog,
    stack: contextlib.AsyncExitStack,
) -> Projector:
    store = PostgresProjections(settings.postgres_url, projections)
    stack.push_async_callback(store.close)
    return Projector(projections, store, log)


async def timelines(
    settings: Settings,
    log: PostgresEventLog,
    stack: contextlib.AsyncExitStack,
    registry: CollectorRegistry,
) -> TimelineFanout:
    sources = PostgresTimelineSources(settings.postgres_url)
    stack.push_async_callback(sources.close)
    store = RedisTimelines(settings.redis_url)
    stack.push_async_callback(store.close)
    await store.open()
    # Frames may wait for the log, but not for Redis: nothing else is held up by its absence.
    await store.wait_until_reachable(REDIS_WAIT_SECONDS)
    limits = Limits(celebrities_from=settings.celebrity_threshold)
    measured = FanoutMetrics(registry)
    fanout = TimelineFanout(
        store, sources, log, effect_of, limits=limits, counts=measured.counts, shown=measured.shown
    )
    await stack.enter_async_context(alongside(fanout.run()))
    await stack.enter_async_context(alongside(TimelineSweep(store, sources).run()))
    return fanout


@contextlib.asynccontextmanager
async def alongside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have something done meanwhile; should that fail, so does what it is done beside."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        yield
        task.cancel()


async def erasing(
    settings: Settings, log: PostgresEventLog, stack: contextlib.AsyncExitStack
) -> ProcessRunner:
    url = settings.postgres_url
    keyring = await PostgresKeyring.connect(url)
    stack.push_async_callback(keyring.close)
    traces = await PostgresMemberTraces.open(url)
    stack.push_async_callback(traces.close)
    progress = await PostgresProgress.open(url)
    stack.push_async_callback(progress.close)
    spans = spans_for(settings, "worker", stack)
    traced = log if spans is None else TracedLog(log, spans)
    executor = Executor(traced, keyring, DECIDERS, lambda: datetime.now(UTC))
    runner = ProcessRunner(erasure(executor.execute, keyring, traces), log, progress)
    stack.push_async_callback(runner.close)
    return runner
