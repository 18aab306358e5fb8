"""Events as JSON documents: camelCase names, personal texts readable, or null once erased."""

from typing import Any

from domain.shared.message import tag_of
from infra.formats.codec import open_event
from infra.formats.event_shapes import data_of, timestamp
from infra.ports.frames import Unreadable
from infra.ports.log import Recorded
from infra.ports.secrets import Keyring


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
