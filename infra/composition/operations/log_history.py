"""What an event came of and what came of it, and what the log holds by type and day, assembled."""

import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from infra.adapters.log.log_queries import LogQueries, Progress, Summed
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.composition.operations.checkouts import NoSuchCheckout, shown
from infra.composition.operations.log_reading import documents
from infra.composition.settings import Settings
from infra.formats.codec import Line, decode_lines
from infra.formats.event_shapes import camel
from infra.ports.frames import ordering_key
from infra.ports.log import Recorded
from infra.ports.secrets import Keyring
from infra.ports.tables import Add, Change, Forget, Insert
from projections import COMMERCE, SOCIAL

WITHIN = 1_000_000
"""How far behind an event its effects are looked for, unless told otherwise."""

BEFORE = 1_000
"""How far before the first known event of a request others of it are looked for."""

CAUSES_MAX = 100
CHECKOUTS_MAX = 5
ENVELOPE_BYTES = 1_024
"""The ids of an event's envelope stand within so many bytes: they are shorter than 250 each."""


class NoSuchEvent(Exception):
    """There is nothing at this position: it was never given to an event that was written."""


@dataclass
class Node:
    """An event and what was caused by it, as far as was looked."""

    event: Mapping[str, Any]
    effects: list["Node"] = field(default_factory=list)

    def described(self) -> dict[str, Any]:
        return {**self.event, "effects": [effect.described() for effect in self.effects]}


@dataclass(frozen=True)
class Story:
    """An event among those of its request. `causes` begin with the first; `roots` are the events
    that the request itself caused, with all that followed; `checkouts` are those that any of these
    belongs to, and what has become of them."""

    event: Mapping[str, Any]
    causes: Sequence[Mapping[str, Any]]
    effects: Sequence[Node]
    roots: Sequence[Node]
    changes: Sequence[Mapping[str, Any]]
    checkouts: Sequence[Mapping[str, Any]]
    searched: Mapping[str, Any]

    def described(self) -> dict[str, Any]:
        return {
            "event": self.event,
            "causes": list(self.causes),
            "effects": [effect.described() for effect in self.effects],
            "tree": [root.described() for root in self.roots],
            "changes": list(self.changes),
            "checkouts": list(self.checkouts),
            "searched": dict(self.searched),
        }


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[tuple[LogQueries, PostgresKeyring], None]:
    async with contextlib.AsyncExitStack() as stack:
        queries = await LogQueries.open(settings.postgres_url)
        stack.push_async_callback(queries.close)
        keyring = await PostgresKeyring.connect(settings.postgres_url)
        stack.push_async_callback(keyring.close)
        yield queries, keyring


async def story(settings: Settings, position: int, within: int = WITHIN) -> Story:
    """What belongs to an event. Raises `NoSuchEvent` and `LogUnavailable`.

    Causes are followed by position, exactly. Nothing indexes what an event caused: everything with
    the same correlation id is looked for from its beginning up to `within` positions after the
    event, and `searched` says whether that was all of the log.
    """
    async with opened(settings) as (queries, keyring):
        lines = await queries.at([position])
        if not lines:
            raise NoSuchEvent(f"there is no event at position {position}")
        chain = await causes_of(queries, lines[0])
        begin = max(0, chain[0].position - 1 - BEFORE)
        head = await queries.head()
        end = min(head, position + within)
        found = {line.position: line for line in (*chain, lines[0])}
        correlation_id = correlation_of(lines[0])
        if correlation_id:
            matching = queries.holding(correlation_id, begin, end, within_bytes=ENVELOPE_BYTES)
            async with contextlib.aclosing(matching):
                async for line in matching:
                    if correlation_of(line) == correlation_id:
                        found[line.position] = line
        told = {
            one["position"]: one
            for one in await documents(sorted(found.values(), key=lambda x: x.position), keyring)
        }
    nodes, roots = tree(told)
    events, _ = decode_lines(lines)
    return Story(
        event=told[position],
        causes=[told[line.position] for line in chain[:-1]],
        effects=nodes[position].effects,
        roots=roots,
        changes=[change for event in events for change in changes_of(event, keyring)],
        checkouts=await driven(settings, told.values()),
        searched={"after": begin, "last": end, "head": head, "complete": end == head},
    )


