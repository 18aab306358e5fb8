"""What operators ask of everything that is kept from the log: is it right, mend it, make it anew.

Read tables, timelines and indices each have a keeper, and the command line knows nothing else of
them. Whatever a keeper does, what it keeps goes on being served.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from domain.shared.identifiers import id_number

EXAMPLES_MAX = 5
Progress = Callable[[str, int, int], None]
"""Told what is being done, how far it is, and how far it goes."""


class CannotVerify(Exception):
    """There is nothing to compare with, or the log cannot be folded."""


class NotServed(CannotVerify):
    """Nothing is served of it yet."""


class AlreadyRebuilding(Exception):
    """Somebody else rebuilds this at the moment."""


class CannotSwitch(Exception):
    """There is no such build, or it cannot be served by this version of the code."""


class NoSuchKey(Exception):
    """A key of this kind or form does not name any document of this keeper."""


def id_in_key(text: str) -> int:
    """The number of the id that a key names. Raises `NoSuchKey`."""
    try:
        return id_number(text)
    except ValueError:
        raise NoSuchKey(f"{text!r} is no id") from None


class Build(Struct, frozen=True):
    """One build of what is kept: `building`, `built`, `live` or `retired`.

    `code` tells the code that makes it, `seconds` how long ago it was begun or, if it was, retired.
    """

    number: int
    version: int
    status: str
    code: str
    seconds: float


class Different(Struct, frozen=True, kw_only=True):
    """A document that the log gives and one that is served under the same key; None where there is
    none. `place` is the table, index or list that it stands in."""

    place: str
    computed: Mapping[str, Any] | None
    served: Mapping[str, Any] | None


class Verified(Struct, frozen=True, kw_only=True):
    """What a comparison at one position found; `repaired` of the different ones were mended.

    `comparable` is False where the documents have other fields than those that are served.
    """

    name: str
    documents: int
    different: int
    examples: Sequence[Different]
    build: int
    version: int
    position: int
    set_aside: int = 0
    repaired: int = 0
    comparable: bool = True


class Rebuilt(Struct, frozen=True, kw_only=True):
    """What became of a rebuild. Where it was not switched, the build waits to be switched to.

    `found` compares it with what was served before, None if that was not asked for.
    """

    name: str
    build: int
    switched: bool
    found: Verified | None = None
    resumed_at: int = 0


class Wishes(Struct, frozen=True, kw_only=True):
    """How to rebuild. `anew`: do not go on with a build that was begun before."""

    accept_different: bool = False
    in_place: bool = False
    anew: bool = False


class Keeper(Protocol):
    """One name of `plaza projections`. All methods raise `StoreUnavailable` or `LogUnavailable`
    when what they need stays away, and leave what is served as it is."""

    @property
    def name(self) -> str: ...

    async def overview(self) -> Sequence[Mapping[str, Any]]:
        """One row a build: `name, version, status, position, lagEvents, lagSeconds, parked` and
        `build`; empty if there is none yet."""
        ...

    async def verify(self, progress: Progress, *, repair: bool = False) -> Verified:
        """Compute everything again and compare it with what is served, at one position.

        `repair` mends what differs, document by document. Raises `CannotVerify`.
        """
        ...

    async def rebuild(self, progress: Progress, wishes: Wishes) -> Rebuilt:
        """Make it anew beside what is served, compare, and switch where nothing differs.

        Killed at any point it can be asked again, and goes on. Raises `AlreadyRebuilding`.
        """
        ...

    async def rebuild_key(self, key: str, progress: Progress) -> int:
        """Make the documents of one key anew, `post:…` or `member:…`; answers how many there are.

        Raises `NoSuchKey`.
        """
        ...

    async def switch(self, build: int | None, progress: Progress) -> int:
        """Serve this build, or for None the one served before; answers which is served now.

        It is brought up to date first. Raises `CannotSwitch` and `AlreadyRebuilding`.
        """
        ...
