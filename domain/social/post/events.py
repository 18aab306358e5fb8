"""What can have happened to a post."""

from datetime import datetime
from typing import ClassVar

from msgspec import Struct, field

from domain.shared.message import Event
from domain.shared.personal import Personal


class PostReference(Struct, frozen=True):
    """Another post, and who wrote it: held in the event, so that no reader has to look it up."""

    post_id: str
    author_id: str


class PostPublished(Event, frozen=True, kw_only=True, tag="post.published.v1"):
    """`root` is the first post of the conversation; None where this post is that first one.

    `continues_thread`: a reply whose whole chain of parents was written by its own author.
    `media_urls_in_the_clear` is what was published before such URLs were sealed.
    `created_at` is what readers are shown; an import may set it to a moment before the event.
    """

    ordered_by: ClassVar[str] = "author_id"
    about: ClassVar[str] = "author_id"
    outlived: ClassVar[frozenset[str]] = frozenset({"media_urls_in_the_clear"})
    post_id: str
    author_id: str
    content: Personal[str]
    created_at: datetime
    media_urls: Personal[tuple[str, ...]] = field(default=Personal(()), name="media")
    media_urls_in_the_clear: tuple[str, ...] = field(default=(), name="media_urls")
    product_ids: tuple[str, ...] = ()
    reply_to: PostReference | None = None
    root: PostReference | None = None
    quote_of: PostReference | None = None
    continues_thread: bool = False


class PostDeleted(Event, frozen=True, kw_only=True, tag="post.deleted.v1"):
    """The record is kept; nobody is shown it any more. `because_of`: `author` or `erasure`."""

    ordered_by: ClassVar[str] = "author_id"
    post_id: str
    author_id: str
    reply_to: PostReference | None = None
    because_of: str = "author"


PostEvent = PostPublished | PostDeleted
