"""A window of uses counts what a plain count does, whatever comes when, twice, or is taken back."""

import random

import numpy as np

from infra.ports.discovery import UNIT, Uses
from query_api.trends.tag_window import WINDOW_SECONDS, TagWindow

NOW = 1_800_000_000
Use = tuple[int, int, int, int]


def columns(uses: list[Use]) -> Uses:
    return Uses(*np.array(uses, dtype=np.int64).reshape(-1, 4).T)


def plain(uses: list[Use], moment: int, uses_max: int = 10**9) -> list[tuple[int, int, int]]:
    """Tag, people and weight, the weightiest first; only so many of the newest uses count."""
    latest: dict[tuple[int, int], int] = {}
    for tag, author, second, _ in uses:
        if moment - WINDOW_SECONDS < second:
            latest[tag, author] = max(second, latest.get((tag, author), 0))
    counted = sorted(latest.values(), reverse=True)
    least = counted[uses_max - 1] if len(counted) > uses_max else 0
    found: dict[int, tuple[int, int]] = {}
    for (tag, _), second in latest.items():
        if second >= least and second <= moment:
            people, weight = found.get(tag, (0, 0))
            worth = round(UNIT * 0.5 ** ((moment - second) / 21_600))
            found[tag] = (people + 1, weight + worth)
    board = [(tag, people, weight) for tag, (people, weight) in found.items()]
    return sorted(board, key=lambda one: (-one[2], -one[1], one[0]))


def ranked(window: TagWindow, moment: int, limit: int = 1000) -> list[tuple[int, int, int]]:
    tags, people, weights, _ = window.ranking(moment, limit)
    return list(zip(tags.tolist(), people.tolist(), weights.tolist(), strict=True))


def test_a_window_counts_what_a_plain_count_does() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for uses_max in (10**9, 100):
        window, uses, now = TagWindow(uses_max), list[Use](), NOW
        for step in range(60):
            now += dice.randrange(4_000)
            new = [
                (dice.randrange(-5, 6) ** 5, dice.randrange(30), now - dice.randrange(2_000), step)
                for _ in range(dice.randrange(20))
            ]
            uses += new
            window.add(columns([*new, *dice.sample(uses, min(len(uses), 3))]))
            window.prune(now)
            assert ranked(window, now) == plain(uses, now, uses_max)
            assert ranked(window, now, 3) == plain(uses, now, uses_max)[:3]


def test_one_member_counts_once_a_tag() -> None:
    window = TagWindow()
    window.add(columns([(1, 7, NOW - n, n) for n in range(1_000)]))
    window.add(columns([(1, 7, NOW, 2_000), (2, 7, NOW, 1), (2, 8, NOW, 2)]))
    assert ranked(window, NOW) == [(2, 2, 2 * UNIT), (1, 1, UNIT)]
    assert len(window) == 3


def test_what_was_removed_does_not_count() -> None:
    window = TagWindow()
    window.add(columns([(1, 7, NOW, 1), (1, 8, NOW, 2), (2, 7, NOW, 3)]))
    window.remove(np.array([7]))
    assert ranked(window, NOW) == [(1, 1, UNIT)]


def test_too_little_is_noticed_where_older_uses_were_let_go_of() -> None:
    window = TagWindow(uses_max=32)
    window.add(columns([(1, member, NOW + member, member) for member in range(64)]))
    window.prune(NOW + 64)
    assert len(window) == 34
    assert not window.is_short(NOW + 64)
    window.remove(np.array([63, 62, 61]))
    assert window.is_short(NOW + 64)
    assert not window.is_short(NOW + 64 + WINDOW_SECONDS)


def test_an_empty_window_has_an_empty_board() -> None:
    window = TagWindow()
    window.add(Uses.none())
    window.prune(NOW)
    assert ranked(window, NOW) == []
