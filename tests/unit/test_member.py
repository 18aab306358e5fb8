"""The rules of accounts and of the names they go by, one sentence per test."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from domain.shared.personal import Personal
from domain.shared.rejection import Invalid
from domain.social.member.commands import (
    ChangeProfile,
    ClaimUsername,
    EraseMember,
    RegisterMember,
    ReleaseUsername,
    erasure,
    registration,
)
from domain.social.member.decider import MEMBER, USERNAME, Member, require_member
from domain.social.member.events import (
    MemberErased,
    MemberRegistered,
    ProfileChanged,
    UsernameClaimed,
    UsernameReleased,
)
from domain.social.member.rejections import MemberIdTaken, MemberUnknown, UsernameTaken
from tests.unit.spec import Spec

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

REGISTER = RegisterMember(
    member_id="m1", username_key="k1", username="ann_1", display_name="Ann", bio="Hi", email="a@b.c"
)
REGISTERED = MemberRegistered(
    member_id="m1",
    username_key="k1",
    username=Personal("ann_1"),
    display_name=Personal("Ann"),
    bio=Personal("Hi"),
    email=Personal("a@b.c"),
    created_at=NOON,
)
ERASED = MemberErased(member_id="m1")
CLAIM = ClaimUsername(username_key="k1", member_id="m1")
CLAIMED = UsernameClaimed(username_key="k1", member_id="m1")
RELEASE = ReleaseUsername(username_key="k1", member_id="m1")
RELEASED = UsernameReleased(username_key="k1", member_id="m1")

member = Spec(MEMBER)
username = Spec(USERNAME)


def test_registering_keeps_the_profile_as_personal_texts() -> None:
    member.given().when(REGISTER, at=NOON).then(REGISTERED)


def test_a_member_id_is_used_once() -> None:
    member.given(REGISTERED).when(REGISTER, at=NOON).then_rejected(MemberIdTaken("m1"))


def test_the_id_of_an_erased_member_is_not_used_again() -> None:
    member.given(REGISTERED, ERASED).when(REGISTER, at=NOON).then_rejected(MemberIdTaken("m1"))


@pytest.mark.parametrize(
    "name", ["", "ab", "a" * 31, "Ann", "ann!", "änn", "ann\n", "ann\0", "a n"]
)
def test_a_username_is_3_to_30_of_a_to_z_digits_and_underscore(name: str) -> None:
    member.given().when(replace(REGISTER, username=name), at=NOON).then_rejected(
        Invalid("/username", "must have 3 to 30 characters out of a-z, 0-9 and _")
    )


@pytest.mark.parametrize("name", ["abc", "a" * 30, "_0_"])
def test_every_other_username_is_good(name: str) -> None:
    member.given().when(replace(REGISTER, username=name), at=NOON).then(
        replace(REGISTERED, username=Personal(name))
    )


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("display_name", "", "/displayName"),
        ("display_name", "x" * 101, "/displayName"),
        ("display_name", "a\0b", "/displayName"),
        ("bio", "x" * 501, "/bio"),
        ("bio", "\ud800", "/bio"),
        ("email", "nobody", "/email"),
        ("email", "a b@c", "/email"),
        ("email", "a@" + "b" * 253, "/email"),
    ],
)
def test_a_profile_text_out_of_bounds_is_refused_by_name(
    field: str, value: str, pointer: str
) -> None:
    with pytest.raises(Invalid) as refused:
        MEMBER.decide(replace(REGISTER, **{field: value}), MEMBER.initial, NOON)
    assert refused.value.pointer == pointer


def test_bio_and_email_may_be_left_out() -> None:
    member.given().when(replace(REGISTER, bio="", email=""), at=NOON).then(
        replace(REGISTERED, bio=Personal(""), email=Personal(""))
    )


def test_changing_a_profile_names_only_what_changes() -> None:
    change = ChangeProfile(member_id="m1", bio="New", avatar_url="https://example.org/a.png")
    member.given(REGISTERED).when(change, at=NOON).then(
        ProfileChanged(
            member_id="m1", bio=Personal("New"), avatar_url=Personal("https://example.org/a.png")
        )
    )


def test_an_empty_bio_or_avatar_takes_it_away() -> None:
    change = ChangeProfile(member_id="m1", bio="", avatar_url="")
    member.given(REGISTERED).when(change, at=NOON).then(
        ProfileChanged(member_id="m1", bio=Personal(""), avatar_url=Personal(""))
    )


def test_changing_nothing_records_nothing() -> None:
    member.given(REGISTERED).when(ChangeProfile(member_id="m1"), at=NOON).then_nothing()


@pytest.mark.parametrize(
    "url", ["http://example.org/a.png", "https://", "https://exa mple.org", "x" * 9, "https://[::1"]
)
def test_an_avatar_is_an_https_url(url: str) -> None:
    change = ChangeProfile(member_id="m1", avatar_url=url)
    with pytest.raises(Invalid) as refused:
        MEMBER.decide(change, Member(username_key="k1"), NOON)
    assert refused.value.pointer == "/avatarUrl"


def test_only_a_member_has_a_profile_to_change() -> None:
    change = ChangeProfile(member_id="m1", bio="New")
    member.given().when(change, at=NOON).then_rejected(MemberUnknown("m1"))
    member.given(REGISTERED, ERASED).when(change, at=NOON).then_rejected(MemberUnknown("m1"))


def test_a_member_can_be_erased() -> None:
    member.given(REGISTERED).when(EraseMember(member_id="m1"), at=NOON).then(ERASED)


def test_erasing_again_records_nothing() -> None:
    member.given(REGISTERED, ERASED).when(EraseMember(member_id="m1"), at=NOON).then_nothing()


def test_who_never_was_cannot_be_erased() -> None:
    member.given().when(EraseMember(member_id="m1"), at=NOON).then_rejected(MemberUnknown("m1"))


def test_an_erased_member_is_as_unknown_as_one_who_never_was() -> None:
    for unknown in (Member(), Member(username_key="k1", erased=True)):
        with pytest.raises(MemberUnknown):
            require_member("m1", unknown)
    require_member("m1", Member(username_key="k1"))


def test_a_free_name_can_be_claimed() -> None:
    username.given().when(CLAIM, at=NOON).then(CLAIMED)


def test_claiming_ones_own_name_again_records_nothing() -> None:
    username.given(CLAIMED).when(CLAIM, at=NOON).then_nothing()


def test_a_taken_name_is_refused() -> None:
    rival = ClaimUsername(username_key="k1", member_id="m2")
    username.given(CLAIMED).when(rival, at=NOON).then_rejected(UsernameTaken())


def test_a_released_name_can_be_claimed_by_anybody() -> None:
    rival = ClaimUsername(username_key="k1", member_id="m2")
    username.given(CLAIMED, RELEASED).when(rival, at=NOON).then(
        UsernameClaimed(username_key="k1", member_id="m2")
    )


def test_a_name_is_released_by_who_goes_by_it() -> None:
    username.given(CLAIMED).when(RELEASE, at=NOON).then(RELEASED)


def test_releasing_a_name_that_is_anothers_by_now_records_nothing() -> None:
    anothers = UsernameClaimed(username_key="k1", member_id="m2")
    username.given(CLAIMED, RELEASED, anothers).when(RELEASE, at=NOON).then_nothing()
    username.given().when(RELEASE, at=NOON).then_nothing()


def test_registration_and_erasure_go_with_the_name() -> None:
    assert registration(REGISTER) == (CLAIM, REGISTER)
    assert erasure("m1", "k1") == (EraseMember(member_id="m1"), RELEASE)
