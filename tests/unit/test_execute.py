"""How commands are executed: in one append, on proven state, again where somebody was faster."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import pytest

from domain.deciders import DECIDERS
from domain.shared.message import Command
from domain.shared.rejection import Invalid
from domain.social.engagement.commands import LikePost
from domain.social.member.commands import RegisterMember, registration
from domain.social.member.rejections import MemberUnknown, UsernameTaken
from domain.social.post.commands import DeletePost, PublishPost
from domain.social.post.events import PostPublished
from domain.social.post.rejections import PostIdTaken, PostUnknown
from domain.social.relation.commands import BlockMember, FollowMember, UnblockMember, UnfollowMember
from domain.social.relation.rejections import AcrossBlock
from infra.adapters.log.memory_event_log import MemoryEventLog
from infra.adapters.secrets.memory_keyring import MemoryKeyring
from infra.ports.log import LogUnavailable, Recorded, StoredAnswer, StreamMoved
from infra.runtime.commands.execute import ATTEMPTS_MAX, Context, Executor, Look
from infra.runtime.commands.seen_post import known_member, seen_post
from tests.waiting import until

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

ANN_FOLLOWS_BOB = FollowMember(follower_id="ann", followee_id="bob")
ANN_LEAVES_BOB = UnfollowMember(follower_id="ann", followee_id="bob")
BOB_BLOCKS_ANN = BlockMember(blocker_id="bob", blocked_id="ann")
BOB_UNBLOCKS_ANN = UnblockMember(blocker_id="bob", blocked_id="ann")
POST = PublishPost(post_id="p1", author_id="bob", content="hello")


class WatchedLog(MemoryEventLog):
    """Counts the round trips, and lets a test step in before an append."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[set[str]] = []
        self.appends = 0
        self.before_append: list[Command] = []
        self.down = False

    async def load_many(self, streams: Iterable[str]) -> Mapping[str, Sequence[Recorded]]:
        self.loads.append(set(streams))
        if self.down:
            raise LogUnavailable
        return await super().load_many(streams)

    async def append(
        self, events: Sequence[Recorded], answer: StoredAnswer | None = None
    ) -> Sequence[int]:
        self.appends += 1
        if self.before_append:
            await another(self).execute(self.before_append.pop(0))
        if self.down:
            raise LogUnavailable
        return await super().append(events, answer)


def another(log: MemoryEventLog, *, facts_seconds_max: float = 60) -> Executor:
    """An executor with a memory of its own, like that of another process."""
    return Executor(log, KEYRING, DECIDERS, lambda: NOON, facts_seconds_max=facts_seconds_max)


KEYRING = MemoryKeyring()


@pytest.fixture
async def log() -> WatchedLog:
    for person in ("ann", "bob"):
        await KEYRING.create(person)
    return WatchedLog()


@pytest.fixture
def executor(log: WatchedLog) -> Executor:
    return another(log)


def tags(events: Sequence[Recorded]) -> list[str]:
    return [type(one.event).__name__ for one in events]


async def test_an_outcome_names_the_place_of_every_event(
    executor: Executor, log: WatchedLog
) -> None:
    await executor.execute(ANN_FOLLOWS_BOB)
    outcome = await executor.execute(BOB_BLOCKS_ANN)
    assert (outcome.position, tags(outcome.events)) == (3, ["Unfollowed", "Blocked"])
    assert outcome.events == tuple(await log.read(1, 10))
    assert [one.version for one in outcome.events] == [2, 3]


async def test_events_carry_why_they_happened(executor: Executor) -> None:
    context = Context(correlation_id="request", causation_id="cause")
    (followed,) = (await executor.execute(ANN_FOLLOWS_BOB, context=context)).events
    assert (followed.correlation_id, followed.causation_id) == ("request", "cause")
    assert followed.recorded_at == NOON


async def test_where_nothing_happens_the_position_covers_all_that_was_answered_before(
    executor: Executor, log: WatchedLog
) -> None:
    await executor.execute(POST)
    await executor.execute(ANN_FOLLOWS_BOB)
    more = await executor.execute(PublishPost(post_id="p2", author_id="bob", content="more"))
    outcome = await executor.execute(ANN_FOLLOWS_BOB)
    assert (outcome.position, outcome.events) == (more.position, ())
    elsewhere = await another(log).execute(ANN_FOLLOWS_BOB)
    assert elsewhere.position == 2, "the last event of its stream, to whom nothing else is known"


async def test_a_command_that_creates_needs_no_load(executor: Executor, log: WatchedLog) -> None:
    await executor.execute(POST)
    assert (log.loads, log.appends) == ([], 1)


