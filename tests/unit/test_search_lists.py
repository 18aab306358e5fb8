"""Walking results shows each once, whatever changes from page to page."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import pytest

from infra.http.cursors import Cursors
from infra.http.problems import Problem
from infra.ports.log import OPEN
from query_api.searching.search_lists import SPARE, Candidate, Listing, Results, asked_for, page_of
from query_api.walk import Walk

CURSORS = Cursors(b"k" * 32)


class Index:
    """Everything matches; ranks are drawn anew each time."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.ids = list(range(1, 301))
        self.hidden: set[int] = set()
        self.asked: list[int] = []

    async def best(self, limit: int, without: Collection[int]) -> Sequence[Candidate]:
        self.asked.append(limit)
        left = [(one,) for one in self.ids if one not in without]
        return self.chance.sample(left, min(limit, len(left)))

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
    listing = Listing(index.best, index.rest)
    index.hidden = set(chance.sample(index.ids, 50))
    limit = chance.randint(1, 100)
    first: Sequence[Candidate] | None = await index.best(asked_for(limit), ())
    results: Results | None = Results(0)
    shown: list[int] = []
    hidden_ever = set(index.hidden)
    while results is not None:
        page = await page_of(results, first, listing, index.visible, limit)
        shown += page.shown
        cursor = None if page.next is None else page.next.cursor(Walk(CURSORS, "tea", {}))
        results = None if cursor is None else opened(cursor)
        first, limit = None, chance.randint(1, 100)
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
    index.ids = [1, 2, 3]
    listing = Listing(index.best, index.rest)
    page = await page_of(Results(5), [(3,), (1,), (2,)], listing, index.visible, 2)
    assert page.shown == [3, 1]
    assert page.next == Results(5, [3, 1])
    last = await page_of(page.next, None, listing, index.visible, 2)
    assert (last.shown, last.next) == ([2], None)


async def test_a_page_asks_for_little_more_than_it_shows() -> None:
    index = Index(random.Random(1))
    listing = Listing(index.best, index.rest)
    await page_of(Results(0), None, listing, index.visible, 20)
    assert index.asked == [21 + SPARE]
    # Where more are hidden than were to spare, it asks again for those that are missing.
    index.hidden = set(range(1, 301, 2))
    index.asked.clear()
    page = await page_of(Results(0), None, listing, index.visible, 20)
    assert len(page.shown) == 20
    assert len(index.asked) > 1
    # The last of a hundred is the last of the best.
    assert page.next is not None
    index.asked.clear()
    index.hidden.clear()
    await page_of(replace(page.next, best=range(1, 96)), None, listing, index.visible, 20)
    assert index.asked == [5]


async def test_what_is_ordered_by_price_goes_on_after_the_last_price() -> None:
    found = [(number, 1000 - number) for number in range(1, 121)]
    after: list[Candidate] = []

    async def best(limit: int, without: Collection[int]) -> Sequence[Candidate]:
        return [one for one in found if one[0] not in without][:limit]

    async def rest(last: Candidate, limit: int, without: Collection[int]) -> Sequence[Candidate]:
        after.append(last)
        return [one for one in found if one > last and one[0] not in without][:limit]

    async def visible(numbers: Sequence[int]) -> Mapping[int, int]:
        return {number: number for number in numbers}

    results: Results | None = Results(0)
    shown: list[int] = []
    while results is not None:
        page = await page_of(results, None, Listing(best, rest, goes_on=True), visible, 30)
        shown += page.shown
        results = page.next
    assert shown == list(range(1, 121))
    assert after[0] == (100, 900)


def test_a_cursor_that_says_nothing_of_results_is_refused() -> None:
    for numbers in ([], [1], [0, 5, OPEN]):
        with pytest.raises(Problem):
            Results.of(numbers)
