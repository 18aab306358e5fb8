"""How many events a second reach a fold through the relay's frames, Kafka and a Faust worker.

The probe takes the same frames with a bare consumer and decodes them. Both run in a process of
their own and read the same backlog from its beginning.
"""

import asyncio
import multiprocessing
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import uvloop
from confluent_kafka import Consumer

from domain.shared.identifiers import id_text
from infra.adapters.log.kafka_log import SOCIAL_TOPIC, TOPICS, KafkaFrames, create_topics
from infra.formats.codec import Line, decode_frame, encode_state
from infra.runtime.frames.faust_worker import build_worker
from infra.runtime.frames.frames import Framer
from infra.runtime.frames.relay import FRAME_BYTES_MAX, FRAME_LINES_MAX, LINES_MAX
from infra.servers.kafka import start_kafka
from tests.benchmarks.harness import Result, interleaved
from tests.builders import follow

NAME = "faust_projection"
TARGET = 0.5
EVENTS = 1_000_000
FOLLOWEES = 5_000
PATIENCE_SECONDS = 120.0


def run(rounds: int) -> Result:
    with backlog() as bootstrap:
        return interleaved(
            NAME,
            unit="events/s",
            target=TARGET,
            rounds=rounds,
            measure=lambda: apart(partial(take_with_faust, bootstrap)),
            probe=lambda: apart(partial(take_bare, bootstrap)),
        )


@contextmanager
def backlog() -> Iterator[str]:
    """A broker that holds the frames of a million events."""
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        process, bootstrap = start_kafka(Path(folder), os.environ)
        try:
            create_topics(bootstrap)
            uvloop.run(send(bootstrap))
            yield bootstrap
        finally:
            process.stop()


async def send(bootstrap: str) -> None:
    sender = KafkaFrames(bootstrap)
    framer = Framer(0)
    for start in range(1, EVENTS + 1, LINES_MAX):
        for frame in framer.frames(lines(start), FRAME_LINES_MAX, FRAME_BYTES_MAX):
            sender.send(frame)
        await sender.flush()


def lines(start: int) -> Sequence[Line]:
    found = []
    for position in range(start, start + LINES_MAX):
        recorded = follow(10_000_000 + position, 1 + position % FOLLOWEES)
        found.append(Line(position, id_text(position), 1, encode_state(recorded)))
    return found


def apart(take: Callable[[], float]) -> float:
    """Call in a fresh process, as a worker would run."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(take)


def take_bare(bootstrap: str) -> float:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": secrets.token_hex(6),
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([SOCIAL_TOPIC])
    taken, began = 0, 0.0
    while taken < EVENTS:
        messages = consumer.consume(500, 1.0)
        began = began or (time.perf_counter() if messages else 0.0)
        for message in messages:
            taken += len(decode_frame(message.value() or b"").events)
    seconds = time.perf_counter() - began
    consumer.close()
    return EVENTS / seconds


def take_with_faust(bootstrap: str) -> float:
    return uvloop.run(_take_with_faust(bootstrap))


async def _take_with_faust(bootstrap: str) -> float:
    done = asyncio.Event()
    taken, began = 0, 0.0

    async def apply(messages: Sequence[bytes]) -> None:
        nonlocal taken, began
        began = began or time.perf_counter()
        for message in messages:
            taken += len(decode_frame(message).events)
        if taken >= EVENTS:
            done.set()

    app = build_worker(secrets.token_hex(6), bootstrap, TOPICS, apply)
    await app.start()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await done.wait()
    seconds = time.perf_counter() - began
    await app.stop()
    return EVENTS / seconds
