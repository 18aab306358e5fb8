"""Text about a person: readable in memory, sealed in the log, gone with the person's key."""

from msgspec import Struct


class Personal(Struct, frozen=True, array_like=True):
    """One personal text of an event.

    A decider makes it with `text`. The log holds `sealed` instead: the text encrypted under the
    key of the person the event is about. Once that key is destroyed neither is left, and the text
    folds as erased.
    """

    text: str | None = None
    sealed: bytes | None = None

    @property
    def erased(self) -> bool:
        return self.text is None and self.sealed is None


ERASED = Personal()
