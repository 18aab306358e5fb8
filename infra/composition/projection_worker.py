"""The worker that keeps read models current by following the log, assembled."""

import contextlib
from collections.abc import AsyncIterator, Collection, Sequence

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server

from infra.adapters.event_log import PostgresEventLog
from infra.adapters.migrations import migrate
from infra.adapters.postgres_projections import PostgresProjections
from infra.codec import SOCIAL_PARTITIONS
from infra.composition.settings import Settings
from infra.runtime.appliers import ApplierMetrics, Appliers
from infra.runtime.embedded import EmbeddedRunner
from infra.runtime.project import FrameApplier, Projector
from infra.runtime.projection import Projection
from projections import SOCIAL


class NoSuchProjection(Exception):
    """A worker was asked for a projection that there is not."""


async def serve(
    settings: Settings,
    projections: Collection[str] | None = None,
) -> None:
    """Keep read models current until cancelled: these, or all there are."""
    await migrate(settings.postgres_url)
    if settings.metrics_port:
        start_http_server(settings.metrics_port, settings.bind_host)
    async with opened(settings, chosen(projections)) as (log, appliers):
        await EmbeddedRunner(log, appliers, SOCIAL_PARTITIONS).run()


@contextlib.asynccontextmanager
async def opened(
    settings: Settings,
    projections: Sequence[Projection] = SOCIAL,
    registry: CollectorRegistry = REGISTRY,
) -> AsyncIterator[tuple[PostgresEventLog, Appliers]]:
    """The log, and everything that this worker keeps current, whoever hands it frames."""
    async with contextlib.AsyncExitStack() as stack:
        log = await PostgresEventLog.open(settings.postgres_url)
        stack.push_async_callback(log.close)
        store = PostgresProjections(settings.postgres_url, projections)
        stack.push_async_callback(store.close)
        appliers: list[FrameApplier] = [Projector(projections, store, log)]
        yield log, Appliers(appliers, ApplierMetrics(registry))


def chosen(names: Collection[str] | None) -> Sequence[Projection]:
    """Projections by name. Raises `NoSuchProjection`."""
    if names is None:
        return SOCIAL
    known = {projection.name: projection for projection in SOCIAL}
    if unknown := set(names) - set(known):
        raise NoSuchProjection(", ".join(sorted(unknown)))
    return [projection for projection in SOCIAL if projection.name in names]
