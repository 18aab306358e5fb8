"""How events are written down: the envelope and the event as msgpack, under the event's tag."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import Any, cast, get_args

import msgspec
from msgspec import Struct

from domain.events import UPCASTS, AnyEvent, OldEvent
from domain.shared.message import Event, tag_of
from domain.shared.personal import Personal
from infra.formats.personal_values import (
    Read,
    held_by,
    in_the_clear,
    reader_of,
    says_something,
    written,
)
from infra.ports.frames import (
    COMMERCE_PARTITIONS,
    SOCIAL_PARTITIONS,
    Frame,
    Unreadable,
    is_commerce,
    partition_in,
)
from infra.ports.log import Recorded
from infra.ports.secrets import Keyring


class Envelope(Struct, frozen=True, array_like=True, gc=False):
    """What the log keeps in an event's `state` column; fields are only ever added at the end."""

    recorded_at: datetime
    correlation_id: str
    causation_id: str
    event: AnyEvent | OldEvent


class Line(Struct, frozen=True, array_like=True, gc=False):
    """A stored row as it stands in the log and in a Kafka frame."""

    position: int
    stream: str
    version: int
    state: bytes


class _Named(Struct, frozen=True, gc=False):
    type: str = ""


class _Outline(Struct, frozen=True, array_like=True, gc=False):
    """An envelope of which nothing is read but the event's tag."""

    recorded_at: msgspec.Raw
    correlation_id: msgspec.Raw
    causation_id: msgspec.Raw
    event: _Named


class FrameLines(Struct, frozen=True, array_like=True):
    """A frame as it travels through Kafka."""

    partition: int
    previous: int
    first: int
    last: int
    lines: list[Line]


EVENT_CLASSES: dict[str, type[Event]] = {tag_of(kind): kind for kind in get_args(AnyEvent)}
"""Every event's class by the tag that it is stored under."""

SOCIAL_TAGS = frozenset(tag for tag, kind in EVENT_CLASSES.items() if not is_commerce(kind))

_encoder = msgspec.msgpack.Encoder()
_decode_envelope = msgspec.msgpack.Decoder(Envelope).decode
_decode_outline = msgspec.msgpack.Decoder(_Outline).decode
_decode_frame = msgspec.msgpack.Decoder(FrameLines).decode


def encode_state(recorded: Recorded) -> bytes:
    return _encoder.encode(
        Envelope(
            recorded.recorded_at, recorded.correlation_id, recorded.causation_id, recorded.event
        )
    )


def decode_state(position: int, stream: str, version: int, state: bytes) -> Recorded:
    """The recorded event of a stored row, in the newest version of what it tells.

    Nothing personal is readable in it, not even what an old version stored in the clear.
    Raises `msgspec.DecodeError` if it cannot be read.
    """
    envelope = _decode_envelope(state)
    event: Any = envelope.event
    if type(event) in UPCASTS:
        event = _sealed(upcast(event), in_the_clear)
    return Recorded(
        stream=stream,
        version=version,
        recorded_at=envelope.recorded_at,
        event=event,
        correlation_id=envelope.correlation_id,
        causation_id=envelope.causation_id,
        position=position,
    )


def upcast(event: AnyEvent | OldEvent) -> AnyEvent:
    """What an event of any version means today."""
    newest: Any = event
    while (step := UPCASTS.get(type(newest))) is not None:
        newest = step(newest)
    return cast(AnyEvent, newest)


def encode_frame(frame: FrameLines) -> bytes:
    return _encoder.encode(frame)


def decode_frame(message: bytes) -> Frame:
    """The frame of a Kafka message. Lines that cannot be read are in it as such.

    Raises `msgspec.DecodeError` when the message is no frame at all.
    """
    frame = _decode_frame(message)
    events, unreadable = decode_lines(frame.lines)
    return Frame(frame.partition, frame.previous, frame.first, frame.last, events, unreadable)


