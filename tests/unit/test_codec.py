"""What is stored can be read again: sealed, opened, erased, and in the words of today."""

from datetime import UTC, datetime

import msgspec
import pytest

from domain.shared.message import tag_of
from domain.shared.personal import ERASED, Personal
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
    post_id="p", author_id="ann", content=Personal(text="Hello, square!"), created_at=NOON
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
    assert sealed.content.text is None
    state = codec.encode_state(Recorded(stream="post:p", version=1, recorded_at=NOON, event=sealed))
    read = codec.decode_state(1, "post:p", 1, state).event
    assert codec.open_event(read, keyring) == POST


async def test_an_event_whose_key_is_destroyed_opens_as_erased() -> None:
    keyring = await keyring_of("ann")
    sealed = codec.seal_event(POST, keyring)
    await keyring.destroy("ann")
    assert codec.open_event(sealed, keyring).content == ERASED


async def test_sealing_without_a_key_is_refused() -> None:
    with pytest.raises(KeyDestroyed):
        codec.seal_event(POST, await keyring_of("bob"))


async def test_fields_that_were_not_changed_are_neither_sealed_nor_opened() -> None:
    keyring = await keyring_of("ann")
    change = ProfileChanged(member_id="ann", bio=Personal(text="I paint."))
    sealed = codec.seal_event(change, keyring)
    assert sealed.display_name is None
    assert sealed.bio.text is None
    assert codec.open_event(sealed, keyring) == change


def test_an_old_event_is_read_as_what_it_means_today() -> None:
    old = RepostRemovedV1(post_id="p", author_id="bob", member_id="ann")
    assert codec.decode_state(5, "repost:p:ann", 2, stored(old)).event == RepostRemoved(
        post_id="p", author_id="bob", member_id="ann", because_of="member"
    )


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
