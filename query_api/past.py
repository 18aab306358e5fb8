"""Pages as of a position of the log: everything as it stood then, what was deleted later too.

What was erased since is never shown: its texts cannot be read any more.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import partial

from domain.shared.identifiers import id_text
from infra.ports.reads import EntryRow
from query_api.context import Context
from query_api.timelines.items import Drawing, Item, prepare
from query_api.timelines.viewers import NOBODY, Viewer


async def viewer_at(context: Context, viewer: Viewer, position: int) -> Viewer:
    """Whom the reader did not see at that position; flags are added by `flags_at`."""
    if viewer is NOBODY:
        return NOBODY
    then = Viewer(viewer.id, viewer.number)
    then.hidden, then.blocked = await context.reads.hidden_at(position, viewer.number)
    return then


async def flags_at(context: Context, then: Viewer, posts: Collection[int], at: int) -> None:
    if then is not NOBODY and posts:
        liked, reposted = await context.reads.engaged(then.number, posts, at)
        then.liked, then.reposted = set(liked), set(reposted)


async def items_at(
    context: Context,
    at: int,
    positions: Collection[int] = (),
    post_ids: Collection[int] = (),
) -> dict[int, Item]:
    """Posts as of a position, by their positions; those not yet published are left out."""
    cards = await context.reads.cards_at(at, positions, post_ids)
    products = partial(context.products.cards_at, at)
    drawing = Drawing(context.keyring, await prepare(cards, context.keyring, products))
    authors = {row.member_id: drawing.author(row) for row in cards.members}
    return {
        row.position: drawing.item(row, authors[row.author_id], at)
        for row in cards.posts
        if row.author_id in authors
    }


def standing(entries: Iterable[EntryRow], then: Viewer, at: int) -> list[EntryRow]:
    """The entries that bring something at that position, one a post, newest first."""
    found: dict[int, EntryRow] = {}
    for row in entries:
        if row.until > at and row.bringer_id not in then.hidden:
            found.setdefault(row.post_position, row)
    return list(found.values())


async def timeline_at(
    context: Context, then: Viewer, at: int, last: int, limit: int
) -> tuple[list[Item], list[int]]:
    """Up to `limit` items below the entry `last`, and the positions of their entries."""
    pulled = await context.reads.pull(then.number, at)
    left = [row for row in standing(pulled.entries, then, at) if row.position < last]
    shown: list[Item] = []
    entries: list[int] = []
    while left and len(shown) < limit:
        chunk, left = left[:limit], left[limit:]
        for row, found in await _drawn(context, at, chunk):
            if found.post_stands and found.author_id not in then.hidden and len(shown) < limit:
                shown.append(found)
                entries.append(row.position)
    await flags_at(context, then, [found.post_position for found in shown], at)
    return shown, entries


async def _drawn(
    context: Context, at: int, rows: Sequence[EntryRow]
) -> list[tuple[EntryRow, Item]]:
    items = await items_at(context, at, [row.post_position for row in rows])
    bringers = {row.bringer_id for row in rows if row.is_repost}
    members = await context.reads.members_at(at, bringers) if bringers else ()
    await context.keyring.fetch(id_text(row.member_id) for row in members)
    drawing = Drawing(context.keyring, {})
    authors = {row.member_id: drawing.author(row) for row in members}
    drawn: list[tuple[EntryRow, Item]] = []
    for row in rows:
        item = items.get(row.post_position)
        if item is None:
            continue
        if not row.is_repost:
            drawn.append((row, item))
        elif (author := authors.get(row.bringer_id)) is not None:
            drawn.append((row, item.repost(author, stands=True)))
    return drawn
