"""Where documents of search go, and which of them an event changes."""

from datetime import UTC, datetime
from typing import get_args

import msgspec
import pytest

from domain.commerce.stock.events import ReservationCommitted, StockReserved
from domain.shared.identifiers import id_text
from domain.shared.personal import Personal
from domain.social.engagement.events import PostLiked
from domain.social.member.events import MemberErased
from domain.social.post.events import PostDeleted, PostPublished, PostReference
from domain.social.relation.events import Followed
from infra.adapters.search.opensearch_index import BYTES_MAX, DOCUMENTS_MAX, chunks
from infra.adapters.search.postgres_documents import pairs
from infra.ports.log import Recorded
from infra.ports.search import Build, Touched, Write
from infra.ports.search_documents import INDICES, MEMBERS, POSTS, Document
from infra.runtime.indexing.search_filling import target_of
from projections.search import SEARCH, SEARCH_MEMBERS, SEARCH_POSTS, SEARCH_PRODUCTS

NOON = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
ONE, TWO, THREE = (id_text(number) for number in (1, 2, 3))


def recorded(event: object) -> Recorded:
    return Recorded(stream="s", version=1, recorded_at=NOON, event=event, position=9)  # type: ignore[arg-type]


def test_posts_are_sliced_by_the_month_of_their_making() -> None:
    assert POSTS.slice_of(3, NOON) == "plaza-posts-b3-2026-11"
    assert POSTS.slice_of(3, datetime(1999, 1, 1, tzinfo=UTC)) == "plaza-posts-b3-earlier"
    assert MEMBERS.slice_of(3, NOON) == "plaza-members-b3"


def test_a_slice_tells_its_build_and_another_index_does_not() -> None:
    assert POSTS.build_of("plaza-posts-b12-2026-11") == 12
    assert POSTS.build_of("plaza-postscript-b1") is None
    assert POSTS.build_of("plaza-posts-backup") is None


@pytest.mark.parametrize("name", INDICES)
def test_an_index_takes_exactly_the_fields_of_its_documents(name: str) -> None:
    index = INDICES[name]
    fields = [field.encode_name for field in msgspec.structs.fields(index.document)]
    assert fields == list(index.properties)
    assert index.document in get_args(Document)
    assert index.template()["template"]["mappings"]["dynamic"] == "strict"
    assert SEARCH[name].index is index


def test_a_reply_shows_at_once_and_its_count_later() -> None:
    parent = PostReference(TWO, THREE)
    published = PostPublished(
        post_id=ONE, author_id=TWO, content=Personal("x"), created_at=NOON, reply_to=parent
    )
    assert SEARCH_POSTS.touch(recorded(published)) == Touched((1,), (2,))
    deleted = PostDeleted(post_id=ONE, author_id=TWO, reply_to=parent)
    assert SEARCH_POSTS.touch(recorded(deleted)) == Touched((1,), (2,))


def test_numbers_may_come_later() -> None:
    liked = PostLiked(post_id=ONE, author_id=TWO, member_id=THREE)
    assert SEARCH_POSTS.touch(recorded(liked)) == Touched(later=(1,))
    followed = Followed(follower_id=ONE, followee_id=TWO)
    assert SEARCH_MEMBERS.touch(recorded(followed)) == Touched(later=(2,))
    reserved = StockReserved(product_id=ONE, reservation_id=TWO, quantity=1, expires_at=NOON)
    assert SEARCH_PRODUCTS.touch(recorded(reserved)) == Touched(later=(1,))
    committed = ReservationCommitted(product_id=ONE, reservation_id=TWO, quantity=1)
    assert SEARCH_PRODUCTS.touch(recorded(committed)) == Touched()


def test_an_erasure_touches_all_that_the_member_wrote() -> None:
    erased = recorded(MemberErased(member_id=ONE))
    assert SEARCH_POSTS.touch(erased) == Touched(author=1, erased=ONE)
    assert SEARCH_MEMBERS.touch(erased) == Touched((1,), erased=ONE)


def test_attributes_are_pairs_and_long_ones_are_left_out() -> None:
    assert pairs({"size": 42, "wet": True, "brand": "A=B", "about": "x" * 300}) == [
        "size=42",
        "wet=true",
        "brand=A=B",
    ]


def test_a_bulk_is_bounded_in_documents_and_bytes() -> None:
    small = [Write(str(number), NOON, 1, b"x") for number in range(DOCUMENTS_MAX + 1)]
    assert [len(part) for part in chunks(small)] == [DOCUMENTS_MAX, 1]
    large = [Write(str(number), NOON, 1, b"x" * (BYTES_MAX // 2)) for number in range(3)]
    assert [len(part) for part in chunks(large)] == [1, 1, 1]


def build(
    number: int, version: int = 1, status: str = "complete", *, served: bool = False
) -> Build:
    return Build(number, version, status, 0, 0, served)  # type: ignore[arg-type]


def test_events_go_to_the_build_that_is_served_if_it_is_of_this_version() -> None:
    assert target_of([], 1) is None
    live = build(1, served=True)
    assert target_of([live, build(2, status="filling")], 1) == live
    assert target_of([live], 2) is None
    filling = build(2, version=2, status="filling")
    assert target_of([live, filling], 2) == filling
    # What an operator has made and not switched to is not written behind their back.
    assert target_of([live, build(2, version=2)], 2) is None
    assert target_of([build(1)], 1) == build(1)
