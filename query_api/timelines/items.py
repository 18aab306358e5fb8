"""The local cache of posts, as readers are shown them: JSON made once, flags added per reader.

Nothing cached outlives its truth: a change that the projections tell of marks what it touched
stale, and while nobody tells us of changes nothing is kept. Stale marks stand on the objects
themselves, so that a repost knows that its post has changed, and a post that its author has.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

import msgspec
from msgspec import UNSET

from domain.shared.identifiers import id_text
from infra.formats.personal_values import urls_in
from infra.ports.log import OPEN
from infra.ports.reads import Cards, MemberRow, PostRow, Reads, RepostRow
from infra.ports.secrets import Keyring
from query_api.caches.generations import Generations
from query_api.caches.told import ToldCache
from query_api.shapes.social import AuthorCard, FeedItem, ProductCard

ITEMS_MAX = 200_000

Flags = tuple[bool, bool]
"""Whether the reader likes, and has reposted, a post."""


def tail(kind: str, flags: Flags) -> bytes:
    liked, reposted = (b"true" if flag else b"false" for flag in flags)
    return b'"liked":%b,"reposted":%b,"kind":"%b"}' % (liked, reposted, kind.encode())


EVERY_FLAGS: Sequence[Flags] = [(a, b) for a in (False, True) for b in (False, True)]
PLAIN: Flags = (False, False)
TAILS = {flags: tail("post", flags) for flags in EVERY_FLAGS}
REPOST_TAILS = {flags: tail("repost", flags)[:-1] + b',"repostedBy":[' for flags in EVERY_FLAGS}
TAIL_BYTES = len(TAILS[PLAIN])


class ProductCards(Protocol):
    """Products as posts show them. Provided by the half of Plaza that sells."""

    async def cards(self, product_ids: Collection[str]) -> Mapping[str, ProductCard]:
        """The cards of those products that there are; raises nothing."""
        ...

    async def cards_at(
        self, position: int, product_ids: Collection[str]
    ) -> Mapping[str, ProductCard]:
        """The same as of a position: at the price, and as available, as they were then."""
        ...


class NoProducts:
    """There is no catalogue: posts are shown without products."""

    async def cards(self, product_ids: Collection[str]) -> Mapping[str, ProductCard]:
        del product_ids
        return {}

    async def cards_at(
        self, position: int, product_ids: Collection[str]
    ) -> Mapping[str, ProductCard]:
        del position, product_ids
        return {}


class Author:
    """An account as cards show it, and what is cached that shows it: posts and reposts."""

    __slots__ = ("__weakref__", "card", "entries", "fragment", "id", "post_ids")

    def __init__(self, number: int, card: AuthorCard) -> None:
        self.id = number
        self.card = card
        self.fragment = msgspec.json.encode(card)
        self.post_ids: set[int] = set()
        self.entries: set[int] = set()


class Item:
    """What one entry of timelines shows: a post that its author brings, or a repost of one.

    One class for both, since reading attributes of one class is what pages spend much time on.
    `plain` is the JSON for a reader who neither likes nor has reposted the post. `stands` is False
    once the repost is taken back, `post_stands` once the post is deleted or its author's key
    destroyed. `answers` tells a reply. `entries` are those reposts of a post that are cached.
    """

    __slots__ = (
        "__weakref__", "answers", "author", "author_id", "bringer", "bringer_id", "entries",
        "plain", "post", "post_id", "post_position", "post_stands", "product_ids", "stands",
    )  # fmt: skip

    post: "Item"

    def __init__(self, row: PostRow, author: Author, plain: bytes, *, stands: bool) -> None:
        self.post_position = row.position
        self.post_id = row.post_id
        self.answers = row.reply_to is not None
        self.product_ids = tuple(row.product_ids)
        self.author = self.bringer = author
        self.author_id = self.bringer_id = author.id
        self.plain = plain
        self.stands = self.post_stands = stands
        self.entries: set[int] = set()

    @property
    def is_repost(self) -> bool:
        return hasattr(self, "post")

    def repost(self, bringer: Author, *, stands: bool) -> "Item":
        """This post as somebody else's repost brings it."""
        made = Item.__new__(Item)
        made.post = self
        made.post_position, made.post_id = self.post_position, self.post_id
        made.answers, made.product_ids = self.answers, self.product_ids
        made.author, made.author_id = self.author, self.author_id
        made.bringer, made.bringer_id = bringer, bringer.id
        made.stands, made.post_stands = stands, self.post_stands
        made.entries = set()
        made.plain = made.json(PLAIN)
        return made

    def json(self, flags: Flags) -> bytes:
        if self.is_repost:
            head = self.post.plain[:-TAIL_BYTES]
            return head + REPOST_TAILS[flags] + self.bringer.fragment + b"]}"
        return self.plain if flags == PLAIN else self.plain[:-TAIL_BYTES] + TAILS[flags]


