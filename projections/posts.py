"""Posts, and what each account brings into timelines: its posts and its reposts, in log order.

A reply is an entry only where it continues its author's own thread. A repost stays an entry when
its post is deleted: the post's own row says that nobody is shown it any more.
"""

from collections.abc import Sequence
from typing import assert_never

from domain.shared.identifiers import known_id_number
from domain.social.engagement.events import PostReposted, RepostRemoved
from domain.social.post.events import PostDeleted, PostPublished, PostReference
from infra.formats.personal_values import in_the_clear
from infra.ports.log import Recorded
from infra.ports.tables import Add, Change, Close, Column, CountTable, Insert, RangeTable
from infra.runtime.projecting.projection import Projection

Handled = PostPublished | PostDeleted | PostReposted | RepostRemoved

POSTS = RangeTable(
    name="posts",
    columns=(
        Column("post_id", "bigint"),
        Column("author_id", "bigint"),
        Column("created_at", "timestamptz"),
        Column("content", "bytea", nullable=True),
        Column("media_urls", "bytea", nullable=True),
        Column("product_ids", "text[]"),
        Column("reply_to", "bigint", nullable=True),
        Column("reply_to_author", "bigint", nullable=True),
        Column("root", "bigint", nullable=True),
        Column("root_author", "bigint", nullable=True),
        Column("quote_of", "bigint", nullable=True),
        Column("quote_of_author", "bigint", nullable=True),
        Column("continues_thread", "boolean"),
    ),
    since="position",
    primary_key=("position",),
    key=("post_id",),
    unique=(("post_id",),),
    indexes=(
        "(author_id, position DESC)",
        "(reply_to, position) WHERE reply_to IS NOT NULL",
        "(root, position) WHERE root IS NOT NULL",
    ),
    touches=(("posts", "post_id"),),
)

ENTRIES = RangeTable(
    name="entries",
    columns=(
        Column("author_id", "bigint"),
        Column("post_position", "bigint"),
        Column("post_id", "bigint"),
        Column("post_author_id", "bigint"),
        Column("is_repost", "boolean"),
    ),
    since="position",
    primary_key=("author_id", "position"),
    key=("author_id", "post_id", "is_repost"),
    unique=(("position",),),
    indexes=("(post_id)",),
    touches=(("posts", "post_id"),),
)

POST_COUNTS = CountTable(
    name="post_counts", key="post_id", counts=("replies",), touches=(("posts", "post_id"),)
)

AUTHOR_COUNTS = CountTable(
    name="author_counts", key="author_id", counts=("posts",), touches=(("members", "author_id"),)
)

MORE, LESS = (1,), (-1,)


def fold(recorded: Recorded) -> Sequence[Change]:
    event: Handled = recorded.event  # type: ignore[assignment]
    match event:
        case PostPublished():
            return published(event, recorded.position)
        case PostDeleted():
            return deleted(event)
        case PostReposted():
            bringer = known_id_number(event.member_id)
            post_id, author_id = known_id_number(event.post_id), known_id_number(event.author_id)
            return (Insert(ENTRIES, (bringer, event.post_position, post_id, author_id, True)),)
        case RepostRemoved():
            key = (known_id_number(event.member_id), known_id_number(event.post_id), True)
            return (Close(ENTRIES, key),)
        case _:
            assert_never(event)


def published(event: PostPublished, position: int) -> Sequence[Change]:
    post_id, author_id = known_id_number(event.post_id), known_id_number(event.author_id)
    row = (
        post_id,
        author_id,
        event.created_at,
        event.content.sealed,
        media(event),
        list(event.product_ids),
        *numbers(event.reply_to),
        *numbers(event.root),
        *numbers(event.quote_of),
        event.continues_thread,
    )
    changes: list[Change] = [Insert(POSTS, row), Add(AUTHOR_COUNTS, author_id, MORE)]
    if event.reply_to is not None:
        changes.append(Add(POST_COUNTS, known_id_number(event.reply_to.post_id), MORE))
    if event.reply_to is None or event.continues_thread:
        changes.append(Insert(ENTRIES, (author_id, position, post_id, author_id, False)))
    return changes


def media(event: PostPublished) -> bytes | None:
    if event.media_urls_in_the_clear:
        return in_the_clear(event.media_urls_in_the_clear)
    return event.media_urls.sealed


def deleted(event: PostDeleted) -> Sequence[Change]:
    post_id, author_id = known_id_number(event.post_id), known_id_number(event.author_id)
    changes: list[Change] = [
        Close(POSTS, (post_id,)),
        Close(ENTRIES, (author_id, post_id, False)),
        Add(AUTHOR_COUNTS, author_id, LESS),
    ]
    if event.reply_to is not None:
        changes.append(Add(POST_COUNTS, known_id_number(event.reply_to.post_id), LESS))
    return changes


def numbers(reference: PostReference | None) -> tuple[int | None, int | None]:
    if reference is None:
        return None, None
    return known_id_number(reference.post_id), known_id_number(reference.author_id)


PROJECTION = Projection(
    name="posts",
    version=2,
    handles=frozenset({PostPublished, PostDeleted, PostReposted, RepostRemoved}),
    tables=(POSTS, ENTRIES, POST_COUNTS, AUTHOR_COUNTS),
    fold=fold,
)
