"""What is stored can be read again: sealed, opened, erased, and in the words of today."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from domain.commerce.product.events import ProductListed
from domain.commerce.product.upcasts import ProductDescribedV1, ProductListedV1
from domain.shared.message import tag_of
from domain.shared.money import Money
from domain.shared.personal import Personal
from domain.social.engagement.events import PostLiked, RepostRemoved
from domain.social.engagement.upcasts import RepostRemovedV1
from domain.social.member.events import ProfileChanged
from domain.social.post.events import PostPublished
from infra.adapters.secrets.memory_keyring import MemoryKeyring
from infra.formats import codec
from infra.ports.log import Recorded
from infra.ports.secrets import KeyDestroyed

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
POST = PostPublished(
    post_id="p", author_id="ann", content=Personal("Hello, square!"), created_at=NOON
)

MUG = ProductListed(
    product_id="mug",
    shop_id="s1",
    seller_id="sue",
    title=Personal("Mug"),
    description=Personal("Holds tea."),
    category="Kitchen",
    price=Money("EUR", 1999),
    media_urls=Personal(("https://example.org/mug.jpg",)),
    attributes=Personal({"colour": "blue", "litres": 0.3}),
)


def stored(event: object) -> bytes:
    """A row's state, as whichever version wrote it."""
    return msgspec.msgpack.encode([NOON, "request", "17", event])


async def keyring_of(*persons: str) -> MemoryKeyring:
    keyring = MemoryKeyring()
    for person in persons:
        await keyring.create(person)
    await keyring.fetch(persons)
    return keyring


def test_an_event_comes_back_with_its_envelope() -> None:
    recorded = Recorded(
        stream="like:p:ann",
        version=3,
        recorded_at=NOON,
        event=PostLiked(post_id="p", author_id="bob", member_id="ann"),
        correlation_id="request",
        causation_id="17",
        position=99,
    )
    state = codec.encode_state(recorded)
    assert codec.decode_state(99, "like:p:ann", 3, state) == recorded


async def test_a_sealed_event_holds_no_text_and_opens_again() -> None:
    keyring = await keyring_of("ann")
    sealed = codec.seal_event(POST, keyring)
    assert sealed.content.value is None
    state = codec.encode_state(Recorded(stream="post:p", version=1, recorded_at=NOON, event=sealed))
    read = codec.decode_state(1, "post:p", 1, state).event
    assert codec.open_event(read, keyring) == POST


async def test_an_event_whose_key_is_destroyed_opens_as_erased() -> None:
    keyring = await keyring_of("ann")
    sealed = codec.seal_event(POST, keyring)
    await keyring.destroy("ann")
    assert codec.open_event(sealed, keyring).content == Personal()


async def test_sealing_without_a_key_is_refused() -> None:
    with pytest.raises(KeyDestroyed):
        codec.seal_event(POST, await keyring_of("bob"))


async def test_fields_that_were_not_changed_are_neither_sealed_nor_opened() -> None:
    keyring = await keyring_of("ann")
    change = ProfileChanged(member_id="ann", bio=Personal("I paint."))
    sealed = codec.seal_event(change, keyring)
    assert sealed.display_name is None
    assert sealed.bio.value is None
    assert codec.open_event(sealed, keyring) == change


def test_an_old_event_is_read_as_what_it_means_today() -> None:
    old = RepostRemovedV1(post_id="p", author_id="bob", member_id="ann")
    assert codec.decode_state(5, "repost:p:ann", 2, stored(old)).event == RepostRemoved(
        post_id="p", author_id="bob", member_id="ann", because_of="member"
    )


async def test_a_list_and_a_mapping_are_sealed_and_come_back_as_they_were() -> None:
    keyring = await keyring_of("sue")
    sealed = codec.seal_event(MUG, keyring)
    opened = keyring.open("sue", sealed.media_urls.sealed)
    assert opened == '["https://example.org/mug.jpg"]'
    assert (sealed.media_urls.value, sealed.attributes.value) == (None, None)
    state = codec.encode_state(Recorded(stream="p", version=1, recorded_at=NOON, event=sealed))
    assert codec.open_event(codec.decode_state(1, "p", 1, state).event, keyring) == MUG


async def test_what_says_nothing_is_not_sealed() -> None:
    plain = msgspec.structs.replace(MUG, media_urls=Personal(()), attributes=Personal({}))
    sealed = codec.seal_event(plain, await keyring_of("sue"))
    assert (sealed.media_urls, sealed.attributes) == (Personal(()), Personal({}))


OLD_MUG = ProductListedV1(
    product_id="mug",
    shop_id="s1",
    seller_id="sue",
    title="Mug",
    description="Holds tea.",
    category="Kitchen",
    price=Money("EUR", 1999),
    media_urls=("https://example.org/mug.jpg",),
    attributes={"colour": "blue", "litres": 0.3},
)


async def test_what_an_old_version_stored_in_the_clear_is_shown_as_if_it_were_sealed() -> None:
    keyring = await keyring_of("sue")
    read = codec.decode_state(5, "product:mug", 1, stored(OLD_MUG))
    assert codec.decode_state(5, "product:mug", 1, codec.encode_state(read)) == read
    event: Any = read.event
    assert (event.title.value, event.attributes.value) == (None, None)
    assert codec.open_event(event, keyring) == MUG
    await keyring.destroy("sue")
    assert codec.open_event(event, keyring).title.erased


def test_an_old_description_that_names_no_seller_is_shown() -> None:
    old = ProductDescribedV1(product_id="mug", title="Big mug")
    read = codec.decode_state(5, "product:mug", 2, stored(old)).event
    assert codec.open_event(read, MemoryKeyring()).title == Personal("Big mug")


def test_an_upcast_event_is_written_under_its_newest_tag() -> None:
    old = RepostRemovedV1(post_id="p", author_id="bob", member_id="ann")
    read = codec.decode_state(5, "repost:p:ann", 2, stored(old))
    assert tag_of(type(read.event)) == "repost.removed.v2"
    assert b"repost.removed.v2" in codec.encode_state(read)


def test_fields_that_a_later_version_added_are_ignored() -> None:
    tomorrow = {
        "type": "like.added.v1",
        "post_id": "p",
        "author_id": "bob",
        "member_id": "ann",
        "reaction": "heart",
    }
    read = codec.decode_state(5, "like:p:ann", 1, stored(tomorrow))
    assert read.event == PostLiked(post_id="p", author_id="bob", member_id="ann")


def test_a_tag_that_nobody_knows_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        codec.decode_state(5, "like:p:ann", 1, stored({"type": "like.exploded.v1"}))
