"""Which hashtags each post uses, at every position: what trends, and what is offered as you type.

The only table made from what personal texts say. So what a member's texts said is removed with the
member, and a text whose key is gone has no tags: a table built anew holds the same.
"""

from collections.abc import Sequence
from typing import assert_never, get_args

from domain.shared.identifiers import known_id_number
from domain.shared.text import hashtags
from domain.social.member.events import MemberErased
from domain.social.post.events import PostDeleted, PostPublished
from infra.ports.log import OPEN, Recorded
from infra.ports.tables import Change, Close, Column, Forget, Insert, RangeTable, Table
from infra.runtime.projecting.projection import Projection, TextOf

Handled = PostPublished | PostDeleted | MemberErased

TAGS_MAX = 30
"""A post with more of them counts for its first ones: it is not about that many things."""

TAGGED_POSTS = RangeTable(
    name="tagged_posts",
    columns=(
        Column("post_id", "bigint"),
        Column("author_id", "bigint"),
        Column("created_at", "timestamptz"),
        Column("tags", "text[]"),
    ),
    since="position",
    primary_key=("position",),
    # Found by author too, which one index serves: each costs a post more than finding its tags.
    key=("author_id", "post_id"),
    revisable=True,
    unique=(("author_id", "post_id"),),
    indexes=(f"(until) WHERE until < {OPEN}",),
)

FORGOTTEN = Table(
    name="forgotten",
    columns=(Column("author_id", "bigint"),),
    since="position",
    primary_key=("author_id", "position"),
    indexes=("(position)",),
)
"""Whose rows were removed, and when: whoever counts what is new would not notice."""


def fold(text_of: TextOf, recorded: Recorded) -> Sequence[Change]:
    event: Handled = recorded.event  # type: ignore[assignment]
    match event:
        case PostPublished():
            return published(event, text_of)
        case PostDeleted(because_of="erasure"):
            # It may have been published just after its author was erased, and just before the key
            # was gone.
            return forgotten(known_id_number(event.author_id))
        case PostDeleted():
            key = known_id_number(event.author_id), known_id_number(event.post_id)
            return (Close(TAGGED_POSTS, key),)
        case MemberErased():
            return forgotten(known_id_number(event.member_id))
        case _:
            assert_never(event)


def published(event: PostPublished, text_of: TextOf) -> Sequence[Change]:
    tags = hashtags(text_of(event.author_id, event.content) or "")
    if not tags:
        return ()
    post_id, author_id = known_id_number(event.post_id), known_id_number(event.author_id)
    row = (post_id, author_id, event.created_at, list(tags[:TAGS_MAX]))
    return (Insert(TAGGED_POSTS, row),)


def forgotten(author_id: int) -> Sequence[Change]:
    return Forget(TAGGED_POSTS, "author_id", author_id), Insert(FORGOTTEN, (author_id,))


PROJECTION = Projection(
    name="tags",
    version=2,
    handles=frozenset(get_args(Handled)),
    tables=(TAGGED_POSTS, FORGOTTEN),
    fold_texts=fold,
)
