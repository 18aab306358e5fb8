"""Runs a worker's projections and processes on frames from Kafka, in a Faust worker."""

from collections.abc import Collection, Sequence

import msgspec
from structlog.stdlib import get_logger

from infra.adapters.log.kafka_log import TOPICS
from infra.composition.services.relay import have_topics
from infra.composition.settings import Settings
from infra.formats.codec import decode_frame
from infra.ports.frames import Frame, FrameTarget
from infra.runtime.frames.faust_worker import build_worker

log = get_logger(__name__)


class WorkerCrashed(Exception):
    """The agent or its consumer ended; the process must end too, and be started again."""


async def follow(
    settings: Settings,
    projections: Collection[str] | None,
    processes: Collection[str] | None,
    target: FrameTarget,
) -> None:
    """Hand frames over until cancelled. Raises `WorkerCrashed`."""
    # Readers need the tables also as long as the log is empty and no frame comes.
    await target.checkpoints()
    await have_topics(settings.kafka_bootstrap)

    async def apply(messages: Sequence[bytes]) -> None:
        await target.apply(frames_of(messages))

    group = group_of(projections, processes)
    app = build_worker(group, settings.kafka_bootstrap, TOPICS, apply)
    try:
        await app.start()
        await app.wait_until_stopped()
    finally:
        await app.stop()
    raise WorkerCrashed(repr(app.crash_reason))


def frames_of(messages: Sequence[bytes]) -> list[Frame]:
    """The frames of these messages; what is none is left out, and shows as a gap behind it."""
    frames = []
    for message in messages:
        try:
            frames.append(decode_frame(message))
        except msgspec.DecodeError:
            log.exception("kafka.message_unreadable", bytes=len(message))
    return frames


def group_of(projections: Collection[str] | None, processes: Collection[str] | None) -> str:
    """The consumer group that workers with the same tasks share."""
    everything = projections is None and processes is None
    tasks = sorted([*(projections or ()), *(processes or ())])
    return "plaza" if everything else "-".join(["plaza", *tasks])
