"""Adds a golden line for every event that has none: `python -m tests.contract.record_events`.

A line holds a row's state as this version writes it, and what it says. Lines are only ever added:
one that no longer reads is a log that no longer reads.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import Struct, inspect

from domain.events import AnyEvent, OldEvent
from domain.shared.message import Event, tag_of
from domain.shared.personal import Personal
from infra.formats.codec import decode_state
from infra.formats.personal_values import held_by, written

FOLDER = Path(__file__).parent / "stored_events"
NOON = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
ENVELOPE = (NOON, "correlation", "causation")


class GoldenLine(Struct, frozen=True):
    """`state` in hexadecimal digits; `event` is what it tells in the words of today."""

    tag: str
    state: str
    event: dict[str, Any]


def golden_lines() -> list[GoldenLine]:
    return [
        msgspec.json.decode(line, type=GoldenLine)
        for file in sorted(FOLDER.glob("*.jsonl"))
        for line in file.read_bytes().splitlines()
    ]


def event_classes() -> list[type[Event]]:
    return sorted({*members(AnyEvent), *members(OldEvent)}, key=tag_of)


def members(union: Any) -> Iterator[type[Event]]:
    yield from get_args(union) or (union,)


def sample(event_class: type[Event]) -> Event:
    """An event with a value in every field, the same whenever it is made."""
    info = inspect.type_info(event_class)
    assert isinstance(info, inspect.StructType)
    fields = {field.name: value_of(field.type, field.name) for field in info.fields}
    return event_class(**fields)


def value_of(kind: inspect.Type, name: str) -> Any:  # noqa: C901, PLR0911, PLR0912
    match kind:
        case inspect.StrType():
            return f"{name}-value"
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return 7
        case inspect.FloatType():
            return 0.5
        case inspect.DateTimeType():
            return NOON
        case inspect.BytesType():
            return b"bytes"
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return (value_of(item, name),)
        case inspect.DictType() | inspect.AnyType():
            return {"key": "value"}
        case inspect.StructType(cls=cls) if held_by(cls) is not None:
            if held_by(cls) is str:
                return Personal(sealed=f"sealed {name}".encode())
            value = value_of(inspect.type_info(held_by(cls)), name)
            return Personal(sealed=written(value).encode())
        case inspect.StructType(cls=cls, fields=fields):
            return cls(**{field.name: value_of(field.type, field.name) for field in fields})
        case inspect.UnionType(types=types):
            given = [one for one in types if not isinstance(one, inspect.NoneType)]
            return value_of(given[0], name)
        case _:
            raise AssertionError(f"no value is known of a {kind}")


def half_of(event_class: type[Event]) -> str:
    return event_class.__module__.split(".")[1]


def record() -> list[str]:
    """Add what is missing; answers the tags that were added."""
    known = {line.tag for line in golden_lines()}
    added = [one for one in event_classes() if tag_of(one) not in known]
    for event_class in added:
        state = msgspec.msgpack.encode((*ENVELOPE, sample(event_class)))
        event = msgspec.to_builtins(decode_state(1, "stream", 1, state).event)
        line = msgspec.json.encode(GoldenLine(tag_of(event_class), state.hex(), event))
        with (FOLDER / f"{half_of(event_class)}.jsonl").open("ab") as file:
            file.write(line + b"\n")
    return [tag_of(one) for one in added]


if __name__ == "__main__":
    print("\n".join(record()))
