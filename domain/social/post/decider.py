"""A post: published once, perhaps as a reply or a quote, and perhaps deleted by its author."""

from datetime import datetime
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.shared.decider import Decider
from domain.shared.personal import Personal
from domain.shared.rejection import Invalid
from domain.social.post import commands, events
from domain.social.post.commands import PostCommand, SeenPost
from domain.social.post.events import PostEvent, PostReference
from domain.social.post.rejections import NotTheAuthor, PostIdTaken, PostUnknown
from domain.social.post.values import check_content, check_media_urls, check_product_ids
from domain.social.relation.decider import Relation
from domain.social.relation.rejections import AcrossBlock


class Post(Struct, frozen=True):
    """`author_id` is empty until the post is published."""

    author_id: str = ""
    reply_to: PostReference | None = None
    root: PostReference | None = None
    in_own_thread: bool = True
    deleted: bool = False

    @property
    def exists(self) -> bool:
        return bool(self.author_id) and not self.deleted


def see(post_id: str, post: Post, position: int, relation: Relation) -> SeenPost:
    """The facts about a post at `position`, for a member in this relation to its author.

    Raises `PostUnknown` where there never was such a post.
    """
    if not post.author_id:
        raise PostUnknown(post_id)
    return SeenPost(
        post_id=post_id,
        author_id=post.author_id,
        position=position,
        root=post.root,
        in_own_thread=post.in_own_thread,
        deleted=post.deleted,
        blocked=bool(relation.blocking),
    )


def require_open(post: SeenPost) -> None:
    """Raises where the member who acts may not answer, quote, like or repost this post."""
    if post.deleted:
        raise PostUnknown(post.post_id)
    if post.blocked:
        raise AcrossBlock(post.author_id)


def decide(command: PostCommand, post: Post, now: datetime) -> list[PostEvent]:
    match command:
        case commands.PublishPost():
            return publish(command, post, now)
        case commands.DeletePost():
            return delete(command, post)
        case _:
            assert_never(command)


def publish(command: commands.PublishPost, post: Post, now: datetime) -> list[PostEvent]:
    check_content(command.content)
    if command.media_urls:
        check_media_urls(command.media_urls)
    if command.product_ids:
        check_product_ids(command.product_ids)
    created_at = command.created_at or now
    if created_at > now:
        raise Invalid("/createdAt", "must not be in the future")
    if post.author_id:
        raise PostIdTaken(command.post_id)
    parent, quoted = command.reply_to, command.quote_of
    for other in (parent, quoted):
        if other is not None:
            require_open(other)
    return [
        events.PostPublished(
            post_id=command.post_id,
            author_id=command.author_id,
            content=Personal(command.content),
            created_at=created_at,
            media_urls=Personal(command.media_urls),
            product_ids=command.product_ids,
            reply_to=reference(parent) if parent else None,
            root=root_of(parent) if parent else None,
            quote_of=reference(quoted) if quoted else None,
            continues_thread=parent is not None and continues(command.author_id, parent),
        )
    ]


def reference(post: SeenPost) -> PostReference:
    return PostReference(post.post_id, post.author_id)


def root_of(parent: SeenPost) -> PostReference:
    return parent.root or reference(parent)


def continues(author_id: str, parent: SeenPost) -> bool:
    return parent.author_id == author_id and parent.in_own_thread


def delete(command: commands.DeletePost, post: Post) -> list[PostEvent]:
    if not post.author_id:
        raise PostUnknown(command.post_id)
    if post.author_id != command.member_id:
        raise NotTheAuthor(command.post_id)
    if post.deleted:
        return []
    return [
        events.PostDeleted(
            post_id=command.post_id,
            author_id=post.author_id,
            reply_to=post.reply_to,
            because_of=command.because_of,
        )
    ]


def evolve(post: Post, event: PostEvent) -> Post:
    match event:
        case events.PostPublished():
            return Post(
                author_id=event.author_id,
                reply_to=event.reply_to,
                root=event.root,
                in_own_thread=event.reply_to is None or event.continues_thread,
            )
        case events.PostDeleted():
            return replace(post, deleted=True)
        case _:
            assert_never(event)


def post_stream(post_id: str) -> str:
    return f"post:{post_id}"


POST = Decider(
    prefix="post",
    stream=lambda command: post_stream(command.post_id),
    initial=Post(),
    decide=decide,
    evolve=evolve,
)
