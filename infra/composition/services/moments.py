"""Keeping the index of times ready, so that a page as of a moment need not wait for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog

from infra.adapters.reads.postgres_reads import PostgresReads
from infra.ports.reads import ReadsUnavailable

PAUSE_SECONDS = 5.0
WORK_SECONDS = 5.0

log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def moments_indexed(reads: PostgresReads) -> AsyncIterator[None]:
    """Extend the index now and then for as long as this is open."""
    task = asyncio.create_task(keep_indexing(reads), name="moments")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def keep_indexing(reads: PostgresReads) -> None:
    while True:
        try:
            await reads.index_moments(WORK_SECONDS)
        except ReadsUnavailable as problem:
            log.info("moments.not_indexed", error=str(problem))
        await asyncio.sleep(PAUSE_SECONDS)
