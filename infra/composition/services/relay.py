"""The relay, assembled: the log in, Kafka out, one active and any number standing by."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from prometheus_client import REGISTRY, CollectorRegistry

from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.log.kafka_log import KafkaFrames, create_topics
from infra.adapters.log.relay_place import hold_place
from infra.adapters.migrations import migrate
from infra.composition.services.metrics_server import serve_metrics
from infra.composition.settings import Settings
from infra.measures import Counts, Gauges
from infra.ports.frames import BrokerUnavailable
from infra.runtime.frames.relay import Place, Relay

TOPICS_RETRY_SECONDS = 1.0


class RelayMetrics:
    """What a relay says of itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sent = Counts("plaza_relay_events_total", "Events sent to Kafka", [], registry)
        self._sent.add(0)
        self._position = 0
        self.active = False
        Gauges(
            "plaza_relay_position",
            "Log position up to which Kafka has everything; 0 until this relay has sent something",
            [],
            registry,
            lambda: {(): self._position},
        )
        Gauges(
            "plaza_relay_active",
            "1 while this relay is the one that sends, 0 on standby",
            [],
            registry,
            lambda: {(): float(self.active)},
        )

    def sent(self, events: int, position: int) -> None:
        self._sent.add(events)
        self._position = position

    @asynccontextmanager
    async def hold(self, postgres_url: str) -> AsyncIterator[Place]:
        """The place, while the metrics say that it is held."""
        async with hold_place(postgres_url) as place:
            self.active = True
            try:
                yield place
            finally:
                self.active = False


async def serve(settings: Settings) -> None:
    """Relay until cancelled."""
    await migrate(settings.postgres_url)
    metrics = RelayMetrics(REGISTRY)
    if settings.metrics_port:
        serve_metrics(settings.metrics_port, settings.bind_host, REGISTRY)
    await have_topics(settings.kafka_bootstrap)
    log = await PostgresEventLog.open(settings.postgres_url)
    relay = Relay(
        lines=log,
        hold=partial(metrics.hold, settings.postgres_url),
        open_sender=partial(KafkaFrames, settings.kafka_bootstrap),
        sent=metrics.sent,
    )
    try:
        await relay.run()
    finally:
        await log.close()


async def have_topics(bootstrap: str) -> None:
    """Make the topics, once the broker is there to make them."""
    while True:
        with suppress(BrokerUnavailable):
            await asyncio.to_thread(create_topics, bootstrap)
            return
        await asyncio.sleep(TOPICS_RETRY_SECONDS)
