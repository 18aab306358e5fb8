"""What each event changes in the read tables."""

from datetime import UTC, datetime
from typing import Any

from domain.commerce.product.events import ProductWithdrawn
from domain.events import AnyEvent
from domain.shared.identifiers import id_number, id_text
from domain.social.engagement.events import (
    PostLiked,
    PostReposted,
    PostUnliked,
    RepostRemoved,
)
from domain.social.member.events import MemberErased, MemberRegistered, ProfileChanged
from domain.social.post.events import PostDeleted, PostPublished, PostReference
from domain.social.relation.events import Blocked, Followed, Muted, Unblocked, Unfollowed
from domain.social.session.events import SessionEnded
from infra.formats.personal_values import in_the_clear
from infra.ports.log import Recorded
from infra.ports.tables import Add, Blank, Change, Close, Insert, Revise
from infra.runtime.projecting.projection import Projection
from projections import SOCIAL, engagement, graph, members, posts, products, sessions
from tests.histories import sealed

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ADA, BOB, POST, PARENT = (id_text(number) for number in (1, 2, 70, 60))


def fold(projection: Projection, event: AnyEvent, position: int = 9) -> list[Change]:
    assert projection.folds(event)
    recorded = Recorded(stream="s", version=1, recorded_at=NOON, event=event, position=position)
    return list(projection.fold(recorded))


def published(**changes: Any) -> PostPublished:
    given = {"post_id": POST, "author_id": ADA, "content": sealed("text"), "created_at": NOON}
    return PostPublished(**{**given, **changes})


def row(reply: tuple[int | None, int | None] = (None, None), *, continues: bool) -> tuple[Any, ...]:
    quote = (None, None)
    return (70, 1, NOON, b"text", None, [], *reply, *reply, *quote, continues)


def test_a_follow_is_a_row_and_counts_on_both_sides() -> None:
    assert fold(graph.PROJECTION, Followed(follower_id=ADA, followee_id=BOB)) == [
        Insert(graph.FOLLOWS, (1, 2)),
        Add(graph.MEMBER_COUNTS, 2, (1, 0)),
        Add(graph.MEMBER_COUNTS, 1, (0, 1)),
    ]


def test_an_unfollow_ends_the_row_and_takes_both_counts_back() -> None:
    assert fold(graph.PROJECTION, Unfollowed(follower_id=ADA, followee_id=BOB)) == [
        Close(graph.FOLLOWS, (1, 2)),
        Add(graph.MEMBER_COUNTS, 2, (-1, 0)),
        Add(graph.MEMBER_COUNTS, 1, (0, -1)),
    ]


def test_a_block_and_a_mute_are_rows_of_their_kind() -> None:
    assert fold(graph.PROJECTION, Blocked(blocker_id=ADA, blocked_id=BOB)) == [
        Insert(graph.HIDES, (1, 2, "block"))
    ]
    assert fold(graph.PROJECTION, Muted(muter_id=ADA, muted_id=BOB)) == [
        Insert(graph.HIDES, (1, 2, "mute"))
    ]
    assert fold(graph.PROJECTION, Unblocked(blocker_id=ADA, blocked_id=BOB)) == [
        Close(graph.HIDES, (1, 2, "block"))
    ]


def test_a_post_is_a_row_an_entry_and_counts_for_its_author() -> None:
    assert fold(posts.PROJECTION, published()) == [
        Insert(posts.POSTS, row(continues=False)),
        Add(posts.AUTHOR_COUNTS, 1, (1,)),
        Insert(posts.ENTRIES, (1, 9, 70, 1, False)),
    ]


def test_media_published_in_the_clear_is_kept_as_what_is_sealed_is() -> None:
    urls = ("https://a.example/1",)
    assert posts.media(published(media_urls_in_the_clear=urls)) == in_the_clear(urls)
    assert posts.media(published(media_urls=sealed("urls"))) == b"urls"


def test_an_erasure_blanks_what_was_said_of_a_product_in_every_row() -> None:
    key = (id_number(ADA),)
    withdrawn = Revise(products.PRODUCTS, key, {"for_sale": False})
    assert fold(products.PROJECTION, ProductWithdrawn(product_id=ADA)) == [withdrawn]
    erased = ProductWithdrawn(product_id=ADA, because_of="erasure")
    texts = ("title", "description", "media_urls", "attributes")
    assert fold(products.PROJECTION, erased) == [
        withdrawn,
        Blank(products.PRODUCTS, key, texts),
    ]


