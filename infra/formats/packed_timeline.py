"""Timelines as bytes: entries of four or eight bytes, oldest first, appended to as they happen.

A post is one slot, a little-endian u32 with its position modulo 2**31. A repost is two: its own
position with the highest bit set, then how far before it the post stands. Modulo is enough because
a list is only used while its newest possible entry is less than `SPAN` past its build position.
A repost of itself is a grave: it counts among the newest entries, and shows nothing.
"""

import struct
from collections.abc import Container, Iterable, Sequence
from operator import lt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TIMELINE_MAX = 800
BYTES_PER_SLOT = 4
REPOST = 1 << 31
MASK = REPOST - 1
FAR = MASK
"""A repost whose post stands too far back to say: who reads it looks its post up."""

SPAN = 1 << 30
UNKNOWN = 0
"""The post position of an entry whose post has to be looked up."""

GRAVE = -1
"""The post position of an entry that can never be shown again."""

_slot = struct.Struct("<I").pack
_slot_pair = struct.Struct("<II").pack
WALKED_MAX = 100
_unpackers = tuple(struct.Struct(f"<{count}I").unpack for count in range(2 * WALKED_MAX + 1))

Positions = NDArray[np.int64]


class Entries(NamedTuple):
    """Entries of a timeline, newest first: their own positions, and those of their posts.

    Both are the same for a post, and the same object where there are no reposts at all.
    """

    positions: Sequence[int]
    posts: Sequence[int]


def encode_entry(position: int, post_position: int) -> bytes:
    """The slots of one entry; it is a repost where the post stands elsewhere."""
    if position == post_position:
        return _slot(position & MASK)
    back = position - post_position
    return _slot_pair(REPOST | (position & MASK), back if 0 < back < FAR else FAR)


def encode_entries(entries: Iterable[tuple[int, int]]) -> bytes:
    """The slots of entries given as (position, post position), oldest first."""
    return b"".join([encode_entry(position, post) for position, post in entries])


def represents(position: int, oldest: int) -> bool:
    """Whether a list built at `position` may hold an entry this old."""
    return position - oldest < SPAN


def grave_of(position: int) -> bytes:
    """What is put in an entry's place when it can never be shown again."""
    return _slot_pair(REPOST | (position & MASK), 0)


def graves_for(slots: bytes, gone: Container[int], now: int) -> list[tuple[int, bytes, bytes]]:
    """Where which entries stand that are gone, by byte, each with its grave."""
    found = []
    for at, position in standing_in(slots, now):
        if position in gone:
            slot = slots[at : at + BYTES_PER_SLOT]
            size = 2 * BYTES_PER_SLOT if slot[-1] >> 7 else BYTES_PER_SLOT
            found.append((at, slots[at : at + size], grave_of(position)))
    return found


def standing_in(slots: bytes, now: int) -> list[tuple[int, int]]:
    """Each entry that is not in a grave: at which byte it stands, and its position."""
    values = np.frombuffer(slots, "<u4")
    starts = np.ones(len(values), bool)
    starts[1:] = values[:-1] < REPOST
    starts[:-1] &= values[1:] != 0
    starts &= values != 0
    places = np.flatnonzero(starts)
    positions = _whole((values[places] & MASK).astype(np.int64), now)
    return list(zip((places * BYTES_PER_SLOT).tolist(), positions.tolist(), strict=True))


def newest(slots: bytes, limit: int, now: int) -> Entries:
    """The newest entries of a list, at most `limit`; fewer only if there are no more in `slots`.

    `slots` begin with an entry, and end where the list ends. `now` is any position at or after the
    newest entry, less than `SPAN` after it was appended.
    """
    if now < REPOST and limit <= WALKED_MAX:
        walked = _walk(slots, limit)
        if walked is not None:
            return walked
    positions, posts = merge([decode(slots, now)])
    shown = positions[:limit].tolist()
    return Entries(shown, shown if posts is positions else posts[:limit].tolist())


