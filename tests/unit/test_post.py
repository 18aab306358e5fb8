"""The rules of posts, one sentence per test."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from domain.shared.identifiers import make_id
from domain.shared.personal import Personal
from domain.shared.rejection import Invalid
from domain.social.post.commands import DeletePost, PublishPost, SeenPost
from domain.social.post.decider import POST, Post, see
from domain.social.post.events import PostDeleted, PostPublished, PostReference
from domain.social.post.rejections import NotTheAuthor, PostIdTaken, PostUnknown
from domain.social.relation.decider import Relation
from domain.social.relation.rejections import AcrossBlock
from tests.unit.spec import Spec

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

PUBLISH = PublishPost(post_id="p1", author_id="ann", content="Hello")
PUBLISHED = PostPublished(post_id="p1", author_id="ann", content=Personal("Hello"), created_at=NOON)
DELETE = DeletePost(post_id="p1", member_id="ann")
DELETED = PostDeleted(post_id="p1", author_id="ann")

ROOT = PostReference("root", "cleo")
BOBS = SeenPost(post_id="b1", author_id="bob", position=7)
ANNS = SeenPost(post_id="a1", author_id="ann", position=8)

post = Spec(POST)


def test_publishing_records_who_wrote_what_and_when() -> None:
    post.given().when(PUBLISH, at=NOON).then(PUBLISHED)


def test_an_import_may_date_a_post_back() -> None:
    before = NOON - timedelta(days=400)
    post.given().when(replace(PUBLISH, created_at=before), at=NOON).then(
        replace(PUBLISHED, created_at=before)
    )


def test_a_post_is_not_from_the_future() -> None:
    later = NOON + timedelta(seconds=1)
    post.given().when(replace(PUBLISH, created_at=later), at=NOON).then_rejected(
        Invalid("/createdAt", "must not be in the future")
    )


def test_a_post_id_is_used_once() -> None:
    post.given(PUBLISHED).when(PUBLISH, at=NOON).then_rejected(PostIdTaken("p1"))
    post.given(PUBLISHED, DELETED).when(PUBLISH, at=NOON).then_rejected(PostIdTaken("p1"))


@pytest.mark.parametrize("content", ["x", "x" * 500, "😀" * 500, " ", "a\nb", "\U0010ffff"])
def test_content_of_1_to_500_code_points_is_good(content: str) -> None:
    post.given().when(replace(PUBLISH, content=content), at=NOON).then(
        replace(PUBLISHED, content=Personal(content))
    )


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        ("", "must have 1 to 500 characters"),
        ("x" * 501, "must have 1 to 500 characters"),
        ("😀" * 501, "must have 1 to 500 characters"),
        ("a\0b", "must not contain NUL"),
        ("a\ud800b", "must not contain a lone surrogate"),
        ("\udfff", "must not contain a lone surrogate"),
    ],
)
def test_other_content_is_refused(content: str, detail: str) -> None:
    post.given().when(replace(PUBLISH, content=content), at=NOON).then_rejected(
        Invalid("/content", detail)
    )


def test_media_and_products_are_references() -> None:
    urls = tuple(f"https://media.example.org/{number}.jpg" for number in range(4))
    products = tuple(make_id(1_800_000_000_000, number) for number in range(5))
    post.given().when(replace(PUBLISH, media_urls=urls, product_ids=products), at=NOON).then(
        replace(PUBLISHED, media_urls=Personal(urls), product_ids=products)
    )


URL = "https://example.org/a.jpg"
PRODUCT = make_id(1_800_000_000_000, 1)


@pytest.mark.parametrize(
    ("urls", "pointer"),
    [
        ((URL,) * 5, "/mediaUrls"),
        (("http://example.org/a.jpg",), "/mediaUrls/0"),
        ((URL, "javascript:alert(1)"), "/mediaUrls/1"),
        ((URL, ""), "/mediaUrls/1"),
        (("https:///a.jpg",), "/mediaUrls/0"),
        (("https://example.org/a\0.jpg",), "/mediaUrls/0"),
        (("https://example.org/" + "a" * 1_000,), "/mediaUrls/0"),
    ],
)
def test_media_are_at_most_4_https_urls(urls: tuple[str, ...], pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        POST.decide(replace(PUBLISH, media_urls=urls), Post(), NOON)
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    ("products", "pointer"),
    [
        ((PRODUCT,) * 6, "/productIds"),
        ((PRODUCT, "mug"), "/productIds/1"),
        ((PRODUCT.upper(),), "/productIds/0"),
        (("v" * 13,), "/productIds/0"),
    ],
)
def test_products_are_at_most_5_ids(products: tuple[str, ...], pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        POST.decide(replace(PUBLISH, product_ids=products), Post(), NOON)
    assert refused.value.pointer == pointer


def test_the_first_reply_makes_its_parent_the_root() -> None:
    post.given().when(replace(PUBLISH, reply_to=BOBS), at=NOON).then(
        replace(PUBLISHED, reply_to=PostReference("b1", "bob"), root=PostReference("b1", "bob"))
    )


def test_a_reply_to_a_reply_keeps_the_root() -> None:
    parent = replace(BOBS, root=ROOT, in_own_thread=False)
    post.given().when(replace(PUBLISH, reply_to=parent), at=NOON).then(
        replace(PUBLISHED, reply_to=PostReference("b1", "bob"), root=ROOT)
    )


def test_a_reply_continues_a_thread_that_its_author_wrote_alone() -> None:
    reference = PostReference("a1", "ann")
    post.given().when(replace(PUBLISH, reply_to=ANNS), at=NOON).then(
        replace(PUBLISHED, reply_to=reference, root=reference, continues_thread=True)
    )


def test_a_reply_to_ones_own_reply_to_somebody_else_continues_no_thread() -> None:
    parent = replace(ANNS, root=ROOT, in_own_thread=False)
    post.given().when(replace(PUBLISH, reply_to=parent), at=NOON).then(
        replace(PUBLISHED, reply_to=PostReference("a1", "ann"), root=ROOT)
    )


def test_a_quote_names_the_quoted_post_and_begins_a_conversation_of_its_own() -> None:
    post.given().when(replace(PUBLISH, quote_of=BOBS), at=NOON).then(
        replace(PUBLISHED, quote_of=PostReference("b1", "bob"))
    )


@pytest.mark.parametrize("way", ["reply_to", "quote_of"])
def test_a_deleted_post_is_neither_answered_nor_quoted(way: str) -> None:
    gone = replace(BOBS, deleted=True)
    post.given().when(replace(PUBLISH, **{way: gone}), at=NOON).then_rejected(PostUnknown("b1"))


@pytest.mark.parametrize("way", ["reply_to", "quote_of"])
def test_nobody_answers_or_quotes_across_a_block(way: str) -> None:
    apart = replace(BOBS, blocked=True)
    post.given().when(replace(PUBLISH, **{way: apart}), at=NOON).then_rejected(AcrossBlock("bob"))


def test_its_author_can_delete_a_post() -> None:
    post.given(PUBLISHED).when(DELETE, at=NOON).then(DELETED)


def test_deleting_again_records_nothing() -> None:
    post.given(PUBLISHED, DELETED).when(DELETE, at=NOON).then_nothing()


def test_the_deletion_of_a_reply_names_what_it_answered() -> None:
    parent = PostReference("b1", "bob")
    reply = replace(PUBLISHED, reply_to=parent, root=parent)
    post.given(reply).when(DELETE, at=NOON).then(replace(DELETED, reply_to=parent))


def test_a_deletion_by_erasure_says_so() -> None:
    post.given(PUBLISHED).when(replace(DELETE, because_of="erasure"), at=NOON).then(
        replace(DELETED, because_of="erasure")
    )


def test_nobody_else_can_delete_a_post() -> None:
    others = replace(DELETE, member_id="bob")
    post.given(PUBLISHED).when(others, at=NOON).then_rejected(NotTheAuthor("p1"))
    post.given(PUBLISHED, DELETED).when(others, at=NOON).then_rejected(NotTheAuthor("p1"))


def test_what_was_never_published_cannot_be_deleted() -> None:
    post.given().when(DELETE, at=NOON).then_rejected(PostUnknown("p1"))


def test_a_seen_post_carries_what_commands_have_to_know() -> None:
    parent = PostReference("b1", "bob")
    history = replace(PUBLISHED, reply_to=parent, root=ROOT)
    state = POST.evolve(POST.evolve(Post(), history), DELETED)
    assert see("p1", state, 7, Relation(blocking=frozenset({"cleo"}))) == SeenPost(
        post_id="p1",
        author_id="ann",
        position=7,
        root=ROOT,
        in_own_thread=False,
        deleted=True,
        blocked=True,
    )


def test_a_post_that_never_was_cannot_be_seen() -> None:
    with pytest.raises(PostUnknown):
        see("p1", Post(), 0, Relation())


def test_a_thread_is_its_authors_own_until_somebody_else_is_answered() -> None:
    assert POST.evolve(Post(), PUBLISHED).in_own_thread
    parent = PostReference("a1", "ann")
    continued = replace(PUBLISHED, reply_to=parent, root=parent, continues_thread=True)
    assert POST.evolve(Post(), continued).in_own_thread
    assert not POST.evolve(Post(), replace(continued, continues_thread=False)).in_own_thread
