"""How a page of a timeline comes about: skeleton → rank → hydrate → filter → present.

A skeleton is a list of candidates, newest first: what could be shown, as positions alone. Each
step is a function of its own, so that fetching, privacy and rendering are tested apart.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from infra.packed_timeline import Entries
from query_api.items import Item, Items, Repost
from query_api.viewers import Viewer

Shown = Item | Repost


@dataclass
class Selection:
    """What of a skeleton is shown, in order, and what could not be judged yet."""

    shown: list[Shown] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)
    missing_posts: list[int] = field(default_factory=list)
    missing_reposts: list[int] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not (self.missing_posts or self.missing_reposts)


def rank(candidates: Entries) -> Entries:
    """The policy `latest`: by time, newest first, which is the order of the skeleton."""
    return candidates


def choose(
    candidates: Entries,
    known: "Known",
    viewer: Viewer,
    limit: int,
    served: Collection[int] = (),
) -> Selection:
    """Hydrate from what is in memory and filter, until `limit` items are found.

    The privacy rules are these: nothing deleted or taken back, nothing by or brought by somebody
    the reader does not see; and one item a post, at its newest entry that is left. `served` are
    posts that earlier pages showed. What is not in memory counts as shown, so that one load
    brings all that the page needs; the page is then chosen again.
    """
    selection = Selection()
    shown, entries = selection.shown, selection.entries
    hidden = viewer.hidden
    seen = set(served)
    left = limit
    for entry, position in zip(*candidates, strict=True):
        if position in seen:
            continue
        found: Shown | None
        if entry == position:
            found = item = known.post(position)
            if item is None:
                selection.missing_posts.append(position)
        else:
            found = known.repost(entry)
            if found is None:
                item = None
                selection.missing_reposts.append(entry)
            else:
                item = found.item
                if not found.stands or found.author.id in hidden or item.position in seen:
                    continue
        if item is not None and found is not None:
            if not item.stands or item.author.id in hidden:
                continue
            shown.append(found)
            entries.append(entry)
            position = item.position  # noqa: PLW2901 -- a far repost names it only now.
        seen.add(position)
        left -= 1
        if left == 0:
            break
    return selection


async def page_of(
    candidates: Entries,
    items: Items,
    viewer: Viewer,
    limit: int,
    served: Collection[int] = (),
) -> Selection:
    """The first `limit` items of a skeleton, after fetching what is not in memory."""
    known = Known(items)
    while True:
        selection = choose(candidates, known, viewer, limit, served)
        if selection.complete:
            return selection
        absent = await known.load(selection)
        # What Redis has heard of, and the read tables have not yet, is for a later page.
        if absent:
            pairs = [pair for pair in zip(*candidates, strict=True) if pair[0] not in absent]
            candidates = Entries([entry for entry, _ in pairs], [post for _, post in pairs])


class Known:
    """The cache, and beside it what was loaded for one page: that serves the page even where the
    cache does not keep it."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self._posts: dict[int, Item] = {}
        self._reposts: dict[int, Repost] = {}
        self.post: Callable[[int], Item | None] = items.post
        self.repost: Callable[[int], Repost | None] = items.repost

    async def load(self, selection: Selection) -> set[int]:
        """Fetch what a selection lacks, in one round trip; answers the entries not there."""
        wanted_posts, wanted_reposts = selection.missing_posts, selection.missing_reposts
        loaded = await self._items.load(wanted_posts, wanted_reposts)
        self._posts |= loaded.posts
        self._reposts |= loaded.reposts
        self.post, self.repost = self._post, self._repost
        return {p for p in wanted_posts if p not in loaded.posts} | {
            entry for entry in wanted_reposts if entry not in loaded.reposts
        }

    def _post(self, position: int) -> Item | None:
        return self._posts.get(position) or self._items.post(position)

    def _repost(self, entry: int) -> Repost | None:
        return self._reposts.get(entry) or self._items.repost(entry)
