"""The quick way to a first page finds the newest entries, or says that it cannot."""

import random

import pytest

from infra.formats.packed_timeline import encode_entries
from query_api.timelines.bookmarks import Bookmark, encoded
from query_api.timelines.quick import Newest, newest_of, once_each
from query_api.timelines.viewers import Viewer

WANTED = 21


def reader() -> Viewer:
    return Viewer("0000000000001", 1)


def entries_of(dice: random.Random, count: int, reposts: float) -> list[tuple[int, int]]:
    """Entries in order, oldest first, some of which repost what was posted before."""
    positions = sorted(dice.sample(range(1, 100_000), count))
    return [
        (position, dice.randint(1, position - 1) if dice.random() < reposts else position)
        for position in positions
        if position > 1
    ]


@pytest.mark.parametrize("seed", range(60))
def test_the_newest_entries_of_a_list_in_order_are_found(seed: int) -> None:
    dice = random.Random(seed)
    count = dice.choice([0, 1, 5, 20, 21, 22, 30, 60, 400])
    listed = entries_of(dice, count, dice.choice([0, 0.1, 0.5, 1.0]))
    found = newest_of(reader(), 1, encode_entries(listed), WANTED)
    assert found is not None
    expected = listed[::-1][: len(found.entries)]
    assert list(zip(found.entries, found.posts, strict=True)) == expected
    assert len(found.entries) >= min(WANTED, len(listed))
    assert found.whole == (len(found.entries) == len(listed))


@pytest.mark.parametrize("seed", range(40))
def test_late_entries_are_noticed_wherever_they_stand(seed: int) -> None:
    dice = random.Random(seed)
    listed = entries_of(dice, 400, 0.1)
    late = listed.pop(dice.randrange(len(listed) - 30))
    place = dice.randrange(len(listed) - 20, len(listed) + 1)
    listed.insert(place, late)
    assert newest_of(reader(), 1, encode_entries(listed), WANTED) is None


def test_many_late_entries_at_the_end_do_not_hide_what_is_newer() -> None:
    early = [(position, position) for position in range(1, 200)]
    newer = [(position, position) for position in range(5_000, 5_100)]
    late = [(position, position) for position in range(1_000, 1_200)]
    assert newest_of(reader(), 1, encode_entries(early + newer + late), WANTED) is None


def test_what_was_checked_once_is_checked_again_when_the_list_is_another() -> None:
    viewer = reader()
    in_order = [(position, position) for position in range(1, 400)]
    assert newest_of(viewer, 1, encode_entries(in_order), WANTED) is not None
    assert viewer.checked is not None
    more = [*in_order, (500, 500), (501, 501)]
    found = newest_of(viewer, 1, encode_entries(more), WANTED)
    assert found is not None
    assert found.entries[:3] == [501, 500, 399]
    late = [(9_000, 9_000), *in_order[1:]]
    assert newest_of(viewer, 2, encode_entries(late), WANTED) is None


def test_a_post_that_several_ways_bring_is_one_item_at_its_newest() -> None:
    newest = Newest([9, 8, 7, 5, 3], [5, 8, 3, 5, 3], whole=True)
    assert once_each(newest, 3) == Newest([9, 8, 7], [5, 8, 3], whole=True)
    assert once_each(newest, 5) == Newest([9, 8, 7], [5, 8, 3], whole=True)


@pytest.mark.parametrize("seed", range(20))
def test_a_bookmark_reads_as_it_was_written(seed: int) -> None:
    dice = random.Random(seed)
    position = dice.randrange(2**40)
    last = dice.randint(0, position)
    served = sorted({dice.randrange(last) for _ in range(dice.randrange(90))} if last else ())
    read = Bookmark.decode(encoded(position, last, served))
    assert (read.position, read.last, sorted(read.served)) == (position, last, served)