class Items(ToldCache):
    """What entries of timelines show, by their positions, as of now."""

    def __init__(
        self, reads: Reads, keyring: Keyring, products: ProductCards, items_max: int = ITEMS_MAX
    ) -> None:
        super().__init__()
        self._reads = reads
        self._keyring = keyring
        self._products = products
        # What nobody is shown any more is kept apart, so that all in `shown` stands.
        self.shown: Generations[int, Item] = Generations(items_max)
        # The JSON alone, beside the items: most pages look at nothing else.
        self.fragments: Generations[int, bytes] = Generations(items_max)
        self._gone: Generations[int, Item] = Generations(items_max // 4)
        self._positions: Generations[int, int] = Generations(items_max)
        # Whatever the cache holds, or something in it refers to, is found here when it changes.
        self._posts: WeakValueDictionary[int, Item] = WeakValueDictionary()
        self._authors: WeakValueDictionary[int, Author] = WeakValueDictionary()
        # Which posts show a product; those no longer cached are forgotten with the product.
        self._showing: dict[str, set[int]] = {}
        self._loads: set[_Load] = set()
        self.loads = 0
        """How often a page needed what was not in memory."""

    # What the changes tell.

    def forget_all(self) -> None:
        self._told += 1
        for load in self._loads:
            load.keeping = False
        self.shown.clear()
        self.fragments.clear()
        self._gone.clear()
        self._positions.clear()
        self._posts.clear()
        self._authors.clear()
        self._showing.clear()

    def forget_posts(self, post_ids: Iterable[int]) -> None:
        for post_id in post_ids:
            self._told += 1
            item = self._posts.pop(post_id, None)
            if item is not None:
                self._drop((item.post_position, *item.entries))
            for load in self._loads:
                load.posts.add(post_id)

    def forget_members(self, member_ids: Iterable[int]) -> None:
        for member_id in member_ids:
            self._told += 1
            author = self._authors.pop(member_id, None)
            if author is not None:
                self.forget_posts(author.post_ids)
                self._drop(author.entries)
            for load in self._loads:
                load.members.add(member_id)

    def forget_products(self, product_ids: Collection[str]) -> None:
        """Forget the posts that show these products."""
        self._told += len(product_ids)
        for load in self._loads:
            load.products.update(product_ids)
        for product_id in product_ids:
            self.forget_posts(self._showing.pop(product_id, ()))

    def _drop(self, entries: Iterable[int]) -> None:
        for entry in entries:
            self.shown.drop(entry)
            self.fragments.drop(entry)
            self._gone.drop(entry)

    # What pages need.

    def get(self, entry: int) -> Item | None:
        found = self.shown.get(entry)
        if found is None:
            return self._gone.get(entry)
        if entry not in self.fragments.young:
            self.fragments.put(entry, found.plain)
        return found

    def _put(self, entry: int, item: Item) -> None:
        if item.stands and item.post_stands:
            self.shown.put(entry, item)
            self.fragments.put(entry, item.plain)
        else:
            self._gone.put(entry, item)

    async def load(
        self, positions: Collection[int] = (), entries: Collection[int] = ()
    ) -> Mapping[int, Item]:
        """Fetch posts by position and reposts by entry position, in one round trip; answers what
        there is of them, which serves the page that asked even where it is not kept."""
        return await self._fetched(positions=positions, entries=entries)

    async def by_id(self, post_ids: Sequence[int]) -> dict[int, Item]:
        """Posts by id; those there never were are left out."""
        known = {post_id: self._positions.get(post_id) for post_id in post_ids}
        found = {
            post_id: item
            for post_id, position in known.items()
            if position is not None and (item := self.get(position)) is not None
        }
        missing = [post_id for post_id in post_ids if post_id not in found]
        if missing:
            loaded = await self._fetched(post_ids=missing)
            found |= {item.post_id: item for item in loaded.values()}
        return found

    async def by_position(self, positions: Sequence[int]) -> dict[int, Item]:
        """Posts by position, from the cache where it has them."""
        found = {p: item for p in positions if (item := self.get(p)) is not None}
        missing = [position for position in positions if position not in found]
        if missing:
            found |= await self.load(missing)
        return found

    async def _fetched(
        self,
        positions: Collection[int] = (),
        post_ids: Collection[int] = (),
        entries: Collection[int] = (),
    ) -> Mapping[int, Item]:
        wanted = (frozenset(positions), frozenset(post_ids), frozenset(entries))
        return await self._together(wanted, lambda: self._fetch(positions, post_ids, entries))

    async def _fetch(
        self, positions: Collection[int], post_ids: Collection[int], entries: Collection[int]
    ) -> dict[int, Item]:
        load = _Load(self._keeping)
        self._loads.add(load)
        try:
            cards = await self._reads.cards(positions, post_ids, entries)
            drawing = Drawing(
                self._keyring, await prepare(cards, self._keyring, self._products.cards)
            )
        finally:
            self._loads.discard(load)
        authors = {row.member_id: self._author(drawing, row, load) for row in cards.members}
        loaded: dict[int, Item] = {}
        for post in cards.posts:
            if (author := authors.get(post.author_id)) is not None:
                loaded[post.position] = self._item(drawing, post, author, load)
        for row in cards.reposts:
            item, bringer = loaded.get(row.post_position), authors.get(row.author_id)
            if item is not None and bringer is not None:
                loaded[row.position] = self._repost(row, bringer, item, load)
        return loaded

    def _author(self, drawing: "Drawing", row: MemberRow, load: "_Load") -> Author:
        known = self._authors.get(row.member_id)
        if known is not None:
            return known
        if row.erased:
            # The key was destroyed by another process; ours must not outlive it.
            self._keyring.forget(id_text(row.member_id))
        author = drawing.author(row)
        if load.keeping and author.id not in load.members:
            self._authors[author.id] = author
        return author

    def _item(self, drawing: "Drawing", row: PostRow, author: Author, load: "_Load") -> Item:
        known = self._posts.get(row.post_id)
        current = known is not None and known.author is author
        item = known if known is not None and current else drawing.item(row, author)
        if current or load.keeps_post(row):
            for product_id in row.product_ids:
                self._showing.setdefault(product_id, set()).add(row.post_id)
            author.post_ids.add(row.post_id)
            self._posts[row.post_id] = item
            self._positions.put(row.post_id, row.position)
            self._put(row.position, item)
        return item

    def _repost(self, row: RepostRow, bringer: Author, item: Item, load: "_Load") -> Item:
        repost = item.repost(bringer, stands=row.until == OPEN)
        kept = self._posts.get(item.post_id) is item
        if kept and load.keeps(bringer.id) and item.post_id not in load.posts:
            item.entries.add(row.position)
            bringer.entries.add(row.position)
            self._put(row.position, repost)
        return repost


class _Load:
    """A load under way, and what changed in the meantime: it may have read from before that."""

    def __init__(self, keeping: bool) -> None:  # noqa: FBT001
        self.posts: set[int] = set()
        self.members: set[int] = set()
        self.products: set[str] = set()
        self.keeping = keeping

    def keeps(self, member_id: int) -> bool:
        """Whether what shows this member may be kept."""
        return self.keeping and member_id not in self.members

    def keeps_post(self, row: PostRow) -> bool:
        """Whether this post may be kept as it was read, with its author and its products."""
        unchanged = row.post_id not in self.posts and self.products.isdisjoint(row.product_ids)
        return unchanged and self.keeps(row.author_id)


LookUp = Callable[[Collection[str]], Awaitable[Mapping[str, ProductCard]]]


async def prepare(cards: Cards, keyring: Keyring, look_up: LookUp) -> Mapping[str, ProductCard]:
    """Bring into memory what drawing these cards needs: keys, and the products shown."""
    people = {row.author_id for row in cards.posts} | {row.member_id for row in cards.members}
    await keyring.fetch([id_text(person) for person in people])
    shown = {product for row in cards.posts for product in row.product_ids}
    return await look_up(shown) if shown else {}


class Drawing:
    """Makes what is shown out of rows; the keys of all persons concerned are in memory."""

    def __init__(self, keyring: Keyring, products: Mapping[str, ProductCard]) -> None:
        self._keyring = keyring
        self._products = products

    def card(self, row: MemberRow) -> AuthorCard:
        person = id_text(row.member_id)
        return AuthorCard(
            person,
            self._keyring.open(person, row.username),
            self._keyring.open(person, row.display_name),
            self._keyring.open(person, row.avatar_url),
        )

    def author(self, row: MemberRow) -> Author:
        return Author(row.member_id, self.card(row))

    def item(self, row: PostRow, author: Author, at: int = OPEN - 1) -> Item:
        """The post as of a position. What its author's erasure made unreadable never stands."""
        content = self._keyring.open(author.card.id, row.content)
        shown = FeedItem(
            post_id=id_text(row.post_id),
            author=author.card,
            content=content or "",
            media_urls=urls_in(self._keyring.open(author.card.id, row.media_urls)),
            products=[self._products[p] for p in row.product_ids if p in self._products],
            created_at=row.created_at,
            like_count=row.likes,
            repost_count=row.reposts,
            reply_count=row.replies,
            reply_to=UNSET if row.reply_to is None else id_text(row.reply_to),
            quote_of=UNSET if row.quote_of is None else id_text(row.quote_of),
        )
        stands = row.until > at and content is not None
        return Item(row, author, msgspec.json.encode(shown), stands=stands)
