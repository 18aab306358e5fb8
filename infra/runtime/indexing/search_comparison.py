"""Compares what a search server has with what the read tables give, document by document.

Both go on changing meanwhile, the index about a second behind. So what differs at first is looked
at again, and only what goes on differing counts.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from domain.shared.identifiers import id_number
from infra.ports.keepers import EXAMPLES_MAX, Different, Progress
from infra.ports.search import DocumentSource, Found, SearchStore, Served, Write
from infra.runtime.indexing.search_filling import encode

LOOKS = 6
LOOK_SECONDS = 1.0
SUSPECTS_MAX = 100_000
"""More than these are not looked at again: where so much differs, an index is to be rebuilt."""

AHEAD = (0, 2, 20, 200)
"""By how much a version may be ahead of the tables' to mend a document. What comes later is ahead
of that within as many events."""

T = TypeVar("T")


@dataclass
class Compared:
    """`different` are the ids of documents that differ, `examples` some of them."""

    documents: int = 0
    checkpoints: Mapping[int, int] = field(default_factory=dict)
    different: list[str] = field(default_factory=list)
    examples: list[Different] = field(default_factory=list)
    beyond: int = 0
    """How many more are suspected, and were not looked at again."""


class SearchComparison:
    """Of one build of an index."""

    def __init__(
        self, store: SearchStore, source: DocumentSource, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._store = store
        self._source = source
        self._look_seconds = look_seconds

    async def compare(self, build: int, progress: Progress) -> Compared:
        compared = Compared()
        suspects: list[str] = []
        await self._store.refresh(build)
        async with self._source.pinned() as pinned:
            compared.checkpoints = pinned.checkpoints
            total = await pinned.total()
            async with (
                contextlib.aclosing(pinned.by_id()) as computed,
                contextlib.aclosing(self._store.by_id(build)) as served,
            ):
                async for one, other in merged(computed, served):
                    compared.documents += other is not None
                    if same(one, other):
                        continue
                    if len(suspects) == SUSPECTS_MAX:
                        compared.beyond += 1
                        continue
                    suspects.append(id_of(one, other))
                    progress("comparing", compared.documents, total)
        compared.different = await self._still_different(build, suspects, compared)
        return compared

    async def _still_different(
        self, build: int, suspects: list[str], compared: Compared
    ) -> list[str]:
        for look in range(LOOKS):
            if not suspects:
                return []
            if look:
                await asyncio.sleep(self._look_seconds)
            await self._store.refresh(build)
            compared.examples.clear()
            left: list[str] = []
            for part in parts(suspects):
                for one, other in await self._both(build, part):
                    if same(one, other):
                        continue
                    left.append(id_of(one, other))
                    if len(compared.examples) < EXAMPLES_MAX:
                        compared.examples.append(self._example(one, other))
            suspects = left
        return suspects

    async def repair(self, build: int, ids: Sequence[str]) -> int:
        """Write these documents as the tables give them; answers how many were mended.

        Whoever wrote or deleted one past us has raised its version, which cannot be seen once it is
        deleted: so what stays as it was is written again a little further ahead.
        """
        left = list(ids)
        for ahead in AHEAD:
            for part in parts(left):
                await self._rewrite(build, part, ahead)
            await self._store.refresh(build)
            left = [
                id_of(one, other)
                for part in parts(left)
                for one, other in await self._both(build, part)
                if not same(one, other)
            ]
            if not left:
                break
        return len(ids) - len(left)

    async def _rewrite(self, build: int, ids: Sequence[str], ahead: int) -> None:
        read = await self._source.read(numbers(ids))
        computed = {one.id: one for one in read.documents}
        served = await self._store.documents(build, ids)
        await self._store.write(
            build,
            [
                write
                for one in ids
                if (write := mending(computed.get(one), served.get(one), read.version + ahead))
            ],
        )

    async def _both(
        self, build: int, ids: Sequence[str]
    ) -> list[tuple[Found | None, Served | None]]:
        """What the tables and the server have under these ids now, the server asked last."""
        read = await self._source.read(numbers(ids))
        computed = {one.id: one for one in read.documents if one.document is not None}
        served = await self._store.documents(build, ids)
        return [(computed.get(one), served.get(one)) for one in ids]

    def _example(self, one: Found | None, other: Served | None) -> Different:
        return Different(
            place=f"{self._store.index.alias}/{id_of(one, other)}",
            computed=None if one is None else fields_of(one),
            served=None if other is None else other.fields,
        )


def mending(one: Found | None, other: Served | None, version: int) -> Write | None:
    """What has to be written, if anything can be."""
    if other is not None:
        if other.version > version + AHEAD[-1]:
            # Whatever wrote that: events to come could not be written over it for long.
            return None
        version = max(version, other.version)
    if one is not None:
        body = None if one.document is None else encode(one.document)
        return Write(one.id, one.created_at, version, body)
    if other is None:
        return None
    moment = datetime.fromtimestamp(other.fields.get("createdAt", 0) / 1000, UTC)
    return Write(other.id, moment, version, None)


async def merged(
    computed: AsyncIterator[Sequence[Found]], served: AsyncIterator[Sequence[Served]]
) -> AsyncIterator[tuple[Found | None, Served | None]]:
    """Both in the order of their ids, side by side where they have the same."""
    ones, others = single(computed), single(served)
    one, other = await anext(ones, None), await anext(others, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.id < other.id):
            yield one, None
            one = await anext(ones, None)
        elif one is None or other.id < one.id:
            yield None, other
            other = await anext(others, None)
        else:
            yield one, other
            one, other = await anext(ones, None), await anext(others, None)


async def single(pages: AsyncIterator[Sequence[T]]) -> AsyncIterator[T]:
    async for page in pages:
        for one in page:
            yield one


def same(one: Found | None, other: Served | None) -> bool:
    if one is None or one.document is None:
        return other is None
    return other is not None and fields_of(one) == other.fields


def fields_of(found: Found) -> Mapping[str, Any]:
    """The fields of a document as the server gives them back."""
    builtins = msgspec.to_builtins(found.document)
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in builtins.items()
    }


def id_of(one: Found | None, other: Served | None) -> str:
    if one is not None:
        return one.id
    assert other is not None
    return other.id


def numbers(ids: Sequence[str]) -> list[int]:
    """The numbers of those that are ids; whatever else a server has is no document of ours."""
    found = []
    for one in ids:
        with contextlib.suppress(ValueError):
            found.append(id_number(one))
    return found


def parts(ids: Sequence[str], size: int = 500) -> list[Sequence[str]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]
