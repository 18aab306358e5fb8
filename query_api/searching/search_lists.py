"""Walking results that are ordered by relevance, page by page, while everything changes.

Each page asks for the best of what no page before it went through; the cursor holds those. Once
these are a hundred, what matches besides follows in an order that does not change, without them. So
nothing comes twice, and nothing that was there is skipped.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from infra.http.cursors import unknown_cursor
from infra.ports.log import OPEN
from infra.ports.search_reads import Facets
from query_api.walk import Walk

BEST_MAX = 100
SPARE = 10
"""So many more candidates are asked for than a page has, since not all can be seen by everybody."""

HEAD = 2

S = TypeVar("S")

Candidate = tuple[int, ...]
"""The id of something found, and what else tells its place."""

NEWEST: Candidate = (OPEN,)

Best = Callable[[int, Collection[int]], Awaitable[Sequence[Candidate]]]
"""Up to so many candidates, the best first, without these."""

Rest = Callable[[Candidate, int, Collection[int]], Awaitable[Sequence[Candidate]]]
"""Up to so many candidates after a place, without these."""

Visible = Callable[[Sequence[int]], Awaitable[Mapping[int, S]]]
"""Those of these ids that the reader may see, with what is shown of them."""


@dataclass(frozen=True)
class Listing:
    """Everything that matches. `best` is None where nothing is better than anything else.

    `goes_on`: the best are in the order of the rest, which goes on after the last of them.
    """

    best: Best | None
    rest: Rest
    goes_on: bool = False


class First(NamedTuple):
    """What is found first. `any_there`: something has the words, whatever the filters."""

    candidates: Sequence[Candidate]
    any_there: bool
    facets: Facets | None = None


@dataclass(frozen=True)
class Results:
    """Where a walk is: it went through these of the best, or also through what comes up to `last`.

    `guesses`: which words of the query were taken for misspelt.
    """

    guesses: int
    best: Sequence[int] = ()
    last: Candidate = NEWEST

    def cursor(self, walk: Walk) -> str:
        return walk.cursor([self.guesses, len(self.last), *self.last, *self.best])

    @classmethod
    def of(cls, numbers: Sequence[int]) -> "Results":
        """What `cursor` said. Raises a 422 problem for a cursor that says something else."""
        if len(numbers) < HEAD or len(numbers) < HEAD + numbers[1]:
            raise unknown_cursor()
        guesses, width = numbers[:HEAD]
        return cls(guesses, numbers[HEAD + width :], tuple(numbers[HEAD : HEAD + width]))


@dataclass(frozen=True)
class Page(Generic[S]):
    shown: Sequence[S]
    next: Results | None


def asked_for(limit: int, passed: int = 0) -> int:
    """How many of the best are asked for to show so many, once so many have been gone through."""
    # One more than is shown tells whether there is a next page.
    return min(limit + 1 + SPARE, BEST_MAX - passed)


async def page_of(
    results: Results,
    first: Sequence[Candidate] | None,
    listing: Listing,
    visible: Visible[S],
    limit: int,
) -> Page[S]:
    """The next `limit` results that the reader may see, and where the page after them begins.

    `first`: what was found first, on the first page.
    """
    wanted = limit + 1
    found: list[tuple[S, int, Candidate]] = []
    passed, last, more = list(results.best), results.last, True
    while listing.best is not None and more and len(found) < wanted and len(passed) < BEST_MAX:
        count = asked_for(limit - len(found), len(passed))
        candidates = await listing.best(count, passed) if first is None else first
        first, more = None, len(candidates) == count
        while candidates and len(found) < wanted:
            # Those to spare are not read before they are needed.
            chunk, candidates = candidates[:wanted], candidates[wanted:]
            seen = await visible([candidate[0] for candidate in chunk])
            for candidate in chunk:
                passed.append(candidate[0])
                last = candidate if listing.goes_on else last
                if candidate[0] in seen:
                    found.append((seen[candidate[0]], len(passed), last))
    while more and len(found) < wanted:
        candidates = await listing.rest(last, wanted, passed)
        more = len(candidates) == wanted
        seen = await visible([candidate[0] for candidate in candidates])
        found += [(seen[one[0]], len(passed), one) for one in candidates if one[0] in seen]
        last = candidates[-1] if candidates else last
    shown = [one for one, _, _ in found[:limit]]
    if len(found) < wanted:
        return Page(shown, None)
    _, count, last = found[limit - 1]
    return Page(shown, Results(results.guesses, passed[:count], last))
