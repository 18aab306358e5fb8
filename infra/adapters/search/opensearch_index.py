"""`infra.ports.search.SearchStore` on OpenSearch's HTTP API, whoever serves it.

A build is a set of indices, and readers find the one that the alias names. Beside the builds there
is an index of progress: what a build covers is stored in the server that holds it, so one that is
emptied or rolled back forgets both together. Its documents are updated and never made again, so
that progress cannot outlive what it speaks of.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from opensearchpy import AsyncOpenSearch, NotFoundError, OpenSearchException, TransportError

from infra.adapters.search.osmem import Osmem, lean
from infra.ports.search import (
    Build,
    BuildStatus,
    IndexLost,
    Refused,
    SearchUnavailable,
    Served,
    Write,
)
from infra.ports.search_documents import PROGRESS, PROGRESS_TEMPLATE, SearchIndex, encode

log = structlog.get_logger(__name__)

DOCUMENTS_MAX = 1_000
BYTES_MAX = 4_000_000
PAGE = 1_000
PATIENCE_SECONDS = 20.0
BACKOFF_SECONDS = 0.05
BACKOFF_SECONDS_MAX = 3.0
ALIKE_MIN = 20
"""When so many documents are refused for the same reason and none is taken, it is not theirs."""

CONFLICT, NOT_FOUND, TOO_LARGE, TOO_MANY = 409, 404, 413, 429


class OpenSearchStore:
    """The builds of one index."""

    def __init__(
        self,
        client: AsyncOpenSearch,
        index: SearchIndex,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._client = client
        self._index = index
        self._patience_seconds = patience_seconds
        self._slices: set[str] = set()
        self._served: int | None = None
        self._osmem = Osmem(client)

    @property
    def index(self) -> SearchIndex:
        return self._index

    # Builds.

    async def builds(self) -> Sequence[Build]:
        """See `SearchStore.builds`. What has no progress is no build, but a leftover of one."""
        slices = await self._slices_by_build()
        self._served = self._served_of(slices)
        self._slices = {name for of_build in slices.values() for name in of_build}
        numbers = sorted(slices)
        found = await self._progress([self._state_id(number) for number in numbers])
        return [
            Build(
                number=number,
                version=state["version"],
                status=state["status"],
                done=state["done"],
                total=state["total"],
                served=number == self._served,
            )
            for number, state in zip(numbers, found, strict=True)
            if state is not None
        ]

    async def begin(self, positions: Mapping[int, int], total: int) -> int:
        client, index = self._client, self._index
        ours = index.template()
        if await self._ask(self._osmem.serves):
            ours = lean(ours)
        templates = {index.alias: ours, PROGRESS: PROGRESS_TEMPLATE}
        for name, template in templates.items():
            await self._ask(client.indices.put_index_template, name=name, body=template)
        await self._make(PROGRESS)
        number = max(await self._slices_by_build(), default=0) + 1
        await self._make(index.slice_of(number, datetime.now(UTC)))
        state = {"version": index.version, "status": "filling", "done": 0, "total": total}
        documents = {self._state_id(number): state} | {
            self._place_id(number, partition): {"position": position}
            for partition, position in positions.items()
        }
        lines = [
            line
            for key, document in documents.items()
            for line in ({"index": {"_index": PROGRESS, "_id": key}}, document)
        ]
        answer = await self._ask(client.bulk, body=ndjson(lines), refresh=True)
        if answer["errors"]:
            raise SearchUnavailable(f"progress could not be stored: {answer['items']}")
        log.info("search.build_begun", index=index.name, build=number)
        return number

    async def serve(self, build: int) -> None:
        slices = await self._slices_by_build()
        if build not in slices:
            raise IndexLost(f"{self._index.name} has no build {build}")
        # What has just been written can be found from the first search on.
        await self.refresh(build)
        alias = self._index.alias
        actions: list[dict[str, Any]] = [
            {"remove": {"index": name, "alias": alias}}
            for number, of_build in slices.items()
            for name, aliases in of_build.items()
            if number != build and alias in aliases
        ]
        actions += [{"add": {"index": name, "alias": alias}} for name in slices[build]]
        await self._ask(self._client.indices.update_aliases, body={"actions": actions})
        self._served = build
        log.info("search.build_served", index=self._index.name, build=build)

    async def drop(self, build: int) -> None:
        slices = await self._slices_by_build()
        for name in slices.get(build, ()):
            await self._ask(self._client.indices.delete, index=name, ignore_unavailable=True)
            self._slices.discard(name)
        lines = [{"delete": {"_index": PROGRESS, "_id": key}} for key in self._progress_ids(build)]
        await self._ask(self._client.bulk, body=ndjson(lines))

    # Documents.

    async def write(self, build: int, writes: Sequence[Write]) -> Sequence[Refused]:
        refused: list[Refused] = []
        for chunk in chunks(writes):
            refused += await self._write_chunk(build, chunk)
        if len(refused) == len(writes) >= ALIKE_MIN and alike(refused):
            raise SearchUnavailable(f"every document is refused: {refused[0].error}")
        return refused

    async def _write_chunk(self, build: int, writes: Sequence[Write]) -> list[Refused]:
        """Send until each document is taken, refused, or was there in a later version already."""
        refused: list[Refused] = []
        left = writes
        pause, clock = BACKOFF_SECONDS, asyncio.get_running_loop().time
        deadline = clock() + self._patience_seconds
        while True:
            try:
                left, never = await self._send(build, left)
                refused += never
                problem = f"{len(left)} documents cannot be taken now"
            except SearchUnavailable as unavailable:
                problem = str(unavailable)
            if not left:
                return refused
            if clock() + pause > deadline:
                raise SearchUnavailable(problem)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, BACKOFF_SECONDS_MAX)

    async def _send(
        self, build: int, writes: Sequence[Write]
    ) -> tuple[Sequence[Write], list[Refused]]:
        """Send once; answers what to send again, and what is refused for good."""
        names = [self._index.slice_of(build, write.created_at) for write in writes]
        await self._have(build, set(names))
        body = b"".join(action(name, write) for name, write in zip(names, writes, strict=True))
        try:
            answer = await self._client.bulk(body=body)
            await self._osmem.wrote(answer["items"])
        except TransportError as error:
            if error.status_code == TOO_LARGE and len(writes) > 1:
                return await self._send_halves(build, writes)
            if error.status_code == TOO_LARGE:
                return (), [Refused(writes[0].id, "larger than the server takes in one request")]
            raise SearchUnavailable(str(error)) from error
        except OpenSearchException as error:
            raise SearchUnavailable(str(error)) from error
        again: list[Write] = []
        refused: list[Refused] = []
        if answer["errors"]:
            for write, item in zip(writes, answer["items"], strict=True):
                self._judge(write, *item.values(), again=again, refused=refused)
        return again, refused

    def worn(self, documents: int) -> bool:
        return self._osmem.worn(documents)

    def renewed(self) -> None:
        self._osmem.renewed()

    async def _send_halves(
        self, build: int, writes: Sequence[Write]
    ) -> tuple[Sequence[Write], list[Refused]]:
        middle = len(writes) // 2
        first_again, first_refused = await self._send(build, writes[:middle])
        again, refused = await self._send(build, writes[middle:])
        return [*first_again, *again], [*first_refused, *refused]

    def _judge(
        self,
        write: Write,
        item: Mapping[str, Any],
        *,
        again: list[Write],
        refused: list[Refused],
    ) -> None:
        """What became of one document of a bulk."""
        status, error = item["status"], item.get("error")
        if status < 300 or status == CONFLICT or error is None:
            # A conflict: a later version is there. An error is missing where what was to be
            # deleted is gone already.
            return
        if status == NOT_FOUND:
            raise IndexLost(error["reason"])
        if status >= 500 or status in (TOO_MANY, 403):
            again.append(write)
        else:
            refused.append(Refused(write.id, reason(error)))

    async def _have(self, build: int, names: Iterable[str]) -> None:
        """Make the slices that there are not yet. No index may come into being without us."""
        for name in sorted(set(names) - self._slices):
            await self._make(name)
            if build == self._served:
                await self._ask(self._client.indices.put_alias, index=name, name=self._index.alias)
            self._slices.add(name)

    # Progress.

    async def filled(self, build: int, status: BuildStatus, done: int, total: int) -> None:
        await self._update(
            {self._state_id(build): {"status": status, "done": done, "total": total}}
        )

    async def positions(self, build: int) -> Mapping[int, int]:
        ids = self._progress_ids(build)
        prefix = self._place_id(build, "")
        places = [key for key in ids if key.startswith(prefix)]
        found = await self._progress(places)
        if not places or None in found:
            raise IndexLost(f"{self._index.name} has no progress of build {build}")
        return {
            int(key.removeprefix(prefix)): state["position"]
            for key, state in zip(places, found, strict=True)
            if state is not None
        }

    async def advance(self, build: int, positions: Mapping[int, int]) -> None:
        await self._update(
            {
                self._place_id(build, partition): {"position": position}
                for partition, position in positions.items()
            }
        )

    async def _update(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        lines = [
            line
            for key, changed in documents.items()
            for line in ({"update": {"_index": PROGRESS, "_id": key}}, {"doc": changed})
        ]
        answer = await self._ask(self._client.bulk, body=ndjson(lines))
        statuses = {item["update"]["status"] for item in answer["items"]}
        if NOT_FOUND in statuses:
            raise IndexLost(f"the progress of {self._index.name} is gone")
        if any(status >= 300 and status != CONFLICT for status in statuses):
            raise SearchUnavailable(f"progress could not be stored: {answer['items']}")

    async def _progress(self, ids: Sequence[str]) -> list[dict[str, Any] | None]:
        if not ids:
            return []
        body = {"docs": [{"_index": PROGRESS, "_id": key} for key in ids]}
        answer = await self._ask(self._client.mget, body=body)
        return [one["_source"] if one.get("found") else None for one in answer["docs"]]

    def _progress_ids(self, build: int) -> list[str]:
        """The ids under which progress of a build may stand."""
        partitions = self._index.partitions
        return [
            self._state_id(build),
            *(self._place_id(build, partition) for partition in partitions),
        ]

    def _state_id(self, build: int) -> str:
        return f"{self._index.name}-b{build}"

    def _place_id(self, build: int, partition: int | str) -> str:
        return f"{self._state_id(build)}-p{partition}"

    # Reading.

    async def by_id(
        self, build: int, after: str = "", upto: str = ""
    ) -> AsyncGenerator[Sequence[Served], None]:
        field = self._index.id_field
        body: dict[str, Any] = {
            "size": PAGE,
            "version": True,
            "query": {"range": {field: {"lte": upto}}} if upto else {"match_all": {}},
            "sort": [{field: "asc"}],
        }
        if after:
            body["search_after"] = [after]
        while True:
            hits = (await self._search(build, body))["hits"]["hits"]
            if hits:
                yield [served(hit) for hit in hits]
                body["search_after"] = hits[-1]["sort"]
            if len(hits) < PAGE:
                return

    async def documents(self, build: int, ids: Sequence[str]) -> Mapping[str, Served]:
        found: dict[str, Served] = {}
        for start in range(0, len(ids), PAGE):
            part = list(ids[start : start + PAGE])
            body = {
                "size": len(part),
                "version": True,
                "query": {"terms": {self._index.id_field: part}},
            }
            for hit in (await self._search(build, body))["hits"]["hits"]:
                found[hit["_id"]] = served(hit)
        return found

    async def refresh(self, build: int) -> None:
        await self._ask(self._client.indices.refresh, index=self._pattern(build))

    async def _search(self, build: int, body: Mapping[str, Any]) -> Any:
        return await self._ask(self._client.search, index=self._pattern(build), body=body)

    def _pattern(self, build: int) -> str:
        """The slices of this build alone."""
        name = self._index.build_name(build)
        return f"{name}-*" if self._index.sliced else name

    # The server.

    async def _slices_by_build(self) -> dict[int, dict[str, Mapping[str, Any]]]:
        """The indices of each build, and the aliases of each index."""
        pattern = self._index.every_build
        try:
            found = await self._client.indices.get_alias(index=pattern)
        except NotFoundError:
            return {}
        except OpenSearchException as error:
            raise SearchUnavailable(str(error)) from error
        builds: dict[int, dict[str, Mapping[str, Any]]] = {}
        for name, about in found.items():
            number = self._index.build_of(name)
            if number is not None:
                builds.setdefault(number, {})[name] = about.get("aliases", {})
        return builds

    def _served_of(self, slices: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> int | None:
        alias = self._index.alias
        served_ones = (
            number
            for number, of_build in slices.items()
            if any(alias in aliases for aliases in of_build.values())
        )
        return max(served_ones, default=None)

    async def _make(self, name: str) -> None:
        try:
            await self._client.indices.create(index=name)
        except TransportError as error:
            if error.error != "resource_already_exists_exception":
                raise SearchUnavailable(str(error)) from error
        except OpenSearchException as error:
            raise SearchUnavailable(str(error)) from error

    async def _ask(self, act: Callable[..., Awaitable[Any]], **arguments: Any) -> Any:
        try:
            return await act(**arguments)
        except OpenSearchException as error:
            raise SearchUnavailable(str(error)) from error


def action(slice_name: str, write: Write) -> bytes:
    """The lines of a bulk that write or delete one document."""
    kind = "delete" if write.body is None else "index"
    place = {
        "_index": slice_name,
        "_id": write.id,
        "version": write.version,
        "version_type": "external_gte",
    }
    line = encode({kind: place}) + b"\n"
    return line if write.body is None else line + write.body + b"\n"


def ndjson(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(encode(line) + b"\n" for line in lines)


def chunks(writes: Sequence[Write]) -> list[list[Write]]:
    """Split so that no part holds more documents, or many more bytes, than a request should."""
    found: list[list[Write]] = []
    room = 0
    for write in writes:
        size = 200 + len(write.body or b"")
        if not found or len(found[-1]) == DOCUMENTS_MAX or size > room:
            found.append([])
            room = BYTES_MAX
        found[-1].append(write)
        room -= size
    return found


def reason(error: Mapping[str, Any]) -> str:
    causes = [error]
    while (cause := causes[-1].get("caused_by")) is not None:
        causes.append(cause)
    return "; ".join(f"{one.get('type')}: {one.get('reason')}" for one in causes)


def alike(refused: Sequence[Refused]) -> bool:
    kinds = Counter(one.error.partition(":")[0] for one in refused)
    return len(kinds) == 1


def served(hit: Mapping[str, Any]) -> Served:
    return Served(hit["_id"], hit["_version"], hit["_source"])
