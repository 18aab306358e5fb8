"""Timelines as bytes, against lists of pairs."""

import random

import pytest

from infra.formats.packed_timeline import (
    MASK,
    SPAN,
    TIMELINE_MAX,
    UNKNOWN,
    Positions,
    brought_since,
    decode,
    encode_entries,
    encode_entry,
    graves_for,
    merge,
    newest,
    represents,
    standing_in,
)

Pairs = list[tuple[int, int]]


def history(chance: random.Random, count: int, start: int = 1) -> Pairs:
    """Entries oldest first; about one in five a repost."""
    positions = sorted(chance.sample(range(start, start + 10 * count), count))
    return [
        (p, chance.randrange(max(1, start), p) if p > start + 1 and chance.random() < 0.2 else p)
        for p in positions
    ]


def both(slots: bytes, now: int) -> Pairs:
    positions, posts = decode(slots, now)
    return list(zip(positions.tolist(), posts.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_what_is_encoded_is_decoded_newest_first(seed: int) -> None:
    chance = random.Random(seed)
    entries = history(chance, chance.randrange(1, 1500))
    slots = encode_entries(entries)
    expected = entries[::-1][:TIMELINE_MAX]
    assert both(slots, 10**6) == expected
    for limit in (1, 20, 60, 100, 300):
        page = newest(slots, limit, 10**6)
        assert list(zip(page.positions, page.posts, strict=True)) == expected[:limit]


@pytest.mark.parametrize("seed", range(20))
def test_entries_out_of_order_and_twice_are_put_right(seed: int) -> None:
    chance = random.Random(seed)
    entries = history(chance, 500)
    shuffled = entries + chance.sample(entries, 50)
    for _ in range(100):
        at = chance.randrange(len(shuffled) - 1)
        shuffled[at], shuffled[at + 1] = shuffled[at + 1], shuffled[at]
    slots = encode_entries(shuffled)
    assert both(slots, 10**6) == entries[::-1]


def test_an_empty_list_has_no_entries() -> None:
    assert both(b"", 5) == []
    assert newest(b"", 20, 5) == ((), ())


def test_a_page_of_posts_alone_names_each_position_once() -> None:
    page = newest(encode_entries([(n, n) for n in range(1, 200)]), 20, 200)
    assert page.posts is page.positions
    assert list(page.positions) == list(range(199, 179, -1))


def test_a_page_may_begin_behind_the_head_of_a_repost() -> None:
    entries = [(10, 3), (11, 11), (12, 2), (13, 13)]
    slots = encode_entries(entries)
    for limit in range(1, 5):
        page = newest(slots, limit, 20)
        assert list(zip(page.positions, page.posts, strict=True)) == entries[::-1][:limit]


def test_a_repost_of_a_post_too_far_back_has_to_be_looked_up() -> None:
    slots = encode_entry(2**33 + 5, 7) + encode_entry(2**33 + 6, 2**33)
    assert both(slots, 2**33 + 9) == [(2**33 + 6, 2**33), (2**33 + 5, UNKNOWN)]


@pytest.mark.parametrize("seed", range(10))
def test_positions_are_whole_again_across_the_wrap(seed: int) -> None:
    chance = random.Random(seed)
    entries = history(chance, 600, start=3 * (MASK + 1) - 3000)
    now = entries[-1][0] + chance.randrange(1000)
    assert both(encode_entries(entries), now) == entries[::-1]
    page = newest(encode_entries(entries), 60, now)
    assert list(zip(page.positions, page.posts, strict=True)) == entries[::-1][:60]


@pytest.mark.parametrize("seed", range(10))
def test_graves_count_and_show_nothing(seed: int) -> None:
    chance = random.Random(seed)
    entries = history(chance, TIMELINE_MAX + 50)
    gone = {position for position, _ in chance.sample(entries, 40)}
    buried = bury(encode_entries(entries), gone)
    newest_ones = entries[::-1][:TIMELINE_MAX]
    expected = [entry for entry in newest_ones if entry[0] not in gone]
    now = 10**6
    assert pairs(merge([decode(buried, now)])) == expected
    page = newest(buried, 60, now)
    assert list(zip(page.positions, page.posts, strict=True)) == expected[:60]
    assert graves_for(buried, gone, now) == []
    standing = [position for _, position in standing_in(buried, now)]
    assert standing == [position for position, _ in entries if position not in gone]


def test_an_entry_in_a_grave_and_elsewhere_counts_once() -> None:
    entries = [(n, n) for n in range(1, TIMELINE_MAX + 1)]
    buried = bury(encode_entries(entries), {700, 5})
    other = [(n, n) for n in range(600, TIMELINE_MAX + 11)]
    merged = pairs(merge([decode(buried, 10**4), decode(encode_entries(other), 10**4)]))
    assert merged == [(n, n) for n in range(TIMELINE_MAX + 10, 10, -1) if n not in {700, 5}]


def bury(slots: bytes, gone: set[int]) -> bytes:
    for at, entry, grave in reversed(graves_for(slots, gone, 10**6)):
        assert slots[at : at + len(entry)] == entry
        slots = slots[:at] + grave + slots[at + len(entry) :]
    return slots


def pairs(entries: tuple[Positions, Positions]) -> Pairs:
    positions, posts = entries
    return list(zip(positions.tolist(), posts.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_lists_are_merged_like_sets(seed: int) -> None:
    chance = random.Random(seed)
    entries = history(chance, 2000)
    lists = chance.choice([2, 6, 30])
    # From few entries, so that most of them are in several lists.
    source = entries[: chance.choice([750, 850, 2000])]
    parts = [sorted(chance.sample(source, chance.randrange(1, 700))) for _ in range(lists)]
    merged = merge([decode(encode_entries(part), 10**6) for part in parts])
    expected = sorted(set().union(*parts), reverse=True)[:TIMELINE_MAX]
    assert list(zip(*(each.tolist() for each in merged), strict=True)) == expected


def test_a_follow_brings_what_came_since_and_a_few_before() -> None:
    entries = [(n, n) for n in range(10, 500, 10)]
    everything = decode(encode_entries(entries), 1000)
    for since, first in ((0, 10), (5, 10), (205, 10), (300, 110), (305, 110), (1000, 300)):
        positions, _ = brought_since(everything, since, 20)
        assert positions[-1] == first
        assert positions[0] == 490


def test_entries_too_old_for_their_list_are_recognised() -> None:
    assert represents(SPAN, 1)
    assert not represents(SPAN + 1, 1)
