"""How far each projection has got, for operators."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg
from confluent_kafka import KafkaException

from infra.adapters.connections import connected
from infra.adapters.log.kafka_log import consumer_groups, consumer_lag
from infra.adapters.tables.projection_builds import overview as builds_overview
from infra.composition.settings import Settings
from infra.formats.codec import Line, decode_lines
from infra.ports.frames import BrokerUnavailable
from projections import SOCIAL

WAITING = "SELECT count(*) FROM log.events WHERE notification_id > %s"
FIRST_WAITING = """
    SELECT notification_id, originator_id, originator_version, state FROM log.events
    WHERE notification_id > %s ORDER BY notification_id LIMIT 1
"""
EVERYTHING = "plaza"
"""The consumer group of workers that keep all projections; others' names say which after it."""

THROUGH_KAFKA = frozenset(projection.name for projection in SOCIAL)

Connection = psycopg.AsyncConnection[Any]


async def overview_of_tables(settings: Settings) -> list[dict[str, Any]]:
    """One row a build of a projection. Raises `psycopg.Error`.

    Where events come through Kafka, a row also names the Faust workers' consumer group, and how
    many frames that has not acknowledged; None where there is none, or no broker that answers.
    """
    async with connected(settings.postgres_url, "plaza-overview") as connection:
        rows = [await with_lag(connection, build) for build in await builds_overview(connection)]
    if settings.kafka_bootstrap:
        lags = await asyncio.to_thread(group_lags, settings.kafka_bootstrap)
        return [
            row | consumers(row["name"], lags) if row["name"] in THROUGH_KAFKA else row
            for row in rows
        ]
    return rows


def group_lags(bootstrap: str) -> dict[str, int]:
    """How many frames each consumer group of ours has not acknowledged."""
    try:
        groups = consumer_groups(bootstrap)
        return {
            group: sum(consumer_lag(bootstrap, group).values())
            for group in groups
            if group == EVERYTHING or group.startswith(f"{EVERYTHING}-")
        }
    except (BrokerUnavailable, KafkaException):
        return {}


def consumers(projection: str, lags: Mapping[str, int]) -> dict[str, Any]:
    named = [group for group in lags if projection in group.split("-")[1:]]
    groups = named or [group for group in lags if group == EVERYTHING]
    return {
        "consumerGroup": groups[0] if groups else None,
        "consumerLag": lags[groups[0]] if groups else None,
    }


async def with_lag(connection: Connection, build: Mapping[str, Any]) -> dict[str, Any]:
    """`lagSeconds` is the age of the first event that has not been applied."""
    position = int(build["position"] or 0)
    found = await (await connection.execute(WAITING, [position])).fetchone()
    waiting = int(found[0]) if found is not None else 0
    row = await (await connection.execute(FIRST_WAITING, [position])).fetchone()
    seconds = 0.0
    if row is not None:
        events, _ = decode_lines([Line(*row)])
        if events:
            seconds = max(0.0, (datetime.now(UTC) - events[0].recorded_at).total_seconds())
    return {
        "name": build["name"],
        "build": build["build"],
        "version": build["version"],
        "status": build["status"],
        "position": position,
        "lagEvents": waiting,
        "lagSeconds": round(seconds, 3),
        "parked": build["parked"],
    }
