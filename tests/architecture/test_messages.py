"""Events, commands and rejections keep the promises that the code around them builds on."""

import ast
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec import inspect

from domain.deciders import DECIDERS
from domain.events import UPCASTS, AnyEvent, OldEvent
from domain.shared.message import Command, Event, tag_of
from domain.shared.personal import Personal
from domain.shared.rejection import Conflict, Forbidden, Invalid, NotFound, Rejection
from infra.formats.codec import personal_fields
from infra.formats.personal_values import held_by
from tests.contract.record_events import sample

DOMAIN = Path(__file__).parents[2] / "domain"
FILES = sorted(DOMAIN.rglob("*.py"))
KINDS = (Conflict, NotFound, Forbidden)


def all_subclasses(parent: type) -> list[type[Any]]:
    found: set[type[Any]] = set(parent.__subclasses__())
    for child in list(found):
        found |= set(all_subclasses(child))
    return sorted(found, key=lambda one: f"{one.__module__}.{one.__qualname__}")


CURRENT = get_args(AnyEvent)
OLD = get_args(OldEvent) or (OldEvent,)
EVENTS = [one for one in all_subclasses(Event) if one.__module__.startswith("domain.")]
COMMANDS = [one for one in all_subclasses(Command) if one.__module__.startswith("domain.")]
REJECTIONS = [
    one
    for one in all_subclasses(Rejection)
    if one.__module__.startswith("domain.") and one not in KINDS
]
PERSONAL = [one for one in CURRENT if personal_fields(one)]
each_event = pytest.mark.parametrize("event_class", EVENTS, ids=lambda one: one.__name__)
each_rejection = pytest.mark.parametrize("rejection", REJECTIONS, ids=lambda one: one.__name__)
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DOMAIN)))


@each_event
def test_every_event_can_be_read(event_class: type[Event]) -> None:
    assert event_class in CURRENT or event_class in OLD


@each_event
def test_a_tag_names_subject_fact_and_version(event_class: type[Event]) -> None:
    subject, fact, version = tag_of(event_class).split(".")
    assert subject.isidentifier()
    assert fact.isidentifier()
    assert version.startswith("v")
    assert int(version[1:]) >= 1


@each_event
def test_every_event_is_ordered_by_one_of_its_own_texts(event_class: type[Event]) -> None:
    assert inspected(event_class)[event_class.ordered_by] == inspect.StrType()


@each_event
def test_personal_texts_are_about_somebody_whom_the_event_names(event_class: type[Event]) -> None:
    if personal_fields(event_class):
        assert inspected(event_class)[event_class.about] == inspect.StrType()


@each_event
def test_personal_texts_stand_in_the_events_own_fields(event_class: type[Event]) -> None:
    """A text that stands deeper would not be found, and so not be sealed."""
    deeper = [
        name
        for name, kind in inspected(event_class).items()
        if name not in personal_fields(event_class) and holds_personal(kind)
    ]
    assert deeper == []


@each_event
def test_events_are_frozen(event_class: type[Event]) -> None:
    assert event_class.__struct_config__.frozen


def test_an_old_event_is_upcast_and_nobody_is_handed_one() -> None:
    assert set(OLD) == set(UPCASTS)
    assert not set(OLD) & set(CURRENT)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.__name__)
def test_every_command_is_decided_by_somebody(command: type[Command]) -> None:
    assert command in DECIDERS
    assert command.__struct_config__.frozen


def test_no_two_aggregates_share_a_prefix() -> None:
    deciders = {id(decider): decider for decider in DECIDERS.values()}.values()
    prefixes = [decider.prefix for decider in deciders]
    assert len(prefixes) == len(set(prefixes))


@pytest.mark.parametrize("event_class", PERSONAL, ids=lambda one: one.__name__)
def test_no_state_depends_on_a_personal_text(event_class: type[Event]) -> None:
    """A state is folded from sealed events after a restart, and from open ones before."""
    sealed = sample(event_class)
    names = personal_fields(event_class)
    texts = {name: Personal(f"{name} in the open") for name in names}
    opened = msgspec.structs.replace(sealed, **texts)
    for decider in {id(one): one for one in DECIDERS.values()}.values():
        if event_class.__module__ == decider.decide.__module__.replace(".decider", ".events"):
            try:
                expected = decider.evolve(decider.initial, sealed)
            except AssertionError:
                continue  # Of another aggregate in the same module.
            assert decider.evolve(decider.initial, opened) == expected


@each_rejection
def test_every_rejection_says_what_it_means(rejection: type[Rejection]) -> None:
    assert rejection.title
    assert rejection.title[0].isupper()
    assert not rejection.title.endswith(".")


@each_rejection
def test_every_rejection_is_of_a_kind_that_has_a_status(rejection: type[Rejection]) -> None:
    assert issubclass(rejection, (*KINDS, Invalid))


@each_file
def test_the_domain_reads_no_clock_and_makes_nothing_up(path: Path) -> None:
    forbidden = {
        "now",
        "utcnow",
        "today",
        "time",
        "time_ns",
        "monotonic",
        "perf_counter",
        "random",
        "uuid1",
        "uuid4",
        "token_bytes",
        "token_hex",
        "urandom",
        "open",
        "print",
    }
    imported = {"random", "secrets", "uuid", "time", "os", "socket", "asyncio", "threading"}
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
                assert name not in forbidden, f"line {node.lineno} calls {name}"
            case ast.Import(names=names):
                assert not imported & {alias.name.partition(".")[0] for alias in names}
            case ast.ImportFrom(module=str(module)):
                assert module.partition(".")[0] not in imported


@each_file
def test_every_module_opens_with_a_sentence(path: Path) -> None:
    assert "." in (ast.get_docstring(ast.parse(path.read_text())) or "")


def inspected(event_class: type[Event]) -> dict[str, inspect.Type]:
    info = inspect.type_info(event_class)
    assert isinstance(info, inspect.StructType)
    return {field.name: field.type for field in info.fields}


def holds_personal(kind: inspect.Type) -> bool:
    match kind:
        case inspect.StructType(cls=cls) if held_by(cls) is not None:
            return True
        case inspect.StructType(fields=fields):
            return any(holds_personal(field.type) for field in fields)
        case inspect.UnionType(types=types):
            return any(holds_personal(one) for one in types)
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return holds_personal(item)
        case _:
            return False
