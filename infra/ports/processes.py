"""What processes keep of their own: how far they are, what they set aside, what they look up."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct


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


TraceKind = Literal["following", "follower", "post", "like", "repost", "product"]


class Trace(Struct, frozen=True):
    """Something of a member's that stands: `other_id` names the other member, post or product."""

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
