"""Fills a build of a search index from the read tables, newest first, while it is being written.

What is filled carries the version of the one moment that it was read at, so whatever is written
meanwhile for a later event stands, and what was deleted meanwhile stays away.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing

import msgspec
from structlog.stdlib import get_logger

from infra.ports.search import Build, DocumentSource, Found, Pinned, SearchStore, Write

log = get_logger(__name__)

Alone = Callable[[], AbstractAsyncContextManager[bool]]
"""Whether nobody else fills this index, for as long as the block lasts."""

encode = msgspec.json.Encoder().encode


class Filling:
    """Makes sure that an index has a build of this version, and that all of it is in."""

    def __init__(self, store: SearchStore, source: DocumentSource, alone: Alone) -> None:
        """`alone` says whether it is this process that may make and fill builds meanwhile."""
        self._store = store
        self._source = source
        self._alone = alone

    async def target(self) -> Build | None:
        """The build that events are to be written to, if there is one."""
        return target_of(await self._store.builds(), self._store.index.version)

    async def fill(self) -> None:
        """Begin a build where there is none, and fill what is not full; unless somebody else does.

        A first build is served at once, however little is in it; one that takes the place of
        another version only when it is complete.
        """
        async with self._alone() as alone:
            if not alone:
                return
            builds = await self._store.builds()
            target = target_of(builds, self._store.index.version)
            if target is not None and target.status == "complete":
                return
            async with self._source.pinned() as pinned:
                total = await pinned.total()
                number = (
                    await self._store.begin(pinned.checkpoints, total)
                    if target is None
                    else target.number
                )
                if not any(build.served for build in builds):
                    await self._store.serve(number)
                await self.fill_from(pinned, number, total)
            await self._store.serve(number)

    async def fill_from(
        self,
        pinned: Pinned,
        build: int,
        total: int,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        """Write everything that the tables hold; one request is under way while the next is made.

        Of documents that are refused the first fold that touches them tells an operator.
        """
        done = 0
        sending: asyncio.Task[None] | None = None
        try:
            async with aclosing(pinned.newest_first()) as pages:
                async for page in pages:
                    writes = writes_of(page, pinned.version)
                    if sending is not None:
                        await sending
                    done += len(page)
                    send = self._send(build, writes, done, max(total, done))
                    sending = asyncio.create_task(send)
                    progress(done, max(total, done))
            if sending is not None:
                await sending
        finally:
            if sending is not None:
                sending.cancel()
        await self._store.filled(build, "complete", done, done)
        log.info("search.filled", index=self._store.index.name, build=build, documents=done)

    async def renew(self, build: int) -> None:
        """Write everything into a complete build again; unless somebody else fills one."""
        async with self._alone() as alone, self._source.pinned() as pinned:
            if not alone:
                return
            async with aclosing(pinned.newest_first()) as pages:
                async for page in pages:
                    await self._store.write(build, writes_of(page, pinned.version))
            self._store.renewed()
            log.info("search.renewed", index=self._store.index.name, build=build)

    async def _send(self, build: int, writes: Sequence[Write], done: int, total: int) -> None:
        for refused in await self._store.write(build, writes):
            log.error("search.document_refused", id=refused.id, error=refused.error)
        await self._store.filled(build, "filling", done, total)


def target_of(builds: Sequence[Build], version: int) -> Build | None:
    """The build of this version that is served, or else the newest that there is of it."""
    ours = [build for build in builds if build.version == version]
    served = [build for build in ours if build.served]
    if served:
        return served[-1]
    if any(build.served for build in builds):
        # Another version is served: what is complete beside it waits for an operator.
        ours = [build for build in ours if build.status == "filling"]
    return ours[-1] if ours else None


def writes_of(found: Sequence[Found], version: int) -> list[Write]:
    return [
        Write(
            one.id,
            one.created_at,
            version,
            None if one.document is None else encode(one.document),
        )
        for one in found
    ]
