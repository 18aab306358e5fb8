"""The audit and the upkeep of a worker, assembled. Of all workers one does them."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
import structlog
from prometheus_client import REGISTRY, CollectorRegistry

from domain.shared.identifiers import id_text
from infra.adapters.processes.process_lease import LeaseLost, lease
from infra.adapters.tables.counted_streams import CountedStreams
from infra.adapters.tables.maintenance import PostgresMaintenance
from infra.composition.operations.search_keeper import SearchKeeper
from infra.composition.operations.tables_keeper import HOUR_SECONDS, key_columns
from infra.composition.operations.timelines_keeper import opened as timelines_opened
from infra.composition.operations.verifying import remake, verify
from infra.composition.settings import Settings
from infra.ports.keepers import Different, NotServed
from infra.ports.search import SearchProjection
from infra.ports.tables import Add, AnyTable, CountTable, Part
from infra.ports.timelines import TimelinesUnavailable
from infra.runtime.projecting.projection import Projection
from infra.runtime.rebuilding.audit import Audit, Budget, Drift, Look, Looked
from infra.runtime.rebuilding.rebuild import nothing_told
from infra.runtime.timelines.timeline_check import Unlike
from infra.runtime.upkeep import Upkeep
from projections import COMMERCE, SOCIAL
from projections.search import SEARCH

LEASE = "upkeep"
PAUSE_SECONDS = 1.0
KEYS_AT_ONCE = 50
DOCUMENTS_AT_ONCE = 200
INDEX_LAG_SECONDS = 1.0
"""How long after the tables an index usually shows what they do."""

SLICES = 16
"""A slice of a projection is so many times smaller than all of it."""

log = structlog.get_logger(__name__)


async def look_after(settings: Settings, registry: CollectorRegistry = REGISTRY) -> None:
    """Audit and keep up until cancelled, whenever no other worker does."""
    audit = auditing(settings, registry) if settings.audit_percent else None
    upkeep = keeping_up(settings, registry)
    while True:
        try:
            async with lease(settings.postgres_url, LEASE) as held, asyncio.TaskGroup() as group:
                group.create_task(held.watch())
                group.create_task(upkeep.run())
                if audit is not None:
                    group.create_task(audit.run())
        except* LeaseLost as lost:
            log.warning("upkeep.paused", errors=[str(error) for error in lost.exceptions])
        await asyncio.sleep(PAUSE_SECONDS)


def keeping_up(settings: Settings, registry: CollectorRegistry) -> Upkeep:
    maintenance = PostgresMaintenance(settings.postgres_url)
    keep_seconds = settings.retired_build_hours * HOUR_SECONDS
    return Upkeep(
        {
            "answers": partial(maintenance.forget_answers, settings.answer_days),
            "letters": maintenance.forget_letters,
            "builds": partial(maintenance.drop_builds, keep_seconds),
        },
        registry,
    )


def auditing(settings: Settings, registry: CollectorRegistry) -> Audit:
    budget = Budget(settings.audit_percent / 100)
    looks: list[Look] = []
    for projection in (*SOCIAL, *COMMERCE):
        looks.append(Slices(settings, projection, budget).look)
        looks += [
            Streams(settings, projection, table).look
            for table in projection.tables
            if isinstance(table, CountTable) and table.stream
        ]
    if settings.redis_url:
        looks.append(Timelines(settings).look)
    if settings.opensearch_url:
        looks += [SearchSlices(settings, projection, budget).look for projection in SEARCH.values()]
    return Audit(looks, budget, registry)


class Streams:
    """Counts that one stream tells, by key, a few at a time and round and round."""

    def __init__(self, settings: Settings, projection: Projection, table: CountTable) -> None:
        self._settings = settings
        self._projection = projection
        self._table = table
        self._streams = CountedStreams(settings.postgres_url)
        self._key = 0

    async def look(self, known: Drift | None = None, /) -> Looked | None:
        projection, table = self._projection, self._table
        begun = self._key if known is None else int(known.part) - 1
        found = await self._streams.after(projection, table, begun, KEYS_AT_ONCE)
        if found is None or found.version != projection.version:
            return None
        full = len(found.rows) == KEYS_AT_ONCE
        last = found.rows[-1][0] if full else 0
        if known is None:
            self._key = last
        sums: dict[int, list[int]] = {row[0]: [0] * len(table.counts) for row in found.rows}
        for recorded in found.events:
            for change in projection.fold(recorded) if projection.folds(recorded.event) else ():
                if isinstance(change, Add) and change.table is table and change.key in sums:
                    for place, delta in enumerate(change.deltas):
                        sums[change.key][place] += delta
        wrong = [row[0] for row in found.rows if list(row[1:]) != sums[row[0]]]
        repair = self._settings.audit_repair == "on"
        if wrong and repair:
            columns = {one.name: key_columns(one)[:1] for one in projection.tables}
            for key in wrong:
                await remake(self._settings, projection, Part(columns, key))
        name = projection.name
        return Looked(
            name,
            len(found.rows),
            [Drift(name, table.name, f"{table.key}={id_text(key)}", str(key)) for key in wrong],
            lambda drift: (
                (drift.projection, drift.place) == (name, table.name)
                and begun < int(drift.part)
                and (not full or int(drift.part) <= last)
            ),
            len(wrong) if repair else 0,
        )


class Slices:
    """All documents of a projection whose key leaves the same rest, against the whole log."""

    def __init__(self, settings: Settings, projection: Projection, budget: Budget) -> None:
        self._settings = settings
        self._projection = projection
        self._budget = budget
        self._rest = 0

    async def look(self, known: Drift | None = None, /) -> Looked | None:
        columns = {
            table.name: numbered for table in self._projection.tables if (numbered := sliced(table))
        }
        if not columns:
            return None
        name, rest = self._projection.name, self._rest
        if known is None:
            self._rest = (rest + 1) % SLICES
        else:
            rest = int(known.part.partition(" ")[0])
        repair = self._settings.audit_repair == "on"
        try:
            found = await verify(
                self._settings,
                self._projection,
                nothing_told,
                repair=repair,
                part=Part(columns, rest, SLICES),
                pace=self._budget.pace,
            )
        except NotServed:
            return None
        part = f"{rest} of {SLICES}"
        return Looked(
            name,
            found.documents,
            [Drift(name, one.place, key_of(self._projection, one), part) for one in found.examples],
            lambda drift: (drift.projection, drift.part) == (name, part),
            found.repaired,
        )


def sliced(table: AnyTable) -> Sequence[str]:
    """The column that a table is cut by: the first number that every change names."""
    if isinstance(table, CountTable):
        return (table.key,)
    types = {column.name: column.type for column in table.columns}
    return [name for name in key_columns(table) if types[name] == "bigint"][:1]


def key_of(projection: Projection, one: Different) -> str:
    """Names a document: the values of its key, ids as they are shown elsewhere."""
    document: Mapping[str, object] = one.served or one.computed or {}
    table = next(table for table in projection.tables if table.name == one.place)
    shown = {}
    for name in key_columns(table):
        value = document.get(name)
        is_id = isinstance(value, int) and name.endswith("_id")
        shown[name] = id_text(value) if is_id and isinstance(value, int) else value
    return ",".join(
        f"{name}={msgspec.json.encode(value).decode()}" for name, value in shown.items()
    )


class Timelines:
    """One kept timeline after the other, as chance has it."""

    name = "home_timelines"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def look(self, known: Drift | None = None, /) -> Looked | None:
        try:
            async with timelines_opened(self._settings) as opened:
                member = await opened.store.anybody() if known is None else int(known.part)
                found = False if member is None else await opened.check.check(member)
                repair = isinstance(found, Unlike) and self._settings.audit_repair == "on"
                if member is None or (found is False and known is None):
                    return None
                if repair:
                    await opened.check.rebuild(member)
        except (NotServed, TimelinesUnavailable):
            return None
        drift = Drift(self.name, "timeline", f"member={id_text(member)}", str(member))
        return Looked(
            self.name,
            1,
            [drift] if isinstance(found, Unlike) else [],
            lambda known: known == drift,
            int(repair),
        )


class SearchSlices:
    """The documents of a search index, a few at a time in the order of their ids, against what the
    read tables give. An index that is being made, or is behind, is left alone."""

    def __init__(self, settings: Settings, projection: SearchProjection, budget: Budget) -> None:
        self._keeper = SearchKeeper(settings, projection)
        self._alias = projection.index.alias
        self._repairs = settings.audit_repair == "on"
        self._budget = budget
        self._after = 0

    async def look(self, known: Drift | None = None, /) -> Looked | None:
        name, after = self._keeper.name, self._after
        key = "" if known is None else known.part
        try:
            found, repaired = await self._keeper.sample(
                after, DOCUMENTS_AT_ONCE, self._rest, known=key, repair=self._repairs
            )
        except NotServed:
            return None
        if known is None:
            self._after = found.last
        drifts = [Drift(name, self._alias, f"id={one}", one) for one in found.wrong]

        def is_of(drift: Drift) -> bool:
            if known is not None or drift.projection != name:
                return drift == known
            return id_text(after) < drift.part and (
                not found.last or drift.part <= id_text(found.last)
            )

        return Looked(name, found.documents, drifts, is_of, repaired)

    async def _rest(self) -> None:
        """Pauses do not count as work."""
        await self._budget.pace()
        await asyncio.sleep(INDEX_LAG_SECONDS)
        self._budget.begin()
