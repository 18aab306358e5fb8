"""Events as JSON documents: camelCase names, personal texts readable, or null once erased."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from domain.shared.message import tag_of
from domain.shared.personal import Personal
from infra.codec import open_event
from infra.ports import Keyring, Recorded, Unreadable


def document(recorded: Recorded, keyring: Keyring) -> dict[str, Any]:
    """One line of `plaza log tail`; the keys of the event's person must be in memory."""
    return {
        "position": recorded.position,
        "stream": recorded.stream,
        "version": recorded.version,
        "type": tag_of(type(recorded.event)),
        "recordedAt": timestamp(recorded.recorded_at),
        "correlationId": recorded.correlation_id or None,
        "causationId": recorded.causation_id or None,
        "data": data_of(open_event(recorded.event, keyring)),
    }


def unreadable_document(row: Unreadable) -> dict[str, Any]:
    return {
        "position": row.position,
        "stream": row.stream,
        "version": row.version,
        "type": row.tag or None,
        "error": row.error,
        "data": None,
    }


def data_of(value: Any) -> Any:
    """A value out of an event as JSON knows it."""
    if isinstance(value, Personal):
        return value.text
    if isinstance(value, Struct):
        names = value.__struct_fields__
        return {camel(name): data_of(getattr(value, name)) for name in names}
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, Mapping):
        return {str(key): data_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [data_of(item) for item in value]
    return msgspec.to_builtins(value)


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name)
