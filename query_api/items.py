"""The local cache of posts, as readers are shown them: JSON made once, flags added per reader.

Nothing cached outlives its truth: a change that the projections tell of marks what it touched
stale, and while nobody tells us of changes nothing is kept. Stale marks stand on the objects
themselves, so that a repost knows that its post has changed, and a post that its author has.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakValueDictionary

import msgspec
from msgspec import UNSET

from domain.shared.identifiers import id_text
from infra.ports import OPEN, Keyring
from infra.reads import Cards, MemberRow, PostRow, Reads
from query_api.generations import Generations
from query_api.shapes import AuthorCard, FeedItem, ProductCard

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


class NoProducts:
    """There is no catalogue: posts are shown without products."""

    async def cards(self, product_ids: Collection[str]) -> Mapping[str, ProductCard]:
        del product_ids
        return {}


class Author:
    __slots__ = ("__weakref__", "card", "fragment", "id", "stale")

    def __init__(self, number: int, card: AuthorCard) -> None:
        self.id = number
        self.card = card
        self.fragment = msgspec.json.encode(card)
        self.stale = False


class Item:
    """A post. `plain` is its JSON for a reader who neither likes nor has reposted it.

    `answers` tells a reply. `stands` is False once it is deleted, or its author's key destroyed.
    """

    __slots__ = (
        "__weakref__", "answers", "author", "plain", "position", "post_id", "product_ids", "stale",
        "stands",
    )  # fmt: skip

    def __init__(self, row: PostRow, author: Author, plain: bytes, *, stands: bool) -> None:
        self.position = row.position
        self.post_id = row.post_id
        self.answers = row.reply_to is not None
        self.product_ids = tuple(row.product_ids)
        self.author = author
        self.plain = plain
        self.stands = stands
        self.stale = False

    @property
    def current(self) -> bool:
        return not (self.stale or self.author.stale)

    def json(self, flags: Flags) -> bytes:
        return self.plain if flags == PLAIN else self.plain[:-TAIL_BYTES] + TAILS[flags]


class Repost:
    """A repost as an entry of timelines; `stands` is False once it is taken back."""

    __slots__ = ("author", "item", "plain", "position", "post_id", "stands")

    def __init__(self, position: int, author: Author, item: Item, *, stands: bool) -> None:
        self.position = position
        self.author = author
        self.item = item
        self.post_id = item.post_id
        self.stands = stands
        self.plain = self.json(PLAIN)

    @property
    def current(self) -> bool:
        return self.item.current and not self.author.stale

    def json(self, flags: Flags) -> bytes:
        head = self.item.plain[:-TAIL_BYTES]
        return head + REPOST_TAILS[flags] + self.author.fragment + b"]}"


class Items:
    """Posts by position, reposts by the position of their entry, all as of now."""

    def __init__(
        self, reads: Reads, keyring: Keyring, products: ProductCards, items_max: int = ITEMS_MAX
    ) -> None:
        self._reads = reads
        self._keyring = keyring
        self._products = products
        self.posts: Generations[int, Item] = Generations(items_max)
        self.reposts: Generations[int, Repost] = Generations(items_max // 4)
        self._positions: Generations[int, int] = Generations(items_max)
        # Whatever is alive can be found here and marked stale, also what the caches have forgotten
        # but something that they hold still refers to.
        self._alive: WeakValueDictionary[int, Item] = WeakValueDictionary()
        self._authors: WeakValueDictionary[int, Author] = WeakValueDictionary()
        self._loads: set[_Load] = set()
        self._keeping = False

    # What the changes tell.

    def begin(self) -> None:
        """Keep what is loaded from now on: changes are being told."""
        self._keeping = True

    def end(self) -> None:
        """Forget everything and keep nothing: changes are no longer told."""
        self._keeping = False
        self.forget_all()

    def forget_all(self) -> None:
        for item in list(self._alive.values()):
            item.stale = True
        for author in list(self._authors.values()):
            author.stale = True
        for load in self._loads:
            load.keeping = False
        self.posts.clear()
        self.reposts.clear()
        self._positions.clear()
        self._alive.clear()
        self._authors.clear()

    def forget_posts(self, post_ids: Iterable[int]) -> None:
        for post_id in post_ids:
            item = self._alive.pop(post_id, None)
            if item is not None:
                item.stale = True
            for load in self._loads:
                load.posts.add(post_id)

    def forget_members(self, member_ids: Iterable[int]) -> None:
        for member_id in member_ids:
            author = self._authors.pop(member_id, None)
            if author is not None:
                author.stale = True
            for load in self._loads:
                load.members.add(member_id)

    def forget_products(self, product_ids: Collection[str]) -> None:
        """Forget the posts that show these products."""
        wanted = set(product_ids)
        showing = [i.post_id for i in list(self._alive.values()) if wanted & {*i.product_ids}]
        self.forget_posts(showing)

    # What pages need.

    def post(self, position: int) -> Item | None:
        item = self.posts.young.get(position) or self.posts.get(position)
        if item is None or item.stale or item.author.stale:
            return None
        return item

    def repost(self, position: int) -> Repost | None:
        repost = self.reposts.young.get(position) or self.reposts.get(position)
        if repost is None:
            return None
        item = repost.item
        if item.stale or item.author.stale or repost.author.stale:
            return None
        return repost

    async def load(
        self, positions: Collection[int] = (), entries: Collection[int] = ()
    ) -> "Loaded":
        """Fetch posts by position and reposts by entry position, in one round trip.

        What nobody has heard of is left out of the answer, and asked for again next time.
        """
        return await self._fetch(positions=positions, entries=entries)

    async def by_id(self, post_ids: Sequence[int]) -> dict[int, Item]:
        """Posts by id; those there never were are left out."""
        found: dict[int, Item] = {}
        missing: list[int] = []
        for post_id in post_ids:
            position = self._positions.get(post_id)
            item = None if position is None else self.post(position)
            if item is None:
                missing.append(post_id)
            else:
                found[post_id] = item
        if missing:
            loaded = await self._fetch(post_ids=missing)
            found |= {item.post_id: item for item in loaded.posts.values()}
        return found

    async def by_position(self, positions: Sequence[int]) -> dict[int, Item]:
        """Posts by position, from the cache where it has them."""
        found = {p: item for p in positions if (item := self.post(p)) is not None}
        missing = [position for position in positions if position not in found]
        return found | (await self.load(missing)).posts if missing else found

    async def _fetch(
        self,
        positions: Collection[int] = (),
        post_ids: Collection[int] = (),
        entries: Collection[int] = (),
    ) -> "Loaded":
        load = _Load(self._keeping)
        self._loads.add(load)
        try:
            cards = await self._reads.cards(positions, post_ids, entries)
            drawing = Drawing(self._keyring, await prepare(cards, self._keyring, self._products))
        finally:
            self._loads.discard(load)
        authors = {row.member_id: self._author(drawing, row, load) for row in cards.members}
        loaded = Loaded({}, {})
        for post in cards.posts:
            if (author := authors.get(post.author_id)) is not None:
                loaded.posts[post.position] = self._item(drawing, post, author, load)
        for row in cards.reposts:
            item, author = loaded.posts.get(row.post_position), authors.get(row.author_id)
            if item is not None and author is not None:
                repost = Repost(row.position, author, item, stands=row.until == OPEN)
                loaded.reposts[row.position] = repost
                if load.keeping and repost.current:
                    self.reposts.put(row.position, repost)
        return loaded

    def _author(self, drawing: "Drawing", row: MemberRow, load: "_Load") -> Author:
        known = self._authors.get(row.member_id)
        if known is not None:
            return known
        if row.erased:
            # The key was destroyed by another process; ours must not outlive it.
            self._keyring.forget(id_text(row.member_id))
        author = drawing.author(row)
        author.stale = row.member_id in load.members
        if load.keeping and not author.stale:
            self._authors[author.id] = author
        return author

    def _item(self, drawing: "Drawing", row: PostRow, author: Author, load: "_Load") -> Item:
        known = self._alive.get(row.post_id)
        if known is not None and known.author is author:
            item = known
        else:
            item = drawing.item(row, author)
            item.stale = row.post_id in load.posts
        if load.keeping and item.current:
            self.posts.put(row.position, item)
            self._positions.put(row.post_id, row.position)
            self._alive[row.post_id] = item
        return item


@dataclass(frozen=True)
class Loaded:
    """What a load found: also what is stale already is good enough for the page that asked."""

    posts: dict[int, Item]
    reposts: dict[int, Repost]


class _Load:
    """A load under way, and what changed in the meantime: it may have read from before that."""

    def __init__(self, keeping: bool) -> None:  # noqa: FBT001
        self.posts: set[int] = set()
        self.members: set[int] = set()
        self.keeping = keeping


async def prepare(
    cards: Cards, keyring: Keyring, products: ProductCards
) -> Mapping[str, ProductCard]:
    """Bring into memory what drawing these cards needs: keys, and the products shown."""
    people = {row.author_id for row in cards.posts} | {row.member_id for row in cards.members}
    await keyring.fetch([id_text(person) for person in people])
    shown = {product for row in cards.posts for product in row.product_ids}
    return await products.cards(shown) if shown else {}


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
            media_urls=list(row.media_urls),
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
