"""What can be looked for, and the port of what finds it: ids in an order, and counts.

An index is behind the log and knows nothing of who asks. So what it finds are candidates: pages
read them from the read tables, and drop what the reader may not see.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

Kind = Literal["posts", "users", "products"]
ProductOrder = Literal["relevance", "price", "price_desc", "newest"]


class SearchUnanswered(Exception):
    """The search server cannot be reached, did not answer in time, or is being left alone.

    `retry_seconds`: before that, asking again is in vain.
    """

    def __init__(self, why: str, retry_seconds: int = 1) -> None:
        super().__init__(why)
        self.retry_seconds = retry_seconds


@dataclass(frozen=True)
class Terms:
    """What a text has or has not, case-folded as by `domain.shared.text`.

    A phrase is a run of words in this order; a single word in one is not stemmed. `authors` and
    `mentions` are user names.
    """

    words: tuple[str, ...] = ()
    phrases: tuple[tuple[str, ...], ...] = ()
    tags: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.words or self.phrases or self.tags or self.mentions or self.authors)


NOTHING = Terms()


@dataclass(frozen=True)
class Query:
    """All of `wanted` (of the authors, one of them), nothing of `unwanted`, at or after `since` and
    before `until`. Of the words wanted those in `misspelt` may be, by a letter or two.

    `most`: one of the single words may be missing, but never all.
    """

    wanted: Terms = NOTHING
    unwanted: Terms = NOTHING
    since: datetime | None = None
    until: datetime | None = None
    misspelt: tuple[str, ...] = ()
    most: bool = False

    @property
    def spoken(self) -> tuple[str, ...]:
        """All single words wanted, with a sign before them or not."""
        return (*self.wanted.words, *self.wanted.tags, *self.wanted.mentions)

    @property
    def guesses(self) -> int:
        """Which words may be misspelt, as a number: a bit for each of `spoken`."""
        return sum(1 << at for at, word in enumerate(self.spoken) if word in self.misspelt)

    def guessing(self, guesses: int) -> "Query":
        """The same query with these words perhaps misspelt."""
        misspelt = tuple(word for at, word in enumerate(self.spoken) if guesses >> at & 1)
        return replace(self, misspelt=misspelt)

    @property
    def is_text(self) -> bool:
        """Whether some posts match better than others, and not just or just not."""
        return bool(self.wanted.words or self.wanted.phrases)


ANYTHING = Query()


@dataclass(frozen=True)
class PostRanking:
    """How posts are ordered: the product of text score, recency and engagement.

    Recency is 1 + `recency_weight` for a post of now; what it is above 1 halves every
    `half_life_days`. Engagement is 1 + `engagement_weight` times the sum of ln(1 + n), where n is
    the number of likes, of reposts and of replies.
    """

    half_life_days: float = 3.0
    recency_weight: float = 4.0
    engagement_weight: float = 0.1


@dataclass(frozen=True)
class ProductFilters:
    """Which of the products that match are listed. Empty or None where it does not matter.

    Prices are in minor units, inclusive. Of the values of one attribute one has to hold, and of
    each attribute named.
    """

    category: str | None = None
    shop_id: str | None = None
    price_min: int | None = None
    price_max: int | None = None
    available: bool | None = None
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Choice(NamedTuple):
    value: str
    products: int


class PriceRange(NamedTuple):
    """From one price up to another, both inclusive; None: without an end."""

    low: int
    high: int | None
    products: int


class ShopChoice(NamedTuple):
    shop_id: str
    name: str
    products: int


@dataclass(frozen=True)
class Facets:
    """How many products each choice would leave, were it the only one of its kind.

    `attributes` are by name, most used first.
    """

    categories: Sequence[Choice] = ()
    prices: Sequence[PriceRange] = ()
    available: int = 0
    unavailable: int = 0
    shops: Sequence[ShopChoice] = ()
    attributes: Mapping[str, Sequence[Choice]] = field(default_factory=dict)


class ProductPlace(NamedTuple):
    """A place in a list of products: that of this product, which had this price."""

    product_id: int
    price: int


@dataclass(frozen=True)
class FoundProducts:
    """Products in order; `matching` counts what the words alone find, whatever the filters."""

    places: Sequence[ProductPlace]
    matching: int
    facets: Facets | None = None


class IndexState(NamedTuple):
    """Up to which log position an index has been told everything, and how much of what there was
    when it was begun is `filled` (0 to 1)."""

    position: int
    filled: float

    @property
    def complete(self) -> bool:
        return self.filled >= 1


class SearchReads(Protocol):
    """The indices. Every method raises `SearchUnanswered`; the newest ids are the greatest."""

    async def best_posts(
        self, query: Query, now: datetime, limit: int, without: Collection[int] = ()
    ) -> Sequence[int]:
        """The posts that match, best first as of a moment."""
        ...

    async def newest_posts(
        self, query: Query, before: int, limit: int, without: Collection[int] = ()
    ) -> Sequence[int]:
        """The posts that match and whose id is less, newest first."""
        ...

    async def best_members(
        self, query: Query, limit: int, without: Collection[int] = ()
    ) -> Sequence[int]: ...

    async def newest_members(
        self, query: Query, before: int, limit: int, without: Collection[int] = ()
    ) -> Sequence[int]: ...

    async def products(  # noqa: PLR0913
        self,
        query: Query,
        filters: ProductFilters,
        order: ProductOrder,
        limit: int,
        *,
        after: ProductPlace | None = None,
        without: Collection[int] = (),
        facets: bool = False,
    ) -> FoundProducts:
        """The products for sale that match; in the order of relevance there is no `after`."""
        ...

    async def members_named(
        self, prefixes: Sequence[str], limit: int, among: Collection[int] | None = None
    ) -> Sequence[int]:
        """Members in whose names each of these begins a word, most followed first."""
        ...

    async def products_named(self, prefixes: Sequence[str], limit: int) -> Sequence[int]:
        """Products in whose titles each of these begins a word, newest first."""
        ...

    async def unknown(self, kind: Kind, query: Query) -> Sequence[str]:
        """Those words wanted of the query that nothing has in any form, and that may be misspelt:
        others are too short, or are tags or names where these are exact."""
        ...

    async def state(self, kind: Kind) -> IndexState: ...

    async def refresh(self, kind: Kind) -> None:
        """Have everything found that the index has been told."""
        ...
