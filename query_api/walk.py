"""Walking a list page by page: where a page begins, and going on until it is full."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from infra.http.cursors import Cursors

NUMBER_BYTES = 8

R = TypeVar("R")
S = TypeVar("S")


class Walk:
    """The cursor of one list; `listing` names the list, its subject and the reader."""

    def __init__(self, cursors: Cursors, listing: str, parameters: Mapping[str, str]) -> None:
        self._cursors = cursors
        self._listing = listing
        self._cursor = parameters.get("cursor")

    def place(self, first: Sequence[int]) -> Sequence[int]:
        """The numbers in the cursor; `first` where this is the first page.

        Raises a 422 problem for a cursor that this list did not hand out.
        """
        if self._cursor is None:
            return first
        payload = self._cursors.open(self._listing, self._cursor)
        return [
            int.from_bytes(payload[start : start + NUMBER_BYTES], "big")
            for start in range(0, len(payload), NUMBER_BYTES)
        ]

    def cursor(self, numbers: Sequence[int]) -> str:
        payload = b"".join(number.to_bytes(NUMBER_BYTES, "big") for number in numbers)
        return self._cursors.seal(self._listing, payload)


async def collect(
    fetch: Callable[[int, int], Awaitable[Sequence[R]]],
    place_of: Callable[[R], int],
    visible: Callable[[Sequence[R]], Awaitable[Sequence[S]]],
    start: int,
    wanted: int,
) -> list[S]:
    """Go on from a place until `wanted` rows are found that the reader may see, or none are left.

    Looking one further than a page is long, through whatever is filtered out, is what makes
    `hasMore` right.
    """
    found: list[S] = []
    while True:
        rows = await fetch(start, wanted)
        found += await visible(rows)
        if len(found) >= wanted or len(rows) < wanted:
            return found[:wanted]
        start = place_of(rows[-1])