async def test_a_remembered_stream_needs_no_load(executor: Executor, log: WatchedLog) -> None:
    await executor.execute(ANN_FOLLOWS_BOB)
    await executor.execute(ANN_LEAVES_BOB)
    await executor.execute(ANN_FOLLOWS_BOB)
    assert len(log.loads) == 1


async def test_an_id_that_is_in_use_is_refused_and_nothing_recorded(
    executor: Executor, log: WatchedLog
) -> None:
    await another(log).execute(POST)
    with pytest.raises(PostIdTaken):
        await executor.execute(POST)
    assert await log.head() == 1


async def test_personal_texts_are_sealed_before_they_are_appended(
    executor: Executor, log: WatchedLog
) -> None:
    await executor.execute(POST)
    (published,) = await log.read(0, 10)
    assert isinstance(published.event, PostPublished)
    assert published.event.content.value is None
    assert KEYRING.open("bob", published.event.content.sealed) == "hello"


async def test_the_loser_of_a_race_decides_again_on_what_is_true_now(
    executor: Executor, log: WatchedLog
) -> None:
    log.before_append = [BOB_BLOCKS_ANN]
    with pytest.raises(AcrossBlock):
        await executor.execute(ANN_FOLLOWS_BOB)
    assert tags(await log.read(0, 10)) == ["Blocked"]


async def test_a_refusal_on_remembered_state_is_not_believed(
    executor: Executor, log: WatchedLog
) -> None:
    await executor.execute(BOB_BLOCKS_ANN)
    await another(log).execute(BOB_UNBLOCKS_ANN)
    assert tags((await executor.execute(ANN_FOLLOWS_BOB)).events) == ["Followed"]


async def test_that_nothing_happens_is_not_believed_on_remembered_state(
    executor: Executor, log: WatchedLog
) -> None:
    await executor.execute(ANN_FOLLOWS_BOB)
    await another(log).execute(ANN_LEAVES_BOB)
    assert tags((await executor.execute(ANN_FOLLOWS_BOB)).events) == ["Followed"]


async def test_an_invalid_value_is_refused_without_a_look_at_the_log(
    executor: Executor, log: WatchedLog
) -> None:
    with pytest.raises(Invalid):
        await executor.execute(PublishPost(post_id="p", author_id="bob", content=""))
    assert (log.loads, log.appends) == ([], 0)


async def test_a_stream_that_never_stands_still_is_given_up() -> None:
    log = NeverStill()
    with pytest.raises(StreamMoved):
        await another(log).execute(ANN_FOLLOWS_BOB)
    assert (log.appends, await log.head()) == (ATTEMPTS_MAX, 0)


class NeverStill(WatchedLog):
    async def append(
        self, events: Sequence[Recorded], answer: StoredAnswer | None = None
    ) -> Sequence[int]:
        del events, answer
        self.appends += 1
        raise StreamMoved


class SlowLog(WatchedLog):
    """Writes a moment after it was asked to."""

    def __init__(self, seconds: float = 0.001) -> None:
        super().__init__()
        self.seconds = seconds

    async def append(
        self, events: Sequence[Recorded], answer: StoredAnswer | None = None
    ) -> Sequence[int]:
        await asyncio.sleep(self.seconds)
        return await super().append(events, answer)


async def test_commands_of_one_process_on_one_stream_never_get_in_each_others_way() -> None:
    log = SlowLog()
    executor = another(log)
    commands = [ANN_FOLLOWS_BOB, ANN_LEAVES_BOB] * 20
    outcomes = await asyncio.gather(*map(executor.execute, commands))
    assert [outcome.position for outcome in outcomes] == list(range(1, 41))
    assert log.appends == 40


async def test_commands_on_several_streams_do_not_wait_for_each_other_for_ever() -> None:
    executor = another(SlowLog())
    cleo_follows_bob = FollowMember(follower_id="cleo", followee_id="bob")
    pairs = [(ANN_FOLLOWS_BOB, cleo_follows_bob), (cleo_follows_bob, ANN_FOLLOWS_BOB)] * 10
    outcomes = await asyncio.gather(*(executor.execute(*pair) for pair in pairs))
    assert {outcome.position for outcome in outcomes} == {2}


async def test_who_gives_up_waiting_holds_nobody_up() -> None:
    executor = another(SlowLog())
    first, second, third = (
        asyncio.ensure_future(executor.execute(command))
        for command in (ANN_FOLLOWS_BOB, BOB_BLOCKS_ANN, ANN_LEAVES_BOB)
    )
    await asyncio.sleep(0)
    second.cancel()
    assert tags((await first).events) == ["Followed"]
    assert tags((await third).events) == ["Unfollowed"]
    assert second.cancelled()


