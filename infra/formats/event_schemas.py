"""What each event type's data looks like, as JSON Schema, and what has changed between two states.

The data is that of exports, `plaza log tail` and the firehose. A type's schema may only grow: by
fields that have a default. Everything else is another type, with another version in its tag.
"""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from msgspec import NODEFAULT, Struct, inspect

from domain.events import UPCASTS, AnyEvent, OldEvent
from domain.shared.message import Event, tag_of
from infra.formats.codec import personal_fields
from infra.formats.event_shapes import camel
from infra.formats.personal_values import held_by

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = Mapping[str, Any]


class SchemaChange(Struct, frozen=True, kw_only=True):
    """`additive`: everything that was stored can still be read, and means the same."""

    type: str
    path: str
    change: str
    additive: bool


def event_classes() -> list[type[Event]]:
    """Every event that the log may hold, those of earlier versions too."""
    found: set[type[Event]] = set()
    for union in (AnyEvent, OldEvent):
        found.update(get_args(union) or (union,))
    return sorted(found, key=tag_of)


def schemas() -> dict[str, Schema]:
    """The schema of every type, by its tag."""
    return {tag_of(kind): schema_of(kind) for kind in event_classes()}


def schema_of(event_class: type[Event]) -> Schema:
    tag = tag_of(event_class)
    described: dict[str, Any] = {"$schema": DIALECT, "title": tag}
    if event_class.__doc__:
        described["description"] = " ".join(event_class.__doc__.split())
    if event_class in UPCASTS:
        newer = UPCASTS[event_class].__annotations__.get("return")
        described["deprecated"] = True
        described["x-read-as"] = tag_of(newer) if isinstance(newer, type) else str(newer)
    described |= struct_schema(event_class)
    described["x-ordered-by"] = camel(event_class.ordered_by)
    if names := personal_fields(event_class):
        described["x-personal"] = [camel(name) for name in names]
        described["x-about"] = camel(event_class.about)
    return described


def struct_schema(struct_class: type) -> dict[str, Any]:
    info = inspect.type_info(struct_class)
    assert isinstance(info, inspect.StructType)
    return {
        "type": "object",
        "properties": {camel(field.name): type_schema(field.type) for field in info.fields},
        "required": [
            camel(field.name)
            for field in info.fields
            if field.default is NODEFAULT and field.default_factory is NODEFAULT
        ],
    }


def type_schema(kind: inspect.Type) -> dict[str, Any]:  # noqa: PLR0911
    match kind:
        case inspect.StructType(cls=cls) if (held := held_by(cls)) is not None:
            shown = type_schema(inspect.type_info(held))
            return {**shown, "type": [shown["type"], "null"], "x-personal": True}
        case inspect.StructType(cls=cls):
            return struct_schema(cls)
        case inspect.UnionType(types=types):
            return {"anyOf": [type_schema(one) for one in types]}
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return {"type": "array", "items": type_schema(item)}
        case inspect.DictType(value_type=value):
            return {"type": "object", "additionalProperties": type_schema(value)}
        case inspect.LiteralType(values=values):
            return {"enum": list(values)}
        case inspect.DateTimeType():
            return {"type": "string", "format": "date-time"}
        case _:
            return dict(PLAIN.get(type(kind), {}))


PLAIN: Mapping[type, Schema] = {
    inspect.StrType: {"type": "string"},
    inspect.IntType: {"type": "integer"},
    inspect.FloatType: {"type": "number"},
    inspect.BoolType: {"type": "boolean"},
    inspect.NoneType: {"type": "null"},
}


def differences(before: Mapping[str, Schema], after: Mapping[str, Schema]) -> list[SchemaChange]:
    """What has changed from one state of all types to another, type by type."""
    found = []
    for tag in sorted(before.keys() | after.keys()):
        if tag not in before:
            found.append(change(tag, "", "a new type", additive=True))
        elif tag not in after:
            found.append(change(tag, "", "the type is gone", additive=False))
        else:
            found += changes_of(tag, "", before[tag], after[tag])
    return found


def changes_of(tag: str, path: str, before: Schema, after: Schema) -> Iterator[SchemaChange]:
    old, new = before.get("properties", {}), after.get("properties", {})
    for name in old.keys() - new.keys():
        yield change(tag, f"{path}{name}", "the field is gone", additive=False)
    required = set(after.get("required", ()))
    for name in sorted(new.keys() - old.keys()):
        if name in required:
            yield change(tag, f"{path}{name}", "a new field without a default", additive=False)
        else:
            yield change(tag, f"{path}{name}", "a new field", additive=True)
    for name in sorted(new.keys() & old.keys()):
        if name in required and name not in before.get("required", ()):
            yield change(tag, f"{path}{name}", "the default is gone", additive=False)
        yield from type_changes(tag, f"{path}{name}", old[name], new[name])
    for key in ("x-ordered-by", "x-about"):
        if before.get(key) != after.get(key):
            told = f"{key[2:]} was {before.get(key)}, is {after.get(key)}"
            yield change(tag, path, told, additive=False)


def type_changes(tag: str, path: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    """Where the type of a value is another one. More values to choose from, null too, are not."""
    if old == new:
        return
    if "properties" in old and "properties" in new:
        yield from changes_of(tag, f"{path}.", old, new)
    elif "items" in old and "items" in new:
        yield from type_changes(tag, f"{path}[]", old["items"], new["items"])
    elif set(map(str, choices(old))) <= set(map(str, choices(new))):
        yield change(tag, path, "more is allowed", additive=True)
    else:
        yield change(tag, path, f"was {old}, is {new}", additive=False)


def choices(schema: Schema) -> list[Any]:
    """What a value may be: the members of an enumeration, or of a union."""
    if "enum" in schema:
        return [("value", value) for value in schema["enum"]]
    return list(schema.get("anyOf", [schema]))


def change(tag: str, path: str, what: str, *, additive: bool) -> SchemaChange:
    return SchemaChange(type=tag, path=path.rstrip("."), change=what, additive=additive)