def test_a_reply_to_others_is_no_entry_but_counts_for_the_post_it_answers() -> None:
    parent = PostReference(PARENT, BOB)
    assert fold(posts.PROJECTION, published(reply_to=parent, root=parent)) == [
        Insert(posts.POSTS, row((60, 2), continues=False)),
        Add(posts.AUTHOR_COUNTS, 1, (1,)),
        Add(posts.POST_COUNTS, 60, (1,)),
    ]


def test_a_reply_that_continues_its_authors_thread_is_an_entry() -> None:
    parent = PostReference(PARENT, ADA)
    event = published(reply_to=parent, root=parent, continues_thread=True)
    assert Insert(posts.ENTRIES, (1, 9, 70, 1, False)) in fold(posts.PROJECTION, event)


def test_a_deletion_ends_post_and_entry_and_takes_the_counts_back() -> None:
    event = PostDeleted(post_id=POST, author_id=ADA, reply_to=PostReference(PARENT, BOB))
    assert fold(posts.PROJECTION, event) == [
        Close(posts.POSTS, (70,)),
        Close(posts.ENTRIES, (1, 70, False)),
        Add(posts.AUTHOR_COUNTS, 1, (-1,)),
        Add(posts.POST_COUNTS, 60, (-1,)),
    ]


def test_a_repost_is_an_entry_of_who_reposts_and_no_post_of_theirs() -> None:
    names = {"post_id": POST, "author_id": ADA, "member_id": BOB}
    assert fold(posts.PROJECTION, PostReposted(**names, post_position=5)) == [
        Insert(posts.ENTRIES, (2, 5, 70, 1, True))
    ]
    assert fold(posts.PROJECTION, RepostRemoved(**names)) == [Close(posts.ENTRIES, (2, 70, True))]


def test_likes_and_reposts_are_rows_and_counts() -> None:
    names = {"post_id": POST, "author_id": ADA, "member_id": BOB}
    likes, reposts, counts = engagement.LIKES, engagement.REPOSTS, engagement.ENGAGEMENT_COUNTS
    expected: dict[AnyEvent, list[Change]] = {
        PostLiked(**names): [Insert(likes, (70, 2)), Add(counts, 70, (1, 0))],
        PostUnliked(**names): [Close(likes, (70, 2)), Add(counts, 70, (-1, 0))],
        PostReposted(**names, post_position=5): [
            Insert(reposts, (70, 2)),
            Add(counts, 70, (0, 1)),
        ],
        RepostRemoved(**names): [Close(reposts, (70, 2)), Add(counts, 70, (0, -1))],
    }
    for event, changes in expected.items():
        assert fold(engagement.PROJECTION, event) == changes


def test_personal_texts_stay_sealed_in_the_row_of_a_member() -> None:
    event = MemberRegistered(
        member_id=ADA,
        username_key="hash",
        username=sealed("ada"),
        display_name=sealed("Ada"),
        bio=sealed("Counts"),
        email=sealed("ada@example.org"),
        created_at=NOON,
    )
    assert fold(members.PROJECTION, event) == [
        Insert(members.MEMBERS, (1, "hash", b"ada", b"Ada", b"Counts", None, False, NOON, False))
    ]


def test_a_profile_change_revises_only_what_was_given() -> None:
    event = ProfileChanged(member_id=ADA, bio=sealed("new"))
    assert fold(members.PROJECTION, event) == [Revise(members.MEMBERS, (1,), {"bio": b"new"})]


def test_an_erasure_leaves_a_row_without_anything_personal_and_blanks_those_before() -> None:
    assert fold(members.PROJECTION, MemberErased(member_id=ADA)) == [
        Revise(members.MEMBERS, (1,), {**dict.fromkeys(members.PERSONAL), "erased": True}),
        Blank(members.MEMBERS, (1,), members.PERSONAL),
    ]


def test_an_ended_session_is_a_row() -> None:
    event = SessionEnded(session_id="s1", member_id=ADA, expires_at=NOON)
    assert fold(sessions.PROJECTION, event) == [Insert(sessions.ENDED_SESSIONS, ("s1", 1, NOON))]


def test_tables_of_all_projections_have_names_of_their_own() -> None:
    names = [table.name for projection in SOCIAL for table in projection.tables]
    assert len(names) == len(set(names))
    assert len({projection.name for projection in SOCIAL}) == len(SOCIAL)
