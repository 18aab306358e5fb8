"""What each change that projections tell makes the local caches of posts and readers forget."""

from domain.shared.identifiers import id_text
from infra.ports.frames import Applied
from query_api.timelines.items import Items
from query_api.timelines.viewers import Viewers

ANY = ""
ITEMS_SHOW = frozenset({ANY, "members", "posts", "engagement"})
READERS_HAVE = frozenset({ANY, "graph", "engagement"})
"""The projections that make items and readers what they are. A reader's posts are known by their
positions in the log, which are the same in every build."""


class CacheFollower:
    """Items and readers, kept current; see `infra.runtime.projecting.live.Follower`."""

    def __init__(self, items: Items, viewers: Viewers) -> None:
        self._items = items
        self._viewers = viewers

    def begin(self) -> None:
        self._items.begin()
        self._viewers.begin()

    def end(self) -> None:
        self._items.end()
        self._viewers.end()

    def changed(self, applied: Applied) -> None:
        if applied.everything:
            # After a switch, what was read from other tables is as good as before.
            if applied.projection in ITEMS_SHOW:
                self._items.forget_all()
            if applied.projection in READERS_HAVE:
                self._viewers.forget_all()
            return
        self._items.forget_posts(applied.posts)
        self._viewers.forget(applied.relations)
        # Counts of members change all the time, and stand on no card: only what the projection of
        # members tells is about what cards say.
        if applied.projection == "members":
            self._items.forget_members(applied.members)


class ProductFollower:
    """Posts show products: what is cached of posts is forgotten with what changes about those."""

    def __init__(self, items: Items) -> None:
        self._items = items

    def begin(self) -> None:
        self._items.forget_all()

    def end(self) -> None:
        self._items.forget_all()

    def changed(self, applied: Applied) -> None:
        if applied.everything:
            self._items.forget_all()
        elif applied.products:
            self._items.forget_products([id_text(number) for number in applied.products])
