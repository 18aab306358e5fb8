"""The shapes of what is answered, as API.md fixes them; the contract is generated from them."""

from datetime import datetime
from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class AuthorCard(Struct, frozen=True, rename="camel"):
    """Who wrote or reposted something. The texts are null once the account is erased."""

    id: str
    username: str | None
    display_name: str | None
    avatar_url: str | None


class Money(Struct, frozen=True, rename="camel"):
    """An amount in minor units."""

    currency: str
    value: int


class ProductCard(Struct, frozen=True, rename="camel"):
    """A product as it is at the moment that the page shows: a post holds no more than its id."""

    product_id: str
    title: str
    price: Money
    available: int


Kind = Literal["post", "repost", "recommended", "sponsored", "product"]


class FeedItem(Struct, frozen=True, rename="camel", kw_only=True):
    """A post as readers see it. What differs from reader to reader stands at the end."""

    post_id: str
    author: AuthorCard
    content: str
    media_urls: list[str]
    products: list[ProductCard]
    created_at: datetime
    like_count: int
    repost_count: int
    reply_count: int
    reply_to: str | UnsetType = UNSET
    quote_of: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    liked: bool = False
    reposted: bool = False
    kind: Kind = "post"
    reposted_by: list[AuthorCard] | UnsetType = UNSET


class Profile(Struct, frozen=True, rename="camel", kw_only=True):
    """An account as readers see it; `following` says whether the reader follows it."""

    id: str
    username: str | None
    display_name: str | None
    bio: str | None
    avatar_url: str | None
    is_verified: bool
    follower_count: int
    following_count: int
    post_count: int
    following: bool | UnsetType = UNSET


class FeedPage(Struct, frozen=True, rename="camel", kw_only=True):
    posts: list[FeedItem]
    next_cursor: str | None
    has_more: bool
    degraded: bool | UnsetType = UNSET


class PostPage(Struct, frozen=True, rename="camel", kw_only=True):
    posts: list[FeedItem]
    next_cursor: str | None
    has_more: bool


class UserPage(Struct, frozen=True, rename="camel", kw_only=True):
    users: list[Profile]
    next_cursor: str | None
    has_more: bool
