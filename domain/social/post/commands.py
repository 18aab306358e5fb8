"""What can be asked of a post."""

from datetime import datetime
from typing import ClassVar

from msgspec import Struct

from domain.shared.message import Command
from domain.social.post.events import PostReference


class SeenPost(Struct, frozen=True, kw_only=True):
    """Another post, as the member who acts on it meets it: the facts that a command brings along.

    `position` is where it stands in the log; `root` the first post of its conversation, None where
    it is that one. `in_own_thread`: its author wrote it and all that it answers. `blocked`: its
    author and the member who acts are kept apart by a block, whoever of them blocks.
    """

    post_id: str
    author_id: str
    position: int
    root: PostReference | None = None
    in_own_thread: bool = True
    deleted: bool = False
    blocked: bool = False


class PublishPost(Command, frozen=True, kw_only=True):
    """`created_at` is set by an import to a moment in the past; None is now."""

    creates: ClassVar[bool] = True
    post_id: str
    author_id: str
    content: str
    media_urls: tuple[str, ...] = ()
    product_ids: tuple[str, ...] = ()
    reply_to: SeenPost | None = None
    quote_of: SeenPost | None = None
    created_at: datetime | None = None


class DeletePost(Command, frozen=True, kw_only=True):
    """`because_of` is `author`, or `erasure` where the author is erased."""

    post_id: str
    member_id: str
    because_of: str = "author"


PostCommand = PublishPost | DeletePost
