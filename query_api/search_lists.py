"""Walking results that are ordered by relevance, page by page, while everything changes.

The first page looks up the best, and the cursor holds them: all pages go through that same list.
What matches besides follows in an order that does not change, without those. So nothing comes
twice, and nothing that was there is skipped.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from infra.http.cursors import unknown_cursor
from infra.ports.log import OPEN
from infra.ports.search_reads import Facets
from query_api.walk import Walk

BEST_MAX = 100
HEAD = 3

S = TypeVar("S")

Candidate = tuple[int, ...]
"""The id of something found, and what else tells its place."""

Rest = Callable[[Candidate, int, Collection[int]], Awaitable[Sequence[Candidate]]]
"""Up to so many candidates after a place, without these."""

Visible = Callable[[Sequence[int]], Awaitable[Mapping[int, S]]]
"""Those of these ids that the reader may see, with what is shown of them."""


@dataclass(frozen=True)
class Results:
    """What a walk has still to go through: the best from `start` on, then what comes after `last`.

    `guesses`: which words of the query were taken for misspelt. `best` are all that there
    are where they are fewer than `BEST_MAX`. `facets` are there on the first page alone.
    """

    guesses: int
    best: Sequence[int]
    last: Candidate
    start: int = 0
    facets: Facets | None = None

    def cursor(self, walk: Walk) -> str:
        head = [self.guesses, self.start, len(self.last)]
        return walk.cursor([*head, *self.last, *self.best])

    @classmethod
    def of(cls, numbers: Sequence[int]) -> "Results":
        """What `cursor` said. Raises a 422 problem for a cursor that says something else."""
        if len(numbers) < HEAD or len(numbers) < HEAD + numbers[2]:
            raise unknown_cursor()
        guesses, start, width = numbers[:HEAD]
        last = tuple(numbers[HEAD : HEAD + width])
        return cls(guesses, numbers[HEAD + width :], last, start)

    def after(self, start: int, last: Candidate) -> "Results":
        return Results(self.guesses, self.best, last, start)


@dataclass(frozen=True)
class Page(Generic[S]):
    shown: Sequence[S]
    next: Results | None


NEWEST: Candidate = (OPEN,)


async def page_of(results: Results, rest: Rest | None, visible: Visible[S], limit: int) -> Page[S]:
    """The next `limit` results that the reader may see, and where the page after them begins.

    `rest` is None where there is nothing but the best.
    """
    found: list[tuple[S, Results]] = []
    start, last = results.start, results.last
    # One more than is shown tells whether there is a next page.
    wanted = limit + 1
    while len(found) < wanted and start < len(results.best):
        chunk = results.best[start : start + wanted]
        seen = await visible(chunk)
        found += [
            (seen[number], results.after(at, last))
            for at, number in enumerate(chunk, start + 1)
            if number in seen
        ]
        start += len(chunk)
    while len(found) < wanted and rest is not None:
        more = await rest(last, wanted, results.best)
        seen = await visible([candidate[0] for candidate in more])
        found += [
            (seen[candidate[0]], results.after(start, candidate))
            for candidate in more
            if candidate[0] in seen
        ]
        if len(more) < wanted:
            break
        last = more[-1]
    shown = [one for one, _ in found[:limit]]
    return Page(shown, found[limit - 1][1] if len(found) > limit else None)
