"""Events and their values as JSON knows them: camelCase names, times as text, nothing sealed.

`data_of` does it for any value. `EventShapes` says the same of many events, ten times as fast: a
converter is made once a class, which knows the fields that need any work.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct, inspect

from domain.shared.personal import Personal
from infra.formats.personal_values import held_by, reader_of

OFFSET_LETTERS = len("+00:00")

Open = Callable[[str, bytes], str | None]
"""What is shown of what a person's key seals: with the key in memory, `Keyring.open`."""

Convert = Callable[[Any, str], Any]
"""Makes a value fit to be encoded; the second argument is whose key seals it, if anybody's."""


def data_of(value: Any) -> Any:
    """A value out of an event as JSON knows it."""
    if isinstance(value, Personal):
        return data_of(value.value)
    if isinstance(value, Struct):
        outlived = getattr(value, "outlived", ())
        return {
            camel(name): data_of(found)
            for name in value.__struct_fields__
            if (found := getattr(value, name)) or name not in outlived
        }
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, Mapping):
        return {str(key): data_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [data_of(item) for item in value]
    return msgspec.to_builtins(value)


def timestamp(moment: datetime) -> str:
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[:-OFFSET_LETTERS] + "Z"


def camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name)


encode_json = msgspec.json.Encoder().encode


def left_out(_person: str, _sealed: bytes) -> None:
    """What is personal is null."""


class EventShapes:
    """Events as structs with camelCase names, ready to be encoded.

    `moment` and `mapping` say what becomes of times and of values whose members are not known
    beforehand.
    """

    def __init__(
        self,
        personal: Open,
        *,
        moment: Callable[[datetime], Any] = timestamp,
        mapping: Callable[[Any], Any] = data_of,
    ) -> None:
        self._personal = personal
        self._moment = moment
        self._mapping = mapping
        self._shape_of: dict[type, Callable[[Any], Struct]] = {}

    def shaped(self, event: Any) -> Struct:
        """The data of an event: no type, no envelope."""
        kind = type(event)
        shape = self._shape_of.get(kind)
        if shape is None:
            shape = self._shape_of[kind] = self._event_shape(kind)
        return shape(event)

    def text(self, event: Any) -> bytes:
        return encode_json(self.shaped(event))

    def _event_shape(self, kind: type) -> Callable[[Any], Struct]:
        shape, conversions = self._shape(kind)
        values_of = msgspec.structs.astuple
        if not conversions:
            # Most events hold nothing but ids.
            return lambda event: shape(*values_of(event))
        about = str(getattr(kind, "about", ""))

        def shaped(event: Any) -> Struct:
            values = list(values_of(event))
            person = getattr(event, about) if about else ""
            for place, convert in conversions:
                if values[place] is not None:
                    values[place] = convert(values[place], person)
            return shape(*values)

        return shaped

    def _shape(self, kind: type) -> tuple[Callable[..., Struct], Sequence[tuple[int, Convert]]]:
        """A struct with the fields of a class, and what has to be converted, by its place."""
        info = inspect.type_info(kind)
        assert isinstance(info, inspect.StructType)
        names = [field.name for field in info.fields]
        renamed: Mapping[str, str] = {name: camel(name) for name in names}
        shape = msgspec.defstruct(
            kind.__name__, [(name, Any) for name in names], rename=renamed, gc=False
        )
        outlived = getattr(kind, "outlived", ())
        conversions = [
            (place, convert)
            for place, field in enumerate(info.fields)
            if (convert := given if field.name in outlived else self._converter(field.type))
        ]
        return shape, conversions

    def _struct(self, kind: type) -> Convert:
        shape, conversions = self._shape(kind)
        values_of = msgspec.structs.astuple

        def convert_struct(value: Any, person: str) -> Struct:
            values = list(values_of(value))
            for place, convert in conversions:
                if values[place] is not None:
                    values[place] = convert(values[place], person)
            return shape(*values)

        return convert_struct

    def _opened(self, held: Any) -> Convert:
        """For personal values that hold this; null once erased."""
        personal, read = self._personal, reader_of(held)
        convert = self._converter(inspect.type_info(held))

        def convert_personal(value: Personal[Any], person: str) -> Any:
            shown = value.value
            if value.sealed is not None:
                text = personal(person, value.sealed)
                shown = None if text is None else read(text)
            return shown if shown is None or convert is None else convert(shown, person)

        return convert_personal

    def _converter(self, kind: inspect.Type) -> Convert | None:
        """How values of a type are converted; None where they can stay as they are."""
        found: Convert | None
        match known(kind):
            case inspect.StructType(cls=cls) if (held := held_by(cls)) is not None:
                found = self._opened(held)
            case inspect.StructType(cls=cls):
                found = self._struct(cls)
            case inspect.DateTimeType():
                moment = self._moment
                found = lambda value, _person: moment(value)  # noqa: E731
            case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
                each = self._converter(item)
                found = None if each is None else _for_each(each)
            case (
                inspect.StrType()
                | inspect.IntType()
                | inspect.FloatType()
                | inspect.BoolType()
                | inspect.LiteralType()
            ):
                found = None
            case _:
                mapping = self._mapping
                found = lambda value, _person: mapping(value)  # noqa: E731
        return found


def known(kind: inspect.Type) -> inspect.Type:
    """The type of what there is, where there may be nothing."""
    if isinstance(kind, inspect.UnionType):
        given = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
        if len(given) == 1:
            return given[0]
    return kind


def given(value: Any, _person: str) -> Any:
    """Nothing at all, rather than something empty."""
    return value or msgspec.UNSET


def _for_each(convert: Convert) -> Convert:
    def convert_each(values: Any, person: str) -> list[Any]:
        return [convert(value, person) for value in values]

    return convert_each
