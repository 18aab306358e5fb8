"""A search index, as operators see it: `infra.ports.keepers.Keeper`, assembled."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from domain.shared.identifiers import id_number
from infra.adapters.connections import connected
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.search.opensearch_index import PATIENCE_SECONDS, OpenSearchStore
from infra.adapters.search.search_client import search_client
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.composition.operations.projections_overview import with_lag
from infra.composition.services.search_indexing import Kept, alone, keeping
from infra.composition.settings import Settings
from infra.ports.keepers import (
    AlreadyRebuilding,
    CannotSwitch,
    CannotVerify,
    NoSuchKey,
    NotServed,
    Progress,
    Rebuilt,
    Verified,
    Wishes,
    id_in_key,
)
from infra.ports.search import Build, IndexLost, SearchProjection, SearchUnavailable
from infra.ports.search_documents import POSTS
from infra.ports.tables import StoreUnavailable
from infra.runtime.indexing.search_comparison import LOOK_SECONDS, SearchComparison
from infra.runtime.indexing.search_filling import writes_of
from infra.runtime.indexing.search_indexing import SearchMetrics
from infra.runtime.indexing.search_sampling import Rest, Sample, SearchSampling

REQUEST_SECONDS = 60.0
KINDS = {"search_posts": "post", "search_members": "member", "search_products": "product"}


class SearchKeeper:
    """Nothing of it holds up the workers: they write the index that is served all the while."""

    def __init__(
        self,
        settings: Settings,
        projection: SearchProjection,
        look_seconds: float = LOOK_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._look_seconds = look_seconds
        self._patience_seconds = patience_seconds
        self._settings = settings
        self._projection = projection

    @property
    def name(self) -> str:
        return self._projection.name

    async def overview(self) -> Sequence[Mapping[str, Any]]:
        try:
            async with self._opened() as opened:
                builds = await opened.store.builds()
                places = [await self._place(opened, build) for build in builds]
        except StoreUnavailable:
            return [self._unreachable()]
        async with connected(self._settings.postgres_url, "plaza-overview") as connection:
            return [await with_lag(connection, place) for place in places]

    async def verify(self, progress: Progress, *, repair: bool = False) -> Verified:
        async with self._opened() as opened:
            served = await self._served(opened)
            if served.version != self._projection.index.version:
                raise CannotVerify(
                    f"{self.name} is served in version {served.version}; this is version"
                    f" {self._projection.index.version}"
                )
            if served.status == "filling":
                raise CannotVerify(f"{self.name} is being filled: {served.done} of {served.total}")
            return await self._verified(opened, served, progress, repair=repair)

    async def sample(
        self, after: int, count: int, rest: Rest, *, known: str = "", repair: bool = False
    ) -> tuple[Sample, int]:
        """Look at some documents of what is served, or at a `known` one alone; also answers how
        many were mended. Raises as `SearchSampling` does, and `NotServed`.

        Documents that the server has refused are known to be missing, and are not told again.
        """
        async with self._opened() as opened:
            served = await self._served(opened)
            if served.status == "filling" or served.version != self._projection.index.version:
                raise NotServed(f"{self.name} is being made")
            sampling = SearchSampling(opened.store, opened.source, served.number, rest)
            if known:
                found = Sample(1, 0, await sampling.wrong_of([known]))
            else:
                found = await sampling.after(after, count)
            refused = set(await opened.set_aside.parked(served.number))
            wrong = [one for one in found.wrong if one not in refused]
            repaired = 0
            if repair and wrong:
                comparison = SearchComparison(opened.store, opened.source, self._look_seconds)
                repaired = await comparison.repair(served.number, wrong)
            return replace(found, wrong=wrong), repaired

    async def rebuild(self, progress: Progress, wishes: Wishes) -> Rebuilt:
        if wishes.in_place:
            found = await self.verify(progress, repair=wishes.accept_different)
            done = wishes.accept_different or not found.different
            return Rebuilt(name=self.name, build=found.build, switched=done, found=found)
        async with self._opened() as opened, self._alone():
            return await self._rebuilt(opened, progress, wishes)

    async def rebuild_key(self, key: str, progress: Progress) -> int:
        kind, _, text = key.partition(":")
        number = id_in_key(text)
        async with self._opened() as opened:
            served = await self._served(opened)
            if kind == KINDS[self.name]:
                ids = [number]
            elif kind == "member" and self._projection.index is POSTS:
                ids = [one async for page in opened.source.of_author(number) for one in page]
            else:
                raise NoSuchKey(f"{self.name} keeps nothing under {kind!r}")
            for start in range(0, len(ids), 500):
                read = await opened.source.read(ids[start : start + 500])
                await opened.store.write(served.number, writes_of(read.documents, read.version))
                progress("rebuilding", start, len(ids))
        return len(ids)

    async def switch(self, build: int | None, progress: Progress) -> int:
        async with self._opened() as opened, self._alone():
            builds = await opened.store.builds()
            others = [one for one in builds if not one.served and one.status == "complete"]
            chosen = [one for one in others if build in (None, one.number)]
            if not chosen:
                raise CannotSwitch(
                    f"{self.name} has no other complete build"
                    if build is None
                    else f"{self.name} has no complete build {build} that is not served"
                )
            wanted = chosen[-1]
            if wanted.version != self._projection.index.version:
                raise CannotSwitch(f"build {wanted.number} is of version {wanted.version}")
            progress("catching up", 0, 1)
            await opened.indexing.bring(wanted.number)
            await opened.store.serve(wanted.number)
            return wanted.number

    async def retry(self, key: str) -> str:
        """Write a document that was set aside as it is now; answers why that is refused, if it is.

        Raises `StoreUnavailable`, also where nothing is served yet.
        """
        async with self._opened() as opened:
            try:
                served = await self._served(opened)
            except NotServed as problem:
                raise StoreUnavailable(str(problem)) from problem
            read = await opened.source.read([id_number(key)])
            writes = writes_of(read.documents, read.version)
            for refused in await opened.store.write(served.number, writes):
                await opened.set_aside.refused_again(served.number, key, refused.error)
                return refused.error
            await opened.set_aside.settle(served.number, [key])
        return ""

    async def discard(self, letter_id: int, why: str) -> None:
        """Give a document up until an event touches it again. Raises `StoreUnavailable`."""
        async with self._opened() as opened:
            await opened.set_aside.discard(letter_id, why)

    async def _rebuilt(self, opened: Kept, progress: Progress, wishes: Wishes) -> Rebuilt:
        store = opened.store
        builds = await store.builds()
        served = next((build for build in builds if build.served), None)
        waiting = [build for build in builds if served is None or build.number > served.number]
        begun = [] if wishes.anew else waiting[-1:]
        for build in builds:
            if not build.served and build not in begun:
                await store.drop(build.number)
        number, resumed_at = await self._filled(opened, begun, progress)
        await opened.indexing.bring(number)
        found = None
        if served is not None and served.status == "complete":
            found = await self._verified(opened, served, progress, repair=False)
        switched = found is None or wishes.accept_different or not found.different
        if switched:
            await store.serve(number)
        return Rebuilt(
            name=self.name, build=number, switched=switched, found=found, resumed_at=resumed_at
        )

    async def _filled(
        self, opened: Kept, begun: Sequence[Build], progress: Progress
    ) -> tuple[int, int]:
        """A complete build: the one that was begun before, if it is of this version, or a new one;
        and how many documents it had already."""
        store = opened.store
        version = self._projection.index.version
        for build in begun:
            if build.version == version and build.status == "complete":
                return build.number, build.done
            await store.drop(build.number)
        async with opened.source.pinned() as pinned:
            total = await pinned.total()
            number = await store.begin(pinned.checkpoints, total)
            await opened.filling.fill_from(
                pinned, number, total, lambda done, end: progress("rebuilding", done, end)
            )
        return number, 0

    async def _verified(
        self, opened: Kept, build: Build, progress: Progress, *, repair: bool
    ) -> Verified:
        version = self._projection.index.version
        if build.version != version:
            return self._found(build, documents=build.done, comparable=False)
        comparison = SearchComparison(opened.store, opened.source, self._look_seconds)
        compared = await comparison.compare(build.number, progress)
        repaired = 0
        if repair and compared.different:
            repaired = await comparison.repair(build.number, compared.different)
        return Verified(
            name=self.name,
            documents=compared.documents,
            different=len(compared.different) + compared.beyond,
            examples=compared.examples,
            build=build.number,
            version=build.version,
            position=min(compared.checkpoints.values(), default=0),
            set_aside=len(await opened.set_aside.parked(build.number)),
            repaired=repaired,
        )

    def _found(self, build: Build, *, documents: int, comparable: bool) -> Verified:
        return Verified(
            name=self.name,
            documents=documents,
            different=0,
            examples=(),
            build=build.number,
            version=build.version,
            position=0,
            comparable=comparable,
        )

    async def _served(self, opened: Kept) -> Build:
        for build in await opened.store.builds():
            if build.served:
                return build
        raise NotServed(f"nothing is served of {self.name}")

    async def _place(self, opened: Kept, build: Build) -> dict[str, Any]:
        if build.served:
            status = "live" if build.status == "complete" else "filling"
        else:
            status = "built" if build.status == "complete" else "building"
        return {
            "name": self.name,
            "build": build.number,
            "version": build.version,
            "status": status,
            "position": min((await opened.store.positions(build.number)).values()),
            "parked": len(await opened.set_aside.parked(build.number)),
        }

    def _unreachable(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "build": None,
            "version": self._projection.index.version,
            "status": "unreachable",
            "position": None,
            "lagEvents": None,
            "lagSeconds": None,
            "parked": None,
        }

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with alone(self._settings, self.name)() as first:
            if not first:
                raise AlreadyRebuilding(f"{self.name} is being filled or rebuilt by somebody else")
            yield

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[Kept]:
        """Raises `StoreUnavailable` for whatever cannot be reached."""
        settings, projection = self._settings, self._projection
        try:
            async with contextlib.AsyncExitStack() as stack:
                lines = await PostgresEventLog.open(settings.postgres_url)
                stack.push_async_callback(lines.close)
                keyring = await PostgresKeyring.connect(settings.postgres_url)
                stack.push_async_callback(keyring.close)
                client = search_client(settings.opensearch_url, REQUEST_SECONDS)
                stack.push_async_callback(client.close)
                store = OpenSearchStore(client, projection.index, self._patience_seconds)
                metrics = SearchMetrics(CollectorRegistry())
                yield await keeping(settings, projection, store, lines, keyring, stack, metrics)
        except* (SearchUnavailable, IndexLost) as problems:
            first = problems.exceptions[0]
            raise StoreUnavailable(f"the search server: {first}") from first
