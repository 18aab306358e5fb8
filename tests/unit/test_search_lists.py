"""Walking results shows each once, whatever changes from page to page."""

import random
from collections.abc import Collection, Mapping, Sequence

import pytest

from infra.http.cursors import Cursors
from infra.http.problems import Problem
from infra.ports.log import OPEN
from query_api.search_lists import NEWEST, Candidate, Results, page_of
from query_api.walk import Walk

CURSORS = Cursors(b"k" * 32)


class Index:
    """Everything matches; ranks are drawn anew each time."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.ids = list(range(1, 301))
        self.hidden: set[int] = set()

    def best(self) -> Results:
        return Results(guesses=0, best=self.chance.sample(self.ids, 100), last=NEWEST)

    async def rest(
        self, last: Candidate, limit: int, without: Collection[int]
    ) -> Sequence[Candidate]:
        left = [(one,) for one in sorted(self.ids, reverse=True) if one not in without]
        return [one for one in left if one < last][:limit]

    async def visible(self, numbers: Sequence[int]) -> Mapping[int, int]:
        return {number: number for number in numbers if number not in self.hidden}


@pytest.mark.parametrize("seed", range(10))
async def test_walking_all_pages_shows_each_once(seed: int) -> None:
    chance = random.Random(seed)
    index = Index(chance)
    index.hidden = set(chance.sample(index.ids, 50))
    results: Results | None = index.best()
    shown: list[int] = []
    hidden_ever = set(index.hidden)
    while results is not None:
        page = await page_of(results, index.rest, index.visible, chance.randint(1, 100))
        shown += page.shown
        cursor = None if page.next is None else page.next.cursor(Walk(CURSORS, "tea", {}))
        results = None if cursor is None else opened(cursor)
        if chance.random() < 0.5:
            index.hidden ^= {chance.choice(index.ids)}
            hidden_ever |= index.hidden
        index.ids.append(max(index.ids) + 1)
    assert len(shown) == len(set(shown))
    assert {one for one in range(1, 301) if one not in hidden_ever} <= set(shown)


def opened(cursor: str) -> Results:
    return Results.of(Walk(CURSORS, "tea", {"cursor": cursor}).place(()))


async def test_where_the_best_are_all_there_is_nothing_more() -> None:
    index = Index(random.Random(1))
    results = Results(guesses=5, best=[3, 1, 2], last=NEWEST)
    page = await page_of(results, None, index.visible, 2)
    assert page.shown == [3, 1]
    assert page.next is not None
    assert page.next.guesses == 5
    last = await page_of(page.next, None, index.visible, 2)
    assert (last.shown, last.next) == ([2], None)


def test_a_cursor_that_says_nothing_of_results_is_refused() -> None:
    for numbers in ([], [1], [0, 0, 5, OPEN]):
        with pytest.raises(Problem):
            Results.of(numbers)