def decode_lines(lines: Iterable[Line]) -> tuple[list[Recorded], list[Unreadable]]:
    """The events of some rows, and the rows that cannot be read."""
    events: list[Recorded] = []
    unreadable: list[Unreadable] = []
    for line in lines:
        try:
            events.append(decode_state(line.position, line.stream, line.version, line.state))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            unreadable.append(unreadable_line(line, error))
    return events, unreadable


def without_social(lines: Iterable[Line]) -> list[Line]:
    """The rows that are not certainly of the social half, which is told without decoding them."""
    return [line for line in lines if not _is_social(line.state)]


def _is_social(state: bytes) -> bool:
    try:
        return _decode_outline(state).event.type in SOCIAL_TAGS
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Whoever decodes it sets it aside.
        return False


def unreadable_line(line: Line, error: Exception) -> Unreadable:
    """What can still be told about a row that cannot be read, so that its key can be parked."""
    tag, key, half = "", line.stream, SOCIAL_PARTITIONS
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError):
        fields = msgspec.msgpack.decode(line.state)[3]
        tag = str(fields["type"])
        event_class = EVENT_CLASSES[tag]
        half = COMMERCE_PARTITIONS if is_commerce(event_class) else half
        key = str(fields[event_class.ordered_by])
    return Unreadable(
        position=line.position,
        stream=line.stream,
        version=line.version,
        state=line.state,
        tag=tag,
        key=key,
        partition=partition_in(half, key),
        error=str(error),
    )


def personal_fields(event_class: type) -> Mapping[str, Read]:
    """An event's `Personal` fields, and how what each of them seals is read."""
    found = _personal_fields.get(event_class)
    if found is None:
        found = _personal_fields[event_class] = {
            info.name: reader_of(held)
            for info in msgspec.structs.fields(event_class)
            if (held := held_by(info.type)) is not None
        }
    return found


_personal_fields: dict[type, Mapping[str, Read]] = {}


def person_of(event: Any) -> str | None:
    """Whose key seals this event, if it holds anything personal."""
    return getattr(event, event.about) if personal_fields(type(event)) else None


def people_of(events: Sequence[Any]) -> set[str]:
    """Whose keys seal these events, as `person_of` says of each."""
    kinds: set[Any] = set(map(type, events))
    about = {kind: kind.about if personal_fields(kind) else "" for kind in kinds}
    return {getattr(event, name) for event in events if (name := about[type(event)])}


def seal_event(event: Any, keyring: Keyring) -> Any:
    """The same event with what is personal encrypted; its person's key must be in memory."""
    person = person_of(event)
    return event if person is None else _sealed(event, partial(keyring.seal, person))


def _sealed(event: Any, seal: Callable[[str], bytes]) -> Any:
    changed: dict[str, Personal[Any]] = {
        name: Personal(sealed=seal(written(value.value)))
        for name in personal_fields(type(event))
        if (value := getattr(event, name)) is not None and says_something(value.value)
    }
    return msgspec.structs.replace(event, **changed) if changed else event


def open_event(event: Any, keyring: Keyring) -> Any:
    """The same event with what is personal readable, or erased where its key is gone."""
    names = personal_fields(type(event))
    if not names:
        return event
    person = getattr(event, event.about)
    changed: dict[str, Personal[Any]] = {}
    for name, read in names.items():
        value = getattr(event, name)
        if value is not None and value.sealed is not None:
            text = keyring.open(person, value.sealed)
            changed[name] = Personal(None if text is None else read(text))
    return msgspec.structs.replace(event, **changed) if changed else event


def username_key(secret: bytes, username: str) -> str:
    """The keyed hash under which a name is unique, and by which it is looked up."""
    return blake2b(username.encode(), digest_size=16, key=secret, person=b"username").hexdigest()


def stored_tag(recorded: Recorded) -> str:
    return tag_of(type(recorded.event))
