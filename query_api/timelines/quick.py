"""The first page of a kept timeline, where nothing is unusual: a few steps, each over all items.

It shows what `pipeline.choose` would, and leaves to it whatever needs a decision: an item that is
not in memory or does not stand, somebody hidden, a post that comes twice, entries out of order.
"""

from functools import cache
from operator import gt
from struct import Struct
from typing import NamedTuple

import numpy as np

from infra.formats.packed_timeline import BYTES_PER_SLOT, MASK, REPOST
from query_api.timelines.items import Item, Items
from query_api.timelines.viewers import Checked, Latest, Viewer

SLACK_SLOTS = 8
"""Reposts take two slots; pages with more of them than this take a second look."""

SLOT = np.dtype("<u4")
LOW_BITS = np.uint32(MASK)


@cache
def unpacker(slots: int) -> Struct:
    return Struct(f"<{slots}I")


class Newest(NamedTuple):
    """The newest entries of a list, newest first, and the posts that they bring, by position;
    `whole`: there are no others."""

    entries: list[int]
    posts: list[int]
    whole: bool


def newest_of(viewer: Viewer, built: int, slots: bytes, wanted: int) -> Newest | None:
    """At least `wanted` of the newest entries, or all; None where they are not simply the end."""
    size = len(slots) // BYTES_PER_SLOT
    first = max(0, size - wanted - SLACK_SLOTS)
    entries, posts = last_entries(slots, first)
    if len(entries) < wanted and first:
        first = max(0, size - 2 * wanted)
        entries, posts = last_entries(slots, first)
    if not all(map(gt, entries, entries[1:])):
        return None
    if first and highest_before(viewer, built, slots, BYTES_PER_SLOT * first) >= entries[-1]:
        return None
    return Newest(entries, posts, not first)


def last_entries(slots: bytes, first: int) -> tuple[list[int], list[int]]:
    """The entries from a slot on, newest first, and their posts."""
    start = BYTES_PER_SLOT * first
    values = unpacker(len(slots) // BYTES_PER_SLOT - first).unpack_from(slots, start)
    # A slot after the head of a repost belongs to that head.
    before = REPOST if start and slots[start - 1] >> 7 else 0
    if before == 0 and max(values, default=0) < REPOST:
        only_posts = [*values]
        only_posts.reverse()
        return only_posts, only_posts
    triples = [
        (value, after)
        for last, value, after in zip((before, *values), values, (*values[1:], 0), strict=False)
        if last < REPOST
    ]
    triples.reverse()
    entries = [value & MASK for value, _ in triples]
    # Of a repost whose post stands too far back to say, what comes out here is in no cache.
    posts = [value if value < REPOST else (value & MASK) - after for value, after in triples]
    return entries, posts


def highest_before(viewer: Viewer, built: int, slots: bytes, end: int) -> int:
    """No entry in the slots before `end` is newer than this.

    Partitions are not applied in step, so a list may end with many entries that came late.
    """
    checked = viewer.checked
    begin = highest = 0
    # Timelines are appended to, so what was checked once need not be looked at again.
    if checked is not None and checked.holds(built, slots) and checked.size <= end:
        begin, highest = checked.size, checked.highest
    if begin < end:
        count = (end - begin) // BYTES_PER_SLOT
        values = np.frombuffer(slots, SLOT, count, begin) & LOW_BITS
        highest = max(highest, int(np.maximum.reduce(values)))
        viewer.checked = Checked.of(built, slots, end, highest)
    return highest


def once_each(newest: Newest, wanted: int) -> Newest:
    """The newest `wanted` entries whose posts no newer one brings."""
    entries, posts = newest.entries[:wanted], newest.posts[:wanted]
    if newest.entries is newest.posts or len(set(posts)) == len(posts):
        return Newest(entries, posts, newest.whole)
    by_post: dict[int, int] = {}
    for entry, post in zip(newest.entries, newest.posts, strict=True):
        by_post.setdefault(post, entry)
        if len(by_post) == wanted:
            break
    return Newest([*by_post.values()], [*by_post], newest.whole)


def latest_of(viewer: Viewer, built: int, slots: bytes, limit: int) -> Latest | None:
    """The newest page of a timeline; None where finding it takes a decision."""
    known = viewer.latest
    if known is not None and known.holds(built, slots, limit):
        return known
    wanted = limit + 1
    found = newest_of(viewer, built, slots, wanted)
    page = None if found is None else once_each(found, wanted)
    if page is None or (len(page.entries) < wanted and not page.whole):
        return None
    viewer.latest = Latest(built, slots, limit, page.entries, page.posts)
    return viewer.latest


def quick_page(viewer: Viewer, page: Latest, items: Items) -> bytes | None:
    """The JSON of a page's items, joined; None where what to show takes a decision."""
    fragments = items.fragments.young
    try:
        parts = [fragments[entry] for entry in page.entries]
    except KeyError:
        return None
    if viewer.hidden and not all(seen_by(viewer, items.get(entry)) for entry in page.entries):
        return None
    if not viewer.engaged.isdisjoint(page.posts):
        flag(parts, page, items, viewer)
    return b",".join(parts)


def flag(parts: list[bytes], page: Latest, items: Items, viewer: Viewer) -> None:
    """Put those items that the reader likes, or has reposted, with their flags."""
    for place, (entry, post) in enumerate(zip(page.entries, page.posts, strict=True)):
        if post in viewer.engaged and (item := items.get(entry)) is not None:
            parts[place] = item.json(viewer.flags(post))


def seen_by(viewer: Viewer, item: Item | None) -> bool:
    hidden = viewer.hidden
    return item is not None and item.author_id not in hidden and item.bringer_id not in hidden
