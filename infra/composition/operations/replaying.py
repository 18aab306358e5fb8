"""Folding a range of the log into a file, away from everything that is live, assembled."""

import asyncio
import contextlib
import hashlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.adapters.tables.sqlite_tables import SqliteTables
from infra.composition.settings import Settings
from infra.formats.codec import decode_lines
from infra.ports.log import Recorded
from infra.runtime.frames.log_ranges import lines_between
from infra.runtime.projecting.projection import Projection
from infra.runtime.rebuilding.rebuild import rare_collections
from projections import COMMERCE, SOCIAL

Progress = Callable[[int, int, int], None]
"""Told the position reached, and between which two it goes."""


class NoSuchProjection(Exception):
    """The name or file does not lead to a projection."""


class ReplayFailed(Exception):
    """The projection could not fold an event; no file was written."""


class Replayed(Struct, kw_only=True, rename="camel"):
    """What came of it. `unknown_rows`: changes to rows that began before the range."""

    projection: str
    version: int
    file: str
    after: int
    before: int
    events: int = 0
    unreadable: int = 0
    unknown_rows: int = 0
    rows: int = 0
    tables: dict[str, int] = {}
    bytes: int = 0
    sha256: str = ""


def find_projection(name: str) -> Projection:
    """One of ours by its name, or `file.py:NAME`, a projection in a file. Such a file is a program,
    and may do what it likes. Raises `NoSuchProjection`."""
    known = {projection.name: projection for projection in (*SOCIAL, *COMMERCE)}
    if name in known:
        return known[name]
    path, colon, attribute = name.rpartition(":")
    if not colon:
        raise NoSuchProjection(
            f"there is no projection {name}; there are {', '.join(known)}, or say file.py:NAME"
        )
    if not Path(path).is_file():
        raise NoSuchProjection(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise NoSuchProjection(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as problem:
        # The file is somebody else's, and may fail in any way, also by ending itself.
        raise NoSuchProjection(f"{path} cannot be loaded: {problem!r}") from problem
    found = getattr(module, attribute, None)
    if not isinstance(found, Projection):
        raise NoSuchProjection(f"{attribute} in {path} is not a Projection")
    return found


async def replay(
    settings: Settings,
    projection: Projection,
    out: Path,
    between: tuple[int, int | None] = (0, None),
    progress: Progress = lambda _reached, _after, _before: None,
) -> Replayed:
    """Fold the events between two positions, both exclusive, and write the rows that this leaves.
    Without the second position, all that there are.

    The file is there when all of it is. The same range gives the same bytes. Raises `ReplayFailed`
    and `LogUnavailable`.
    """
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(rare_collections())
        log = await PostgresEventLog.open(settings.postgres_url)
        stack.push_async_callback(log.close)
        keyring = await PostgresKeyring.connect(settings.postgres_url)
        stack.push_async_callback(keyring.close)
        projection = projection.with_texts(keyring)
        after, before = between
        end = before if before is not None else await log.head() + 1
        tables = stack.enter_context(
            SqliteTables(projection.tables, begun_before=after > 0),
        )
        done = Replayed(
            projection=projection.name,
            version=projection.version,
            file=str(out),
            after=after,
            before=end,
        )
        batches = await stack.enter_async_context(
            contextlib.aclosing(lines_between(log, after, end))
        )
        async for lines in batches:
            events, unreadable = await asyncio.to_thread(decode_lines, lines)
            done.unreadable += len(unreadable)
            await projection.prepare(events)
            await asyncio.to_thread(fold, projection, events, tables, done)
            progress(lines[-1].position, after, end)
        done.unknown_rows = tables.unknown_rows
        await asyncio.to_thread(write, projection, tables, out, done)
    return done


def fold(
    projection: Projection, events: Sequence[Recorded], tables: SqliteTables, done: Replayed
) -> None:
    for recorded in events:
        if not projection.folds(recorded.event):
            continue
        try:
            tables.write(recorded.position, projection.fold(recorded))
        except Exception as problem:
            # The fold may be an analyst's; it is told where it failed, whatever it raised.
            raise ReplayFailed(
                f"{projection.name} cannot fold the event at {recorded.position}"
                f" ({recorded.stream}): {problem!r}"
            ) from problem
        done.events += 1


def write(projection: Projection, tables: SqliteTables, out: Path, done: Replayed) -> None:
    """One JSON line a row, tables by name, rows by key."""
    # What is left here by a kill is written over by the next run.
    new = out.with_name(f".{out.name}.new")
    digest = hashlib.sha256()
    encode = msgspec.json.Encoder().encode
    with new.open("wb") as opened:
        for table in sorted(projection.tables, key=lambda table: table.name):
            count = 0
            for row in tables.documents(table):
                document: dict[str, Any] = {"table": table.name, "row": row}
                line = encode(document) + b"\n"
                digest.update(line)
                opened.write(line)
                count += 1
            done.tables[table.name] = count
        done.bytes = opened.tell()
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(out)
    done.rows = sum(done.tables.values())
    done.sha256 = digest.hexdigest()
