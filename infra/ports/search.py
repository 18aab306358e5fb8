"""What search indexing is given: the documents as the read tables have them, and where they go."""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from msgspec import Struct

from infra.ports.log import Recorded
from infra.ports.search_documents import Document, SearchIndex

BuildStatus = Literal["filling", "complete"]


class SearchUnavailable(Exception):
    """The search server cannot be reached or cannot take what it was sent. Send it again."""


class IndexLost(Exception):
    """The server does not have this build any more: it was emptied, or serves another one."""


class Touched(Struct, frozen=True, gc=False):
    """What an event changes: documents that have to show it `now`, and those whose numbers may
    come `later`, several changes at once.

    `author`: all documents written by this member. `erased` is the person whose texts are gone.
    """

    now: tuple[int, ...] = ()
    later: tuple[int, ...] = ()
    author: int | None = None
    erased: str = ""


@dataclass(frozen=True)
class SearchProjection:
    """One index: the events that change its documents, and the read models these are read from.

    `touch` is pure, and sees none but events of `handles`.
    """

    index: SearchIndex
    handles: frozenset[type]
    reads: tuple[str, ...]
    touch: Callable[[Recorded], Touched]

    @property
    def name(self) -> str:
        return self.index.name

    @property
    def partitions(self) -> range:
        return self.index.partitions


class Found(Struct, frozen=True, gc=False):
    """One document as the read tables have it, None where readers must not find it any more.

    `created_at` says which slice it belongs to.
    """

    id: str
    created_at: datetime
    document: Document | None


class Read(Struct, frozen=True):
    """Documents as they stood at one moment. What the tables do not know is left out.

    `checkpoints`: how far the tables were, by partition. `version` is larger the further any of
    them was: of two readings it tells the later.
    """

    version: int
    checkpoints: Mapping[int, int]
    documents: Sequence[Found]


class Pinned(Protocol):
    """The tables as of one moment, for as long as somebody goes through all of them."""

    version: int
    checkpoints: Mapping[int, int]

    async def total(self) -> int:
        """How many documents there are, about."""
        ...

    def newest_first(self) -> AsyncGenerator[Sequence[Found], None]:
        """All of them."""
        ...

    def by_id(self) -> AsyncGenerator[Sequence[Found], None]:
        """All of them, in the order of their ids."""
        ...


class DocumentSource(Protocol):
    """The documents of one index, made from the read tables. Raises `StoreUnavailable` and
    `LogUnavailable`."""

    async def checkpoints(self) -> Mapping[int, int]:
        """How far the tables are, by partition."""
        ...

    async def read(self, ids: Collection[int]) -> Read: ...

    async def following(self, after: int, count: int) -> Read:
        """The first so many that readers may find beyond this id, in the order of their ids."""
        ...

    def of_author(self, author_id: int) -> AsyncGenerator[Sequence[int], None]:
        """The ids of all documents that one member has written, page by page."""
        ...

    def forget(self, person_id: str) -> None:
        """This person was erased: no text of theirs is read any more."""
        ...

    def pinned(self) -> AbstractAsyncContextManager[Pinned]: ...


class Build(Struct, frozen=True):
    """One build of an index in the search server, and how much of it is filled."""

    number: int
    version: int
    status: BuildStatus
    done: int
    total: int
    served: bool

    @property
    def filled(self) -> float:
        """From 0 to 1. Full, but for what is being found out right now, is not complete."""
        if self.status == "complete":
            return 1.0
        return min(self.done / max(self.total, 1), 0.99)


class Write(Struct, frozen=True, gc=False):
    """A document in its stored form, or None to delete it; an older version changes nothing."""

    id: str
    created_at: datetime
    version: int
    body: bytes | None


class Refused(Struct, frozen=True, gc=False):
    """A document that the server will never take as it is."""

    id: str
    error: str


class Served(Struct, frozen=True, gc=False):
    """A document as the server has it, and the version it was written with."""

    id: str
    version: int
    fields: Mapping[str, Any]


class SearchStore(Protocol):
    """The builds of one index in the search server. Everything raises `SearchUnavailable`."""

    @property
    def index(self) -> SearchIndex: ...

    async def builds(self) -> Sequence[Build]:
        """All builds, oldest first; at most one of them is served."""
        ...

    async def begin(self, positions: Mapping[int, int], total: int) -> int:
        """Make an empty build that is complete up to these positions once it is filled."""
        ...

    async def write(self, build: int, writes: Sequence[Write]) -> Sequence[Refused]:
        """Write all but those refused. What cannot be taken now is tried again for a while."""
        ...

    def worn(self, documents: int) -> bool:
        """Whether it is time to write everything anew, where so many documents were in at first:
        some servers keep what was replaced until then."""
        ...

    def renewed(self) -> None:
        """Everything was written anew."""
        ...

    async def filled(self, build: int, status: BuildStatus, done: int, total: int) -> None:
        """Store how much is filled. Raises `IndexLost`."""
        ...

    async def positions(self, build: int) -> Mapping[int, int]:
        """Up to where each partition's events show. Raises `IndexLost`."""
        ...

    async def advance(self, build: int, positions: Mapping[int, int]) -> None:
        """Store that everything up to these positions shows. Raises `IndexLost`."""
        ...

    async def serve(self, build: int) -> None:
        """From now on readers find this build, and no other."""
        ...

    async def drop(self, build: int) -> None:
        """Remove a build; where it is served, readers find nothing until another one is."""
        ...

    def by_id(
        self, build: int, after: str = "", upto: str = ""
    ) -> AsyncGenerator[Sequence[Served], None]:
        """Its documents beyond one id and up to another, in the order of their ids; all of them
        where no bounds are given."""
        ...

    async def documents(self, build: int, ids: Sequence[str]) -> Mapping[str, Served]: ...

    async def refresh(self, build: int) -> None:
        """Have searches find everything that was written before."""
        ...


class SetAside(Protocol):
    """Where documents are listed that the server refuses."""

    async def park(self, build: int, refused: Mapping[str, tuple[str, Recorded]]) -> None:
        """List these documents: why, and the event that they were last written for."""
        ...

    async def settle(self, build: int, ids: Collection[str]) -> None:
        """These documents were taken after all, or are gone."""
        ...

    async def parked(self, build: int) -> Collection[str]: ...

    async def keep_only(self, builds: Collection[int]) -> None:
        """Forget what is listed of all other builds."""
        ...