async def driven(
    settings: Settings, told: Iterable[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    """Which checkouts these events belong to. What follows from a provider's answer is a request of
    its own, and so in no tree of ours: the checkout ties them together."""
    named = dict.fromkeys((event["data"] or {}).get("checkoutId") for event in told)
    found = []
    for checkout_id in [one for one in named if one][:CHECKOUTS_MAX]:
        with contextlib.suppress(NoSuchCheckout):
            whole = await shown(settings, checkout_id)
            found.append({name: whole[name] for name in ("checkoutId", "status", "waitsFor")})
    return found


async def causes_of(queries: LogQueries, line: Line) -> list[Line]:
    """The event's causes and itself, the first one first."""
    chain = [line]
    while len(chain) <= CAUSES_MAX and (cause := cause_of(chain[0])) is not None:
        above = await queries.at([cause])
        if not above:
            break
        chain.insert(0, above[0])
    return chain


def cause_of(line: Line) -> int | None:
    """The position of the event that this one was a reaction to."""
    events, _ = decode_lines([line])
    if not events:
        return None
    return position_in(events[0].causation_id, events[0].correlation_id, line.position)


def position_in(causation_id: str, correlation_id: str, before: int) -> int | None:
    """A causation id that is the position of an earlier event, and not the id of a request.

    A request's events have its id for both: callers may choose ids that look like positions.
    """
    if causation_id == correlation_id or not (causation_id.isascii() and causation_id.isdigit()):
        return None
    return int(causation_id) if 0 < int(causation_id) < before else None


def correlation_of(line: Line) -> str:
    events, _ = decode_lines([line])
    return events[0].correlation_id if events else ""


def tree(told: Mapping[int, Mapping[str, Any]]) -> tuple[dict[int, Node], list[Node]]:
    """Every event under the one that caused it; those whose cause is not among them are roots."""
    nodes = {position: Node(event) for position, event in sorted(told.items())}
    roots: list[Node] = []
    for position, node in nodes.items():
        causation_id, correlation_id = (
            str(node.event.get(name) or "") for name in ("causationId", "correlationId")
        )
        cause = position_in(causation_id, correlation_id, position)
        above = nodes.get(cause) if cause is not None else None
        (roots if above is None else above.effects).append(node)
    return nodes, roots


def changes_of(recorded: Recorded, keyring: Keyring) -> list[dict[str, Any]]:
    """What the event changes in read tables, projection by projection. The key that its texts are
    sealed under is in memory."""
    return [
        described_change(projection.name, change, ordering_key(recorded.event))
        for projection in (*SOCIAL, *COMMERCE)
        if projection.folds(recorded.event)
        for change in projection.with_texts(keyring).fold(recorded)
    ]


def described_change(projection: str, change: Change, key: str) -> dict[str, Any]:
    table = change.table
    if isinstance(change, Insert):
        names = [column.name for column in change.table.columns]
        known = dict(zip(names, change.row, strict=True))
        wanted = [name for name in table.primary_key if name in known]  # type: ignore[union-attr]
        row: Any = {camel(name): plain(known[name]) for name in wanted or names[:1]}
    elif isinstance(change, Add):
        row = {camel(change.table.key): change.key}
    elif isinstance(change, Forget):
        row = {camel(change.column): plain(change.value)}
    else:
        row = {
            camel(name): plain(value)
            for name, value in zip(change.table.key, change.key, strict=True)
        }
    return {
        "projection": projection,
        "table": table.name,
        "change": type(change).__name__.lower(),
        "row": row,
        "orderedBy": key,
    }


def plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


async def statistics(
    settings: Settings, progress: Progress = lambda _reached, _head: None
) -> dict[str, Any]:
    """Events and bytes by type, by day, and by both; a day's growth is against the day before."""
    async with opened(settings) as (queries, _):
        sums = await queries.sums(progress)
        disk_bytes = await queries.disk_bytes()
    days = by_day(sums)
    return {
        "events": sum(one.events for one in sums),
        "bytes": sum(one.bytes for one in sums),
        "diskBytes": disk_bytes,
        "firstPosition": min((one.first for one in sums), default=None),
        "lastPosition": max((one.last for one in sums), default=None),
        "types": by_type(sums),
        "days": days,
        "typesByDay": [
            {"day": text(one.day), "type": one.tag, "events": one.events, "bytes": one.bytes}
            for one in sorted(sums, key=lambda one: (text(one.day) or "", one.tag))
        ],
    }


def by_type(sums: Iterable[Summed]) -> list[dict[str, Any]]:
    grouped: defaultdict[str, list[Summed]] = defaultdict(list)
    for one in sums:
        grouped[one.tag].append(one)
    rows: list[dict[str, Any]] = [
        {
            "type": tag,
            "events": sum(one.events for one in parts),
            "bytes": (size := sum(one.bytes for one in parts)),
            "bytesPerEvent": round(size / sum(one.events for one in parts), 1),
            "firstPosition": min(one.first for one in parts),
            "lastPosition": max(one.last for one in parts),
        }
        for tag, parts in grouped.items()
    ]
    return sorted(rows, key=lambda row: (-row["events"], row["type"]))


def by_day(sums: Iterable[Summed]) -> list[dict[str, Any]]:
    """`eventsSoFar` and `bytesSoFar` are the log's size at the end of the day."""
    grouped: defaultdict[str, list[Summed]] = defaultdict(list)
    for one in sums:
        grouped[text(one.day) or ""].append(one)
    rows: list[dict[str, Any]] = []
    so_far = bytes_so_far = 0
    for day, parts in sorted(grouped.items()):
        before = rows[-1]["events"] if rows else 0
        events, size = sum(one.events for one in parts), sum(one.bytes for one in parts)
        so_far, bytes_so_far = so_far + events, bytes_so_far + size
        rows.append(
            {
                "day": day or None,
                "events": events,
                "bytes": size,
                "growth": round(events / before - 1, 4) if before else None,
                "eventsSoFar": so_far,
                "bytesSoFar": bytes_so_far,
            }
        )
    return rows


def text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
