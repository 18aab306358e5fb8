"""The relay, assembled: the log in, Kafka out, one active and any number standing by."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from prometheus_client import REGISTRY, Counter, Gauge

from infra.adapters.event_log import PostgresEventLog
from infra.adapters.kafka_log import KafkaFrames, create_topics
from infra.adapters.migrations import migrate
from infra.adapters.relay_place import hold_place
from infra.composition.metrics_server import serve_metrics
from infra.composition.settings import Settings
from infra.ports import BrokerUnavailable
from infra.runtime.relay import Place, Relay

TOPICS_RETRY_SECONDS = 1.0

SENT = Counter("plaza_relay_events_total", "Events sent to Kafka")
POSITION = Gauge("plaza_relay_position", "Log position up to which Kafka has everything")
ACTIVE = Gauge("plaza_relay_active", "1 while this relay is the one that sends, 0 on standby")


async def serve(settings: Settings) -> None:
    """Relay until cancelled."""
    await migrate(settings.postgres_url)
    if settings.metrics_port:
        serve_metrics(settings.metrics_port, settings.bind_host, REGISTRY)
    await have_topics(settings.kafka_bootstrap)
    log = await PostgresEventLog.open(settings.postgres_url)
    relay = Relay(
        lines=log,
        hold=partial(hold_active, settings.postgres_url),
        open_sender=partial(KafkaFrames, settings.kafka_bootstrap),
        sent=count,
    )
    try:
        await relay.run()
    finally:
        await log.close()


@asynccontextmanager
async def hold_active(postgres_url: str) -> AsyncIterator[Place]:
    async with hold_place(postgres_url) as place:
        ACTIVE.set(1)
        try:
            yield place
        finally:
            ACTIVE.set(0)


async def have_topics(bootstrap: str) -> None:
    """Make the topics, once the broker is there to make them."""
    while True:
        with suppress(BrokerUnavailable):
            await asyncio.to_thread(create_topics, bootstrap)
            return
        await asyncio.sleep(TOPICS_RETRY_SECONDS)


def count(events: int, position: int) -> None:
    SENT.inc(events)
    POSITION.set(position)