async def test_an_append_that_nobody_waited_for_may_have_been_written() -> None:
    log = SlowLog(seconds=0.1)
    executor = another(log)
    writing = asyncio.ensure_future(executor.execute(ANN_FOLLOWS_BOB))
    await until(lambda: log.loads == [{"relation:ann:bob"}])
    writing.cancel()
    await another(log).execute(ANN_FOLLOWS_BOB)
    assert tags((await executor.execute(ANN_LEAVES_BOB)).events) == ["Unfollowed"]


async def test_several_commands_are_recorded_whole_or_not_at_all(
    executor: Executor, log: WatchedLog
) -> None:
    await KEYRING.create("m1")
    await KEYRING.create("m2")
    first = RegisterMember(member_id="m1", username_key="k", username="ann", display_name="Ann")
    second = RegisterMember(member_id="m2", username_key="k", username="ann", display_name="Ann")
    outcome = await executor.execute(*registration(first))
    assert tags(outcome.events) == ["UsernameClaimed", "MemberRegistered"]
    for rival in (executor, another(log)):
        with pytest.raises(UsernameTaken):
            await rival.execute(*registration(second))
    assert await log.head() == 2


async def test_two_commands_on_one_stream_are_decided_one_after_the_other(
    executor: Executor,
) -> None:
    outcome = await executor.execute(ANN_FOLLOWS_BOB, BOB_BLOCKS_ANN)
    assert tags(outcome.events) == ["Followed", "Unfollowed", "Blocked"]


async def test_an_answer_is_kept_with_its_events(executor: Executor, log: WatchedLog) -> None:
    await executor.execute(ANN_FOLLOWS_BOB, context=answered("once"))
    kept = await log.answer("ann", "once")
    assert kept is not None
    assert (kept.body, kept.position) == (b"1 events", 1)


async def test_an_answer_is_kept_also_where_nothing_happens(
    executor: Executor, log: WatchedLog
) -> None:
    await executor.execute(ANN_FOLLOWS_BOB)
    await executor.execute(POST)
    await executor.execute(ANN_FOLLOWS_BOB, context=answered("again"))
    kept = await log.answer("ann", "again")
    assert kept is not None
    assert (kept.body, kept.position) == (b"0 events", 2)


def answered(key: str) -> Context:
    def answer(events: Sequence[Recorded]) -> StoredAnswer:
        body = f"{len(events)} events".encode()
        return StoredAnswer(member_id="ann", key=key, body_hash=b"", status=200, body=body)

    return Context(answer=answer)


async def test_nothing_is_remembered_of_an_append_that_failed(
    executor: Executor, log: WatchedLog
) -> None:
    await executor.execute(ANN_FOLLOWS_BOB)
    log.down = True
    with pytest.raises(LogUnavailable):
        await executor.execute(ANN_LEAVES_BOB)
    log.down = False
    assert tags((await executor.execute(ANN_LEAVES_BOB)).events) == ["Unfollowed"]


async def test_look_ups_of_one_moment_share_a_round_trip(
    executor: Executor, log: WatchedLog
) -> None:
    await asyncio.gather(*(executor.state(f"post:{number % 10}") for number in range(100)))
    assert log.loads == [{f"post:{number}" for number in range(10)}]


async def test_a_state_names_the_first_and_the_last_position_of_its_stream(
    executor: Executor,
) -> None:
    await executor.execute(ANN_FOLLOWS_BOB)
    await executor.execute(POST)
    await executor.execute(DeletePost(post_id="p1", member_id="bob"))
    state = await executor.state("post:p1")
    assert (state.version, state.first_position, state.last_position) == (2, 2, 3)
    assert state.value.deleted


async def test_a_fact_that_is_too_old_is_looked_up_again(log: WatchedLog) -> None:
    executor = another(log, facts_seconds_max=0)
    await executor.execute(POST)
    await another(log).execute(DeletePost(post_id="p1", member_id="bob"))
    assert (await executor.state("post:p1")).value.deleted


async def test_a_refusal_because_of_a_remembered_fact_is_not_believed(
    executor: Executor, log: WatchedLog
) -> None:
    await executor.execute(POST)
    await executor.execute(BOB_BLOCKS_ANN)

    async def like(look: Look) -> Sequence[Command]:
        return [LikePost(post=await seen_post(look, "p1", "ann"), member_id="ann")]

    with pytest.raises(AcrossBlock):
        await executor.execute_prepared(like)
    await another(log).execute(BOB_UNBLOCKS_ANN)
    assert tags((await executor.execute_prepared(like)).events) == ["PostLiked"]


async def test_what_never_was_cannot_be_liked_or_followed(executor: Executor) -> None:
    with pytest.raises(PostUnknown):
        await seen_post(executor.state, "p9", "ann")
    with pytest.raises(MemberUnknown):
        await known_member(executor.state, "nobody")