def _walk(slots: bytes, limit: int) -> Entries | None:
    """The same without numpy, which costs more than walking as far as a page goes.

    None if an entry is out of order or there twice.
    """
    size = len(slots) // BYTES_PER_SLOT
    reach = min(size, limit)
    values = _unpackers[reach](slots[(size - reach) * BYTES_PER_SLOT :])
    if not values:
        return Entries((), ())
    head_cut_off = reach < size and slots[(size - reach) * BYTES_PER_SLOT - 1] >> 7
    if values[-1] < REPOST and not head_cut_off and all(map(lt, values, values[1:])):
        # Nearly every page: only posts, in order.
        positions = values[::-1]
        return Entries(positions, positions)
    reach = min(size, 2 * limit)
    values = _unpackers[reach](slots[(size - reach) * BYTES_PER_SLOT :])
    found: list[int] = []
    posts: list[int] = []
    last = REPOST
    at = reach
    while at > 0 and len(found) < limit:
        at -= 1
        position = post = values[at]
        if at and values[at - 1] >= REPOST:
            at -= 1
            position = values[at] & MASK
            post = position - post if post != FAR else UNKNOWN
            if post == position:
                # A grave: a page shows what is below it, and may need more than was looked at.
                return None
        if position >= last:
            return None
        last = position
        found.append(position)
        posts.append(post)
    return Entries(found, posts)


def decode(slots: bytes, now: int) -> tuple[Positions, Positions]:
    """All entries, newest first, each once; at most `TIMELINE_MAX`.

    The posts' positions are the same array where there are no reposts; they are `GRAVE` where an
    entry is in its grave. Those count until lists have been merged.
    """
    values = np.frombuffer(slots, "<u4")
    heads = values >= REPOST
    if heads.any():
        positions, posts = _with_reposts(values, heads, now)
        if not _falls(positions):
            positions, kept = np.unique(positions, return_index=True)
            positions, posts = positions[::-1], posts[kept[::-1]]
        return positions[:TIMELINE_MAX], posts[:TIMELINE_MAX]
    positions = _whole(values.astype(np.int64), now)[::-1]
    if not _falls(positions):
        positions = np.unique(positions)[::-1]
    positions = positions[:TIMELINE_MAX]
    return positions, positions


def _with_reposts(
    values: NDArray[np.uint32], heads: NDArray[np.bool_], now: int
) -> tuple[Positions, Positions]:
    starts = np.ones(len(values), bool)
    starts[1:] = ~heads[:-1]
    positions = _whole((values[starts] & MASK).astype(np.int64), now)
    posts = positions.copy()
    reposts = np.flatnonzero(heads[starts])
    back = values[~starts].astype(np.int64)
    of_reposts = positions[reposts] - back
    of_reposts[back == FAR] = UNKNOWN
    of_reposts[back == 0] = GRAVE
    posts[reposts] = of_reposts
    return positions[::-1], posts[::-1]


def merge(lists: Sequence[tuple[Positions, Positions]]) -> tuple[Positions, Positions]:
    """The newest entries of several timelines, each entry once, without those in graves."""
    positions, posts = lists[0]
    if len(lists) > 1:
        every_position = np.concatenate([entries[0] for entries in lists])
        every_post = np.concatenate([entries[1] for entries in lists])
        # Finding the newest takes much less time than sorting all. They may be fewer than they
        # look, since an entry can be in several lists.
        enough = 2 * TIMELINE_MAX
        if len(every_position) > 2 * enough:
            newer = every_position >= np.partition(every_position, -enough)[-enough]
            positions, posts = _newest_of(every_position[newer], every_post[newer])
        if len(every_position) <= 2 * enough or len(positions) < TIMELINE_MAX:
            positions, posts = _newest_of(every_position, every_post)
    if posts is positions:
        return positions, posts
    standing = posts != GRAVE
    return (positions, posts) if standing.all() else (positions[standing], posts[standing])


def _newest_of(positions: Positions, posts: Positions) -> tuple[Positions, Positions]:
    distinct, first = np.unique(positions, return_index=True)
    newest_first = slice(None, -TIMELINE_MAX - 1, -1)
    return distinct[newest_first], posts[first[newest_first]]


def brought_since(
    entries: tuple[Positions, Positions], since: int, before_max: int
) -> tuple[Positions, Positions]:
    """What an account's own list brings a follower: all since the follow, and a few before it."""
    positions, posts = entries
    after = int(np.searchsorted(-positions, -since, side="left"))
    return positions[: after + before_max], posts[: after + before_max]


def _whole(low: Positions, now: int) -> Positions:
    """Positions modulo 2**31 as the newest positions up to `now` that end like that."""
    return low if now < REPOST else now - ((now - low) & MASK)


def _falls(positions: Positions) -> bool:
    return bool((positions[:-1] > positions[1:]).all())
