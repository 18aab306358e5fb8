"""What the search indices hold: their documents, names, slices and mappings.

Texts come here as tokens that Plaza made itself (`infra.adapters.search.text_analysis`), joined
by spaces; the server only splits them again. So every server finds the same, and a query is cut
like a text. An index takes no other fields than these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from infra.ports.frames import COMMERCE_PARTITIONS, SOCIAL_PARTITIONS

ATTRIBUTE_LENGTH_MAX = 256
"""A longer pair `name=value` is no attribute that anybody filters by."""

SLICES_FROM_YEAR = 2020
EARLIEST_SLICE = "earlier"


class PostDocument(Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """`author` and `mentions` are user names in lower case, `tags` come without their sign.

    `stemmed` are the words of `text` in the stems of `language`; `position` is the post's own place
    in the log.
    """

    post_id: str
    author_id: str
    author: str
    created_at: int
    position: int
    language: str
    text: str
    stemmed: str
    tags: Sequence[str]
    mentions: Sequence[str]
    likes: int
    reposts: int
    replies: int

    @property
    def id(self) -> str:
        return self.post_id


class MemberDocument(Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """`words`: those of user name and display name, folded, for prefixes."""

    member_id: str
    username: str
    display_name: str
    words: Sequence[str]
    bio: str
    followers: int
    created_at: int
    position: int

    @property
    def id(self) -> str:
        return self.member_id


class ProductDocument(Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """A product that is for sale. `seller` is its shop's name as it is written, `shop_words` its
    words; `stemmed` the words of title and description in the stems of `language`.

    `price` is in minor units; `attributes` are pairs `name=value`, each as the seller gave it.
    """

    product_id: str
    shop_id: str
    seller_id: str
    seller: str
    shop_words: str
    language: str
    title: str
    description: str
    stemmed: str
    words: Sequence[str]
    category: str
    price: int
    currency: str
    available: bool
    attributes: Sequence[str]
    created_at: int
    position: int

    @property
    def id(self) -> str:
        return self.product_id


Document = PostDocument | MemberDocument | ProductDocument

KEYWORD = {"type": "keyword"}
LONG = {"type": "long"}
INTEGER = {"type": "integer"}
BOOLEAN = {"type": "boolean"}
MOMENT = {"type": "date", "format": "epoch_millis"}
TOKENS = {"type": "text", "analyzer": "whitespace"}
RANKED = {"type": "integer", "index": False}
"""A number that hits are ranked by; nobody asks which documents have one."""


def told(field: Mapping[str, Any]) -> Mapping[str, Any]:
    """A field that is read from documents found by others, and nothing more."""
    return {**field, "index": False, "doc_values": False}


SETTINGS = {
    "number_of_shards": 1,
    "auto_expand_replicas": "0-1",
    "refresh_interval": "1s",
    # A write that comes late must still meet the deletion that it is older than.
    "gc_deletes": "1h",
}


@dataclass(frozen=True)
class SearchIndex:
    """An index as readers see it: an alias over the slices of one build.

    Its name is also that of the projection that feeds it. Raise `version` when the documents or
    their mapping change: they are then written anew, beside those being served.
    """

    name: str
    alias: str
    version: int
    document: type[Document]
    id_field: str
    properties: Mapping[str, Mapping[str, Any]]
    partitions: range = SOCIAL_PARTITIONS
    sliced: bool = False

    @property
    def every_build(self) -> str:
        """A pattern that the slices of all builds fit, and nothing else."""
        return f"{self.alias}-b*"

    def build_name(self, build: int) -> str:
        return f"{self.alias}-b{build}"

    def slice_of(self, build: int, created_at: datetime | None) -> str:
        """The name of the index that holds what was created at this moment."""
        name = self.build_name(build)
        return f"{name}-{month_of(created_at)}" if self.sliced and created_at else name

    def build_of(self, slice_name: str) -> int | None:
        """The build that an index of this name belongs to, if it is one of ours."""
        prefix = f"{self.alias}-b"
        number = slice_name.removeprefix(prefix).partition("-")[0]
        return int(number) if slice_name.startswith(prefix) and number.isdecimal() else None

    def template(self) -> dict[str, Any]:
        """What every slice is made with, whoever makes it."""
        mappings = {
            "dynamic": "strict",
            "properties": self.properties,
            "_meta": {"version": self.version},
        }
        return {
            "index_patterns": [self.every_build],
            "template": {"settings": {"index": SETTINGS}, "mappings": mappings},
        }


def month_of(created_at: datetime) -> str:
    """Which slice a moment falls into; there are not many, whatever an import brings."""
    moment = created_at.astimezone(UTC)
    return f"{moment.year}-{moment.month:02}" if moment.year >= SLICES_FROM_YEAR else EARLIEST_SLICE


POSTS = SearchIndex(
    name="search_posts",
    alias="plaza-posts",
    version=3,
    document=PostDocument,
    id_field="postId",
    sliced=True,
    properties={
        "postId": KEYWORD,
        "authorId": told(KEYWORD),
        "author": KEYWORD,
        "createdAt": MOMENT,
        "position": told(LONG),
        "language": told(KEYWORD),
        "text": TOKENS,
        "stemmed": TOKENS,
        "tags": KEYWORD,
        "mentions": KEYWORD,
        "likes": RANKED,
        "reposts": RANKED,
        "replies": RANKED,
    },
)

MEMBERS = SearchIndex(
    name="search_members",
    alias="plaza-members",
    version=2,
    document=MemberDocument,
    id_field="memberId",
    properties={
        "memberId": KEYWORD,
        "username": KEYWORD,
        "displayName": TOKENS,
        "words": KEYWORD,
        "bio": TOKENS,
        "followers": INTEGER,
        "createdAt": told(MOMENT),
        "position": told(LONG),
    },
)

PRODUCTS = SearchIndex(
    name="search_products",
    alias="plaza-products",
    version=3,
    document=ProductDocument,
    id_field="productId",
    partitions=COMMERCE_PARTITIONS,
    properties={
        "productId": KEYWORD,
        "shopId": KEYWORD,
        "sellerId": told(KEYWORD),
        "seller": KEYWORD,
        "shopWords": TOKENS,
        "language": told(KEYWORD),
        "title": TOKENS,
        "description": TOKENS,
        "stemmed": TOKENS,
        "words": KEYWORD,
        "category": KEYWORD,
        "price": LONG,
        "currency": KEYWORD,
        "available": BOOLEAN,
        "attributes": KEYWORD,
        "createdAt": MOMENT,
        "position": told(LONG),
    },
)

INDICES: Mapping[str, SearchIndex] = {index.name: index for index in (POSTS, MEMBERS, PRODUCTS)}

PROGRESS = "plaza-search-progress"
"""One document a build, with its state, and one for each of its partitions."""

PROGRESS_TEMPLATE: Mapping[str, Any] = {
    "index_patterns": [PROGRESS],
    "template": {
        "settings": {"index": {**SETTINGS, "refresh_interval": "1s"}},
        "mappings": {
            "dynamic": "strict",
            "properties": {
                "version": INTEGER,
                "status": KEYWORD,
                "done": LONG,
                "total": LONG,
                "position": LONG,
            },
        },
    },
}

encode = msgspec.json.Encoder().encode
