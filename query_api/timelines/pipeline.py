"""How a page of a timeline comes about: skeleton → rank → hydrate → filter → present.

A skeleton is a list of candidates, newest first: what could be shown, as positions alone. Each
step is a function of its own, so that fetching, privacy and rendering are tested apart.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

from infra.formats.packed_timeline import Entries
from query_api.timelines.items import Item, Items
from query_api.timelines.viewers import Viewer


@dataclass
class Selection:
    """What of a skeleton is shown, in order, and what could not be judged yet.

    `entries` are the entries of what is shown. `gone` are posts that stand, by position and id, at
    entries that do not bring them any more.
    """

    shown: list[Item] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)
    gone: dict[int, int] = field(default_factory=dict)
    missing_posts: list[int] = field(default_factory=list)
    missing_reposts: list[int] = field(default_factory=list)

    def miss(self, entry: int, position: int) -> None:
        (self.missing_posts if entry == position else self.missing_reposts).append(entry)

    @property
    def complete(self) -> bool:
        return not (self.missing_posts or self.missing_reposts)


def rank(candidates: Entries) -> Entries:
    """The policy `latest`: by time, newest first, which is the order of the skeleton."""
    return candidates


@dataclass(frozen=True)
class Since:
    """What has happened to a timeline since the first page of a walk, which was as of `position`.

    `served` are posts that earlier pages showed, `left` entries by accounts not followed any more.
    `moved` names, for posts whose entry has gone, the newest one that brings them now, if any.
    """

    position: int = 0
    served: Collection[int] = ()
    left: frozenset[int] = frozenset()
    moved: dict[int, int] = field(default_factory=dict)


FIRST = Since()


def choose(
    candidates: Entries, known: "Known", viewer: Viewer, limit: int, since: Since = FIRST
) -> Selection:
    """Hydrate from what is in memory and filter, until `limit` items are found.

    The privacy rules are these: nothing deleted or taken back, nothing by or brought by somebody
    the reader does not see; and one item a post, at its newest entry that is left. What is not in
    memory counts as shown, so that one load brings all that the page needs; the page is then
    chosen again.
    """
    selection = Selection()
    shown, entries = selection.shown, selection.entries
    hidden, left = viewer.hidden, since.left
    seen = set(since.served)
    get = known.get
    for entry, position in zip(*candidates, strict=True):
        if position in seen:
            continue
        found = get(entry)
        if found is None:
            selection.miss(entry, position)
            seen.add(position)
        elif not found.post_stands or found.author_id in hidden or found.post_position in seen:
            continue
        else:
            if not found.stands or found.bringer_id in hidden or entry in left:
                found = moved(found, known, since, selection)
                if found is None:
                    continue
            seen.add(found.post_position)
            shown.append(found)
        entries.append(entry)
        if len(entries) == limit:
            break
    return selection


def moved(found: Item, known: "Known", since: Since, selection: Selection) -> Item | None:
    """What is shown in the place of an entry that has gone: its post, if a newer one brings it."""
    elsewhere = since.moved.get(found.post_position)
    if elsewhere is None:
        selection.gone[found.post_position] = found.post_id
        return None
    # An entry of that time is either a candidate itself or was not in the timeline.
    if elsewhere <= since.position:
        return None
    return known.get(elsewhere) or (found.post if found.is_repost else found)


async def page_of(
    candidates: Entries, items: Items, viewer: Viewer, limit: int, since: Since = FIRST
) -> Selection:
    """The first `limit` items of a skeleton, after fetching what is not in memory."""
    return await _page_of(candidates, Known(items), viewer, limit, since)


async def _page_of(
    candidates: Entries, known: "Known", viewer: Viewer, limit: int, since: Since
) -> Selection:
    while True:
        selection = choose(candidates, known, viewer, limit, since)
        if selection.complete:
            return selection
        absent = await known.load(selection)
        # What Redis has heard of, and the read tables have not yet, is for a later page.
        if absent:
            pairs = [pair for pair in zip(*candidates, strict=True) if pair[0] not in absent]
            candidates = Entries([entry for entry, _ in pairs], [post for _, post in pairs])


Brought = Callable[[Viewer, Collection[int]], Awaitable[Mapping[int, int]]]
"""The newest entry that brings each of these posts to a reader now, by post positions."""


async def later_page_of(  # noqa: PLR0913
    candidates: Entries,
    items: Items,
    viewer: Viewer,
    limit: int,
    *,
    since: Since,
    brought: Brought,
) -> Selection:
    """The same for a page that is not the first.

    A post whose entry has gone since the first page may have come anew meanwhile, at an entry that
    no page of this walk reaches: it is shown in the place that it had, so that it is not skipped.
    """
    known = Known(items)
    while True:
        selection = await _page_of(candidates, known, viewer, limit, since)
        if not selection.gone:
            return selection
        elsewhere = await brought(viewer, selection.gone.values())
        since.moved.update(dict.fromkeys(selection.gone, 0) | dict(elsewhere))


class Known:
    """The cache, and beside it what was loaded for one page: that serves the page even where the
    cache does not keep it."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self._loaded: dict[int, Item] = {}
        self.get: Callable[[int], Item | None] = items.get

    async def load(self, selection: Selection) -> set[int]:
        """Fetch what a selection lacks, in one round trip; answers the entries not there."""
        self._items.loads += 1
        loaded = await self._items.load(selection.missing_posts, selection.missing_reposts)
        self._loaded |= loaded
        self.get = self._get
        return {*selection.missing_posts, *selection.missing_reposts} - loaded.keys()

    def _get(self, entry: int) -> Item | None:
        return self._loaded.get(entry) or self._items.get(entry)


def is_shown(item: Item, viewer: Viewer) -> bool:
    """The privacy rules of `choose`, for a post that nobody's timeline brought."""
    return item.post_stands and item.author_id not in viewer.hidden
