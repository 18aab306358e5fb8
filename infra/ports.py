"""What the pure code is given, and what an adapter must provide."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

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


class BrokerUnavailable(Exception):
    """The broker did not take what was sent, or does not answer. It has to be sent again."""


class PlaceLost(Exception):
    """The connection that held the relay's place is gone: another relay may be active by now."""


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


class Keyring(Protocol):
    """A key per person, kept outside the log. Destroying it erases what it sealed, everywhere."""

    async def create(self, person_id: str) -> None:
        """Make a key for a new person. Harmless when repeated."""
        ...

    async def fetch(self, person_ids: Iterable[str]) -> None:
        """Bring these persons' keys into memory, so that `seal` and `open` find them."""
        ...

    def seal(self, person_id: str, text: str) -> bytes:
        """Encrypt; raises `KeyDestroyed` where there is no key (fetch it first)."""
        ...

    def open(self, person_id: str, sealed: bytes | None) -> str | None:
        """Decrypt; None where the key is gone or was not fetched, or `sealed` is None."""
        ...

    def forget(self, person_id: str) -> None:
        """Drop a key from memory, because it was destroyed elsewhere."""
        ...

    async def destroy(self, person_id: str) -> None:
        """Delete a person's key and credential for good."""
        ...


class KeyDestroyed(Exception):
    """There is no key for this person: never made, or destroyed."""


class Credentials(Protocol):
    """Password hashes, kept outside the log."""

    async def put(self, member_ids: Sequence[str], password_hash: str) -> None: ...
    async def get(self, member_id: str) -> str | None: ...


class Passwords(Protocol):
    """How passwords are turned into what `Credentials` keeps."""

    async def hash(self, password: str) -> str: ...

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether it is the password. Takes as long, and is False, where there is no hash."""
        ...

    def outdated(self, password_hash: str) -> bool:
        """Whether it was made with other parameters than those of today."""
        ...


@dataclass(frozen=True)
class Frame:
    """A run of one partition's events, in order, that names the event before it.

    `previous` is the position of the partition's last event (or watermark) before this frame, 0 at
    its beginning. A frame without events is a watermark: the partition has nothing up to `last`.
    `unreadable` are the rows among them that no event could be made of.
    """

    partition: int
    previous: int
    first: int
    last: int
    events: Sequence[Recorded] = field(default_factory=tuple)
    unreadable: Sequence["Unreadable"] = field(default_factory=tuple)


class Unreadable(Struct, frozen=True, kw_only=True):
    """A row of the log that could not be decoded: who folds it sets it aside.

    `tag` and `key` are what could still be made out of it: the event's type, or nothing, and its
    ordering key, or else the stream's name.
    """

    position: int
    stream: str
    version: int
    state: bytes
    tag: str
    key: str
    partition: int
    error: str


class Applied(Struct, frozen=True, omit_defaults=True):
    """What projections tell on the channel `plaza_changes`, as JSON, with the commit that did it.

    `positions`: how far each partition of the projection's build is now. The rest are the ids that
    rows changed for: posts and members by number, `relations` the members whose follows, blocks,
    mutes, likes or reposts changed, sessions by id, products by number. `everything`: more than a
    notification can hold changed. A `build` not heard of before means that other tables are served
    from now on: look the search path up again.
    """

    projection: str
    build: int
    positions: Mapping[int, int]
    posts: Sequence[int] = ()
    members: Sequence[int] = ()
    relations: Sequence[int] = ()
    sessions: Sequence[str] = ()
    products: Sequence[int] = ()
    everything: bool = False


CHANGES_CHANNEL = "plaza_changes"


class ProjectionRunner(Protocol):
    """What a runner (the embedded one, or a Faust agent) hands frames to."""

    async def checkpoints(self) -> Mapping[int, int]:
        """How far each partition has been applied: the least of all projections in this worker."""
        ...

    async def apply(self, frames: Sequence[Frame]) -> None:
        """Apply frames once each, whatever their order and number of deliveries. Raises only when
        the stores stay away; then nothing is lost by applying the same frames again."""
        ...


class Progress(Protocol):
    """How far processes have got, and what they could not do. Raises `LogUnavailable`."""

    async def checkpoints(self, process: str) -> Mapping[int, int]:
        """For each partition, the position up to which everything has been reacted to."""
        ...

    async def advance(self, process: str, positions: Mapping[int, int]) -> None:
        """Move checkpoints forward; one that is further already stays."""
        ...

    async def park(self, process: str, parked: "Parked") -> None:
        """Set an event aside for an operator. Harmless when repeated."""
        ...

    async def settle(
        self, process: str, position: int, status: "Settled", *, error: str = "", why: str = ""
    ) -> None:
        """Say what became of an event that was set aside, after one attempt more if any."""
        ...


Settled = Literal["parked", "retried", "discarded"]


class Parked(Struct, frozen=True, kw_only=True):
    """An event that a process could not react to: `state` as the log holds it."""

    position: int
    stream: str
    version: int
    tag: str
    key: str
    partition: int
    state: bytes
    error: str
    trace: str
    attempts: int


TraceKind = Literal["following", "follower", "post", "like", "repost"]


class Trace(Struct, frozen=True):
    """Something of a member's that stands: `other_id` is the other member, or the post."""

    kind: TraceKind
    other_id: str


class MemberTraces(Protocol):
    """What members have left standing, as the read tables show it. Raises `LogUnavailable`."""

    def of(self, member_id: str) -> AsyncIterator[Sequence[Trace]]:
        """All of it, page by page."""
        ...

    async def position(self) -> int:
        """The position up to which all that is shown is complete."""
        ...


Wake = Callable[[], Awaitable[None]]
