"""The two kinds of message the domain speaks: a command asks, an event tells."""

from typing import ClassVar

from msgspec import Struct


class Command(Struct, frozen=True, forbid_unknown_fields=True):
    """A request to change something. Imperative name; may be rejected.

    `creates`: it is most often the first of its stream, so that it is decided on the initial state
    without a look at the log; the append proves that the stream was indeed empty.
    """

    creates: ClassVar[bool] = False


class Event(Struct, frozen=True, tag_field="type", gc=False):
    """A fact. Past-tense name; its tag, such as `stock.reserved.v1`, outlives the class name.

    Unknown fields are ignored, so that today's reader survives a field added tomorrow. Events are
    trees, never cycles, so that Python's garbage collector need not look at millions of them.

    `ordered_by` names the field by whose value events must stay in order: all events with one
    value travel through one partition. `about` names the field that holds the person whose key
    seals the event's `Personal` fields; it is required of every event that has one. `outlived`
    fields are those that only old lines fill: they are shown only where they are filled.
    """

    ordered_by: ClassVar[str]
    about: ClassVar[str] = ""
    outlived: ClassVar[frozenset[str]] = frozenset()


def tag_of(event_class: type[Event]) -> str:
    """The name under which events of this class are stored."""
    return str(event_class.__struct_config__.tag)
