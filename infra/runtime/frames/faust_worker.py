"""A Faust worker: takes frames from Kafka and hands them to the projections, adding nothing.

Faust acknowledges a batch even when its agent raises, so this is the one pattern that lost nothing
in every failure tried: no automatic acknowledgements, each message acknowledged after it has been
applied, and an agent that raises takes its process down for the supervisor to start again.
"""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import faust
from mode import CrashingSupervisor
from structlog.stdlib import get_logger

MESSAGES_MAX = 500
GATHER_SECONDS = 0.01
BYTES_MAX = 4_000_000

log = get_logger(__name__)

Apply = Callable[[Sequence[bytes]], Awaitable[None]]


def build_worker(group: str, bootstrap: str, topics: Sequence[str], apply: Apply) -> faust.App:
    """A Faust app whose one agent applies messages of these topics in the order they came.

    `apply` retries what may pass and sets poison aside; what it raises ends the process.
    """
    app = faust.App(
        group,
        broker=f"kafka://{bootstrap.replace(',', ';kafka://')}",
        processing_guarantee="at_least_once",
        stream_wait_empty=True,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=1.0,
        broker_session_timeout=10,
        broker_heartbeat_interval=2,
        topic_disable_leader=True,
        web_enabled=False,
        # Faust makes this folder for tables, of which there are none.
        datadir=Path(tempfile.gettempdir(), f"{group}-faust"),
        stream_buffer_maxsize=MESSAGES_MAX,
        consumer_max_fetch_size=BYTES_MAX,
    )
    topic = app.topic(*topics, value_type=bytes, value_serializer="raw", internal=False)

    async def project(stream: Any) -> None:
        batches = cast(
            AsyncIterator[Sequence[Any]],
            stream.noack().noack_take(MESSAGES_MAX, within=GATHER_SECONDS),
        )
        async for batch in batches:
            for part in by_size(batch):
                await apply([event.value for event in part])
            for event in batch:
                await stream.ack(event)

    app.agent(topic, supervisor_strategy=CrashingSupervisor)(project)
    return app


def by_size(batch: Sequence[Any]) -> list[list[Any]]:
    """Split a batch so that no part holds more than `BYTES_MAX` of messages, or one message."""
    parts: list[list[Any]] = []
    room = 0
    for event in batch:
        if not parts or len(event.value) > room:
            parts.append([])
            room = BYTES_MAX
        parts[-1].append(event)
        room -= len(event.value)
    return parts
