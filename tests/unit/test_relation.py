"""The rules between two members, one sentence per test; and against a plain model."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.shared.message import Command
from domain.shared.rejection import Invalid
from domain.social.relation.commands import (
    BlockMember,
    FollowMember,
    MuteMember,
    UnblockMember,
    UnfollowMember,
    UnmuteMember,
)
from domain.social.relation.decider import RELATION
from domain.social.relation.events import (
    Blocked,
    Followed,
    Muted,
    Unblocked,
    Unfollowed,
    Unmuted,
)
from domain.social.relation.rejections import AcrossBlock
from tests.unit.spec import Spec

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def follow(follower: str, followee: str) -> FollowMember:
    return FollowMember(follower_id=follower, followee_id=followee)


def unfollow(follower: str, followee: str, because_of: str = "unfollow") -> UnfollowMember:
    return UnfollowMember(follower_id=follower, followee_id=followee, because_of=because_of)


def block(blocker: str, blocked: str) -> BlockMember:
    return BlockMember(blocker_id=blocker, blocked_id=blocked)


def unblock(blocker: str, blocked: str) -> UnblockMember:
    return UnblockMember(blocker_id=blocker, blocked_id=blocked)


def mute(muter: str, muted: str) -> MuteMember:
    return MuteMember(muter_id=muter, muted_id=muted)


def unmute(muter: str, muted: str) -> UnmuteMember:
    return UnmuteMember(muter_id=muter, muted_id=muted)


def followed(follower: str, followee: str) -> Followed:
    return Followed(follower_id=follower, followee_id=followee)


def unfollowed(follower: str, followee: str, because_of: str = "unfollow") -> Unfollowed:
    return Unfollowed(follower_id=follower, followee_id=followee, because_of=because_of)


ANN_FOLLOWS = followed("ann", "bob")
BOB_FOLLOWS = followed("bob", "ann")
ANN_BLOCKS = Blocked(blocker_id="ann", blocked_id="bob")
BOB_BLOCKS = Blocked(blocker_id="bob", blocked_id="ann")
ANN_UNBLOCKS = Unblocked(blocker_id="ann", blocked_id="bob")
ANN_MUTES = Muted(muter_id="ann", muted_id="bob")
ANN_UNMUTES = Unmuted(muter_id="ann", muted_id="bob")

relation = Spec(RELATION)


def test_a_pair_has_one_stream_whoever_acts() -> None:
    asked = [
        make(*pair)
        for make in (follow, unfollow, block, unblock, mute, unmute)
        for pair in (("ann", "bob"), ("bob", "ann"))
    ]
    assert {RELATION.stream(command) for command in asked} == {"relation:ann:bob"}


def test_a_member_can_follow_another() -> None:
    relation.given().when(follow("ann", "bob"), at=NOON).then(ANN_FOLLOWS)


def test_following_again_records_nothing() -> None:
    relation.given(ANN_FOLLOWS).when(follow("ann", "bob"), at=NOON).then_nothing()


def test_two_members_follow_each_other_independently() -> None:
    relation.given(ANN_FOLLOWS).when(follow("bob", "ann"), at=NOON).then(BOB_FOLLOWS)
    relation.given(ANN_FOLLOWS).when(unfollow("bob", "ann"), at=NOON).then_nothing()


def test_unfollowing_ends_a_follow() -> None:
    relation.given(ANN_FOLLOWS).when(unfollow("ann", "bob"), at=NOON).then(unfollowed("ann", "bob"))


def test_unfollowing_again_records_nothing() -> None:
    ended = unfollowed("ann", "bob")
    relation.given(ANN_FOLLOWS, ended).when(unfollow("ann", "bob"), at=NOON).then_nothing()


def test_a_follow_that_an_erasure_ends_says_so() -> None:
    relation.given(ANN_FOLLOWS).when(unfollow("ann", "bob", "erasure"), at=NOON).then(
        unfollowed("ann", "bob", "erasure")
    )


def test_a_block_ends_follows_both_ways() -> None:
    relation.given(ANN_FOLLOWS, BOB_FOLLOWS).when(block("bob", "ann"), at=NOON).then(
        unfollowed("bob", "ann", "block"), unfollowed("ann", "bob", "block"), BOB_BLOCKS
    )


def test_a_block_without_follows_is_only_a_block() -> None:
    relation.given().when(block("ann", "bob"), at=NOON).then(ANN_BLOCKS)


def test_blocking_again_records_nothing() -> None:
    relation.given(ANN_BLOCKS).when(block("ann", "bob"), at=NOON).then_nothing()


def test_both_may_block_each_other() -> None:
    relation.given(ANN_BLOCKS).when(block("bob", "ann"), at=NOON).then(BOB_BLOCKS)


@pytest.mark.parametrize("history", [[ANN_BLOCKS], [BOB_BLOCKS], [ANN_BLOCKS, BOB_BLOCKS]])
def test_nobody_follows_across_a_block_in_either_direction(history: Sequence[Blocked]) -> None:
    relation.given(*history).when(follow("ann", "bob"), at=NOON).then_rejected(AcrossBlock("bob"))


def test_a_follow_is_refused_until_the_last_of_two_blocks_has_ended() -> None:
    history = (ANN_BLOCKS, BOB_BLOCKS, ANN_UNBLOCKS)
    relation.given(*history).when(follow("ann", "bob"), at=NOON).then_rejected(AcrossBlock("bob"))


def test_the_end_of_a_block_brings_no_follow_back() -> None:
    history = (ANN_FOLLOWS, unfollowed("ann", "bob", "block"), ANN_BLOCKS)
    relation.given(*history).when(unblock("ann", "bob"), at=NOON).then(ANN_UNBLOCKS)
    relation.given(*history, ANN_UNBLOCKS).when(follow("ann", "bob"), at=NOON).then(ANN_FOLLOWS)


def test_only_who_blocks_can_end_the_block() -> None:
    relation.given(ANN_BLOCKS).when(unblock("bob", "ann"), at=NOON).then_nothing()


def test_a_member_can_mute_and_unmute_another() -> None:
    relation.given().when(mute("ann", "bob"), at=NOON).then(ANN_MUTES)
    relation.given(ANN_MUTES).when(unmute("ann", "bob"), at=NOON).then(ANN_UNMUTES)


def test_muting_and_unmuting_again_record_nothing() -> None:
    relation.given(ANN_MUTES).when(mute("ann", "bob"), at=NOON).then_nothing()
    relation.given(ANN_MUTES, ANN_UNMUTES).when(unmute("ann", "bob"), at=NOON).then_nothing()


def test_a_mute_leaves_follows_as_they_are() -> None:
    relation.given(ANN_FOLLOWS).when(mute("ann", "bob"), at=NOON).then(ANN_MUTES)
    relation.given(ANN_MUTES).when(follow("bob", "ann"), at=NOON).then(BOB_FOLLOWS)


@pytest.mark.parametrize("make", [follow, unfollow, block, unblock, mute, unmute])
def test_nobody_does_anything_to_themselves(make: Callable[[str, str], Command]) -> None:
    relation.given().when(make("ann", "ann"), at=NOON).then_rejected(
        Invalid("/userId", "must be another member than yourself")
    )


PAIRS = st.sampled_from([("ann", "bob"), ("bob", "ann")])


class RelationAgainstSets(RuleBasedStateMachine):
    """The decider beside three sets of pairs that say what holds."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Any] = []
        self.follows: set[tuple[str, str]] = set()
        self.blocks: set[tuple[str, str]] = set()
        self.mutes: set[tuple[str, str]] = set()

    def ask(self, command: Command) -> list[Any]:
        state = reduce(RELATION.evolve, self.history, RELATION.initial)
        happened = list(RELATION.decide(command, state, NOON))  # type: ignore[arg-type]
        self.history += happened
        return happened

    @rule(pair=PAIRS)
    def follow(self, pair: tuple[str, str]) -> None:
        if self.blocks:
            with pytest.raises(AcrossBlock):
                self.ask(follow(*pair))
            return
        assert len(self.ask(follow(*pair))) == (pair not in self.follows)
        self.follows.add(pair)

    @rule(pair=PAIRS)
    def unfollow(self, pair: tuple[str, str]) -> None:
        assert len(self.ask(unfollow(*pair))) == (pair in self.follows)
        self.follows.discard(pair)

    @rule(pair=PAIRS)
    def block(self, pair: tuple[str, str]) -> None:
        expected = 0 if pair in self.blocks else len(self.follows) + 1
        assert len(self.ask(block(*pair))) == expected
        self.follows.clear()
        self.blocks.add(pair)

    @rule(pair=PAIRS)
    def unblock(self, pair: tuple[str, str]) -> None:
        assert len(self.ask(unblock(*pair))) == (pair in self.blocks)
        self.blocks.discard(pair)

    @rule(pair=PAIRS)
    def mute(self, pair: tuple[str, str]) -> None:
        assert len(self.ask(mute(*pair))) == (pair not in self.mutes)
        self.mutes.add(pair)

    @rule(pair=PAIRS)
    def unmute(self, pair: tuple[str, str]) -> None:
        assert len(self.ask(unmute(*pair))) == (pair in self.mutes)
        self.mutes.discard(pair)

    @invariant()
    def state_and_model_agree(self) -> None:
        state = reduce(RELATION.evolve, self.history, RELATION.initial)
        assert state.following == {follower for follower, _ in self.follows}
        assert state.blocking == {blocker for blocker, _ in self.blocks}
        assert state.muting == {muter for muter, _ in self.mutes}

    @invariant()
    def no_follow_stands_across_a_block(self) -> None:
        assert not (self.follows and self.blocks)


TestRelationAgainstSets = RelationAgainstSets.TestCase
TestRelationAgainstSets.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, database=None
)
