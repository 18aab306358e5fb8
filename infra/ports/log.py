"""The log as everyone sees it: recorded events, and what appends and reads them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from domain.events import AnyEvent

Clock = Callable[[], datetime]


OPEN = 2**63 - 1
"""The `until` of a row that still holds."""


class Recorded(Struct, frozen=True, kw_only=True, gc=False):
    """An event and its place: the envelope keeps ids, versions and time out of the facts.

    `version` counts from 1 in its stream; `position` is 0 until the log has assigned one.
    `correlation_id` is shared by all that one request set off; `causation_id` names the direct
    cause: a request's id, or the position of the event that a process reacted to.
    """

    stream: str
    version: int
    recorded_at: datetime
    event: AnyEvent
    correlation_id: str = ""
    causation_id: str = ""
    position: int = 0


class StoredAnswer(Struct, frozen=True, kw_only=True):
    """What a command with an `Idempotency-Key` was answered, kept with its events."""

    member_id: str
    key: str
    body_hash: bytes
    status: int
    body: bytes
    position: int = 0


class StreamMoved(Exception):
    """Somebody else appended first, and nothing of ours was written. Load and decide again."""


class KeyTaken(Exception):
    """The idempotency key has been answered before, and nothing of ours was written."""


class LogUnavailable(Exception):
    """The log cannot be reached or cannot write. Nothing was written, or it was looked up."""


class EventLog(Protocol):
    """The log of events, ordered by position. Personal texts in it are sealed, and stay so here."""

    async def load(self, stream: str) -> Sequence[Recorded]:
        """All events of a stream, in order; empty if there is none."""
        ...

    async def load_many(self, streams: Iterable[str]) -> Mapping[str, Sequence[Recorded]]:
        """The same for several streams in one round trip; a stream without events is left out."""
        ...

    async def append(
        self, events: Sequence[Recorded], answer: StoredAnswer | None = None
    ) -> Sequence[int]:
        """Write one command's events, and its answer, whole or not at all; answers their positions.

        The events may belong to several streams. Durable on return. Raises `StreamMoved` if a
        version is taken, `KeyTaken` if the answer's key is, `LogUnavailable` if nothing was
        written.
        """
        ...

    async def answer(self, member_id: str, key: str) -> StoredAnswer | None:
        """What was answered under this idempotency key."""
        ...

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        """The next events of the whole log after a position, in order."""
        ...

    async def head(self) -> int:
        """The position of the newest event; 0 in an empty log."""
        ...

    async def wait(self, after: int, seconds: float) -> bool:
        """Return True soon after the log has an event after this position, else False in time."""
        ...
