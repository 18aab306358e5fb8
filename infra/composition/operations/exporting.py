"""Exporting a range of the log to Parquet files, assembled."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from domain.shared.message import tag_of
from domain.social.member.events import MemberErased
from infra.adapters.archives.export_folder import (
    Asked,
    Manifest,
    continued,
    held,
    read_manifest,
    remove_unnamed,
    write_manifest,
)
from infra.adapters.archives.parquet_events import Segment, SegmentWriter
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.composition.operations.export_folders import remember
from infra.composition.settings import Settings
from infra.formats.codec import Line, decode_lines, people_of
from infra.ports.frames import Unreadable
from infra.ports.log import Recorded
from infra.runtime.frames.log_ranges import lines_between
from infra.runtime.rebuilding.rebuild import rare_collections

KEYS_IN_MEMORY_MAX = 50_000
LINES_AT_ONCE = 5_000

Progress = Callable[[int, int, int], None]
"""Told the position reached, and between which two it goes."""


async def export_events(
    settings: Settings,
    folder: Path,
    asked: Asked,
    progress: Progress = lambda _reached, _after, _before: None,
) -> Manifest:
    """Export, or go on with what was begun; answers what the folder then holds.

    Raises `ExportRefused` and `LogUnavailable`. Whatever stops it, calling it again goes on after
    the last file that was finished.
    """
    with held(folder):
        remember(settings.folder, folder)
        found = read_manifest(folder)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(rare_collections())
            log = await PostgresEventLog.open(settings.postgres_url)
            stack.push_async_callback(log.close)
            keyring = await PostgresKeyring.connect(settings.postgres_url, KEYS_IN_MEMORY_MAX)
            stack.push_async_callback(keyring.close)
            manifest = continued(folder, found, asked, await log.head())
            if not manifest.complete:
                await write_rest(folder, manifest, log, keyring, progress)
    return manifest


async def write_rest(
    folder: Path,
    manifest: Manifest,
    log: PostgresEventLog,
    keyring: PostgresKeyring,
    progress: Progress,
) -> None:
    asked, before = manifest.asked, manifest.asked.before
    assert before is not None
    # A last segment that could have held more is made again, with what has come since.
    kept = [one for one in manifest.segments if one.full]
    manifest.segments, replaced = tuple(kept), manifest.segments[len(kept) :]
    if not replaced:
        write_manifest(folder, manifest)
        remove_unnamed(folder, manifest)
    begin = kept[-1].events.last if kept else asked.after
    writer = SegmentWriter(folder, keyring.open, typed=asked.typed)

    def add(segments: Sequence[Segment]) -> None:
        for segment in segments:
            manifest.segments = (*manifest.segments, segment)
            write_manifest(folder, manifest)

    batches = lines_between(log, begin, before, LINES_AT_ONCE)
    async with contextlib.aclosing(batches):
        async for lines in batches:
            rows = await wanted(lines, frozenset(asked.types), keyring)
            add(await asyncio.to_thread(writer.add, rows))
            progress(lines[-1].position, asked.after, before)
    add(await asyncio.to_thread(writer.end))
    manifest.complete = True
    write_manifest(folder, manifest)
    remove_unnamed(folder, manifest)
    progress(before, asked.after, before)


async def wanted(
    lines: Sequence[Line], types: frozenset[str], keyring: PostgresKeyring
) -> Sequence[Recorded | Unreadable]:
    """The events of these types, or all, in order, with the keys of their persons in memory."""
    events, unreadable = decode_lines(lines)
    for one in events:
        if type(one.event) is MemberErased:
            keyring.forget(one.event.member_id)
    if types:
        events = [one for one in events if tag_of(type(one.event)) in types]
        unreadable = [one for one in unreadable if one.tag in types]
    await keyring.fetch(people_of([one.event for one in events]))
    if not unreadable:
        return events
    return sorted([*events, *unreadable], key=lambda one: one.position)
