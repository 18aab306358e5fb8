"""Writers to one log, as a process of their own that can be killed.

    python -m tests.fault.log_writers group|library URL FILE NAME WRITERS EVENTS

Appends until EVENTS are acknowledged, and notes each acknowledged position in FILE. Some commands
meet a version that is taken, so that inserts are rolled back and leave holes in the positions.
"""

import asyncio
import os
import random
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import uvloop
from eventsourcing.persistence import IntegrityError

from domain.social.engagement.events import PostLiked
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.log.plaza_recorder import LoggedEvent, LogMapper, PlazaLog
from infra.ports.log import Recorded, StreamMoved

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SIZES = (1, 1, 1, 2, 5, 20)
LIBRARY_SIZES = (1, 5, 20, 50)
CONFLICTS = 0.02


def command(stream: str, size: int) -> list[Recorded]:
    event = PostLiked(post_id="p", author_id="ann", member_id=stream)
    return [
        Recorded(stream=stream, version=version, recorded_at=NOON, event=event)
        for version in range(1, size + 1)
    ]


class Notes:
    """Acknowledged positions, each safe from our own death as soon as it is noted."""

    def __init__(self, file: Path, events_max: int) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._events_max = events_max
        self._events = 0

    def note(self, positions: Sequence[int]) -> None:
        os.write(self._file, struct.pack(f"<{len(positions)}q", *positions))
        self._events += len(positions)

    @property
    def enough(self) -> bool:
        return self._events >= self._events_max


async def write_in_groups(url: str, name: str, writers: int, notes: Notes) -> None:
    log = await PostgresEventLog.open(url)

    async def write(writer: int) -> None:
        chance = random.Random(f"{name}-{writer}")
        for number in count():
            if notes.enough:
                return
            taken = number and chance.random() < CONFLICTS
            stream = f"{name}-{writer}-{number - 1 if taken else number}"
            try:
                notes.note(await log.append(command(stream, chance.choice(SIZES))))
            except StreamMoved:
                assert taken

    await asyncio.gather(*(write(writer) for writer in range(writers)))
    await log.close()


def write_by_library(url: str, name: str, writers: int, notes: Notes) -> None:
    parts = urlsplit(url)
    environment = {
        "POSTGRES_DBNAME": parts.path[1:],
        "POSTGRES_HOST": str(parts.hostname),
        "POSTGRES_PORT": str(parts.port),
        "POSTGRES_USER": str(parts.username),
        "POSTGRES_PASSWORD": str(parts.password),
        "POSTGRES_POOL_SIZE": str(writers),
    }
    with PlazaLog(environment) as application:
        mapper = LogMapper(application.construct_transcoder())

        def write(writer: int) -> None:
            chance = random.Random(f"{name}-{writer}")
            for number in count():
                if notes.enough:
                    return
                taken = number and chance.random() < CONFLICTS
                stream = f"{name}-{writer}-{number - 1 if taken else number}"
                events = command(stream, chance.choice(LIBRARY_SIZES))
                stored = [mapper.to_stored_event(LoggedEvent(event)) for event in events]
                try:
                    notes.note(application.recorder.insert_events(stored) or [])
                except IntegrityError:
                    assert taken

        in_threads(writers, write)


def in_threads(number: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=[index]) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    kind, url, file, name, writers, events = sys.argv[1:]
    notes = Notes(Path(file), int(events))
    if kind == "group":
        uvloop.run(write_in_groups(url, name, int(writers), notes))
    else:
        write_by_library(url, name, int(writers), notes)


if __name__ == "__main__":
    main()
