"""What a person wrote: readable in memory, sealed in the log, gone with the person's key."""

from typing import Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")


class Personal(Struct, Generic[T], frozen=True, array_like=True):
    """Something personal in an event: a text, or a list or a mapping of some.

    A decider makes it with `value`. The log holds `sealed` instead: the value encrypted under the
    key of the person the event is about. Once that key is destroyed neither is left, and the value
    folds as erased. An empty list or mapping says nothing, and is not sealed.
    """

    value: T | None = None
    sealed: bytes | None = None

    @property
    def erased(self) -> bool:
        return self.value is None and self.sealed is None


def given(value: T | None) -> Personal[T] | None:
    """None stays None: nothing was said."""
    return None if value is None else Personal(value)
