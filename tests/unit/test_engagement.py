"""The rules of likes and reposts, one sentence per test, in whatever order they are repeated."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.shared.decider import Decider
from domain.social.engagement.commands import LikePost, RemoveRepost, RepostPost, UnlikePost
from domain.social.engagement.decider import LIKE, REPOST
from domain.social.engagement.events import PostLiked, PostReposted, PostUnliked, RepostRemoved
from domain.social.post.commands import SeenPost
from domain.social.post.rejections import PostUnknown
from domain.social.relation.rejections import AcrossBlock
from tests.unit.spec import Spec

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

BOBS = SeenPost(post_id="p1", author_id="bob", position=7)
LIKE_IT = LikePost(post=BOBS, member_id="ann")
UNLIKE_IT = UnlikePost(post_id="p1", member_id="ann")
LIKED = PostLiked(post_id="p1", author_id="bob", member_id="ann")
UNLIKED = PostUnliked(post_id="p1", author_id="bob", member_id="ann")
REPOST_IT = RepostPost(post=BOBS, member_id="ann")
REMOVE_IT = RemoveRepost(post_id="p1", member_id="ann")
REPOSTED = PostReposted(post_id="p1", author_id="bob", member_id="ann", post_position=7)
REMOVED = RepostRemoved(post_id="p1", author_id="bob", member_id="ann")

like = Spec(LIKE)
repost = Spec(REPOST)


def test_each_member_and_post_have_a_stream_for_likes_and_one_for_reposts() -> None:
    assert {LIKE.stream(LIKE_IT), LIKE.stream(UNLIKE_IT)} == {"like:p1:ann"}
    assert {REPOST.stream(REPOST_IT), REPOST.stream(REMOVE_IT)} == {"repost:p1:ann"}


def test_a_post_can_be_liked_and_unliked() -> None:
    like.given().when(LIKE_IT, at=NOON).then(LIKED)
    like.given(LIKED).when(UNLIKE_IT, at=NOON).then(UNLIKED)


def test_a_repeated_like_records_nothing() -> None:
    like.given(LIKED).when(LIKE_IT, at=NOON).then_nothing()


def test_unliking_what_is_not_liked_records_nothing() -> None:
    like.given().when(UNLIKE_IT, at=NOON).then_nothing()
    like.given(LIKED, UNLIKED).when(UNLIKE_IT, at=NOON).then_nothing()


def test_a_post_can_be_liked_again_after_an_unlike() -> None:
    like.given(LIKED, UNLIKED).when(LIKE_IT, at=NOON).then(LIKED)


def test_a_repost_names_where_the_post_stands_in_the_log() -> None:
    repost.given().when(REPOST_IT, at=NOON).then(REPOSTED)


def test_a_repeated_repost_records_nothing() -> None:
    repost.given(REPOSTED).when(REPOST_IT, at=NOON).then_nothing()


def test_a_repost_can_be_taken_back_and_made_again() -> None:
    repost.given(REPOSTED).when(REMOVE_IT, at=NOON).then(REMOVED)
    repost.given(REPOSTED, REMOVED).when(REPOST_IT, at=NOON).then(REPOSTED)


def test_taking_back_what_is_not_reposted_records_nothing() -> None:
    repost.given().when(REMOVE_IT, at=NOON).then_nothing()
    repost.given(REPOSTED, REMOVED).when(REMOVE_IT, at=NOON).then_nothing()


@pytest.mark.parametrize(("spec", "command"), [(like, LIKE_IT), (repost, REPOST_IT)])
def test_a_deleted_post_is_neither_liked_nor_reposted(spec: Spec, command: Any) -> None:
    gone = replace(command, post=replace(BOBS, deleted=True))
    spec.given().when(gone, at=NOON).then_rejected(PostUnknown("p1"))


@pytest.mark.parametrize(("spec", "command"), [(like, LIKE_IT), (repost, REPOST_IT)])
def test_nobody_likes_or_reposts_across_a_block(spec: Spec, command: Any) -> None:
    apart = replace(command, post=replace(BOBS, blocked=True))
    spec.given().when(apart, at=NOON).then_rejected(AcrossBlock("bob"))


def run(decider: Decider[Any, Any, Any], commands: Sequence[Any]) -> tuple[Any, list[Any]]:
    state = decider.initial
    history: list[Any] = []
    for command in commands:
        happened = decider.decide(command, state, NOON)
        state = reduce(decider.evolve, happened, state)
        history += happened
    return state, history


def likes(yes: bool) -> Any:  # noqa: FBT001
    return LIKE_IT if yes else UNLIKE_IT


def reposts(yes: bool) -> Any:  # noqa: FBT001
    return REPOST_IT if yes else REMOVE_IT


BOTH = pytest.mark.parametrize(("decider", "command"), [(LIKE, likes), (REPOST, reposts)])
WISHES = st.lists(st.booleans(), min_size=1)


@BOTH
@given(wishes=WISHES)
def test_the_last_wish_counts_however_often_each_was_repeated(
    decider: Decider[Any, Any, Any], command: Callable[[bool], Any], wishes: list[bool]
) -> None:
    state, _ = run(decider, [command(wish) for wish in wishes])
    assert state.stands == wishes[-1]


@BOTH
@given(wishes=WISHES)
def test_events_add_and_take_away_in_turns_so_that_a_count_never_drifts(
    decider: Decider[Any, Any, Any], command: Callable[[bool], Any], wishes: list[bool]
) -> None:
    state, history = run(decider, [command(wish) for wish in wishes])
    added = [isinstance(event, PostLiked | PostReposted) for event in history]
    assert added == [number % 2 == 0 for number in range(len(history))]
    assert sum(1 if one else -1 for one in added) == int(state.stands)


@BOTH
@given(wishes=WISHES, repeats=st.lists(st.integers(1, 3), min_size=1))
def test_repeating_a_command_at_once_changes_nothing(
    decider: Decider[Any, Any, Any],
    command: Callable[[bool], Any],
    wishes: list[bool],
    repeats: list[int],
) -> None:
    once = [command(wish) for wish in wishes]
    often = [one for place, one in enumerate(once) for _ in range(repeats[place % len(repeats)])]
    assert run(decider, often) == run(decider, once)
