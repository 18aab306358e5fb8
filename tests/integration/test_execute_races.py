"""Several executors, like several processes, on one log and the same few members."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

import pytest

from domain.deciders import DECIDERS
from domain.shared.message import Command
from domain.shared.rejection import Rejection
from domain.social.member.commands import ClaimUsername
from domain.social.member.rejections import UsernameTaken
from domain.social.relation.commands import (
    BlockMember,
    FollowMember,
    UnblockMember,
    UnfollowMember,
)
from domain.social.relation.decider import Relation, decide, evolve
from domain.social.relation.events import Blocked, Followed, Unblocked, Unfollowed
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.migrations import migrate
from infra.adapters.secrets.memory_keyring import MemoryKeyring
from infra.ports.log import EventLog, StreamMoved
from infra.runtime.commands.execute import Executor

COMMANDS = 3_000
MEMBERS = ["ann", "bob", "cleo"]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
async def log(postgres_url: str) -> AsyncIterator[PostgresEventLog]:
    await migrate(postgres_url)
    async with AsyncExitStack() as stack:
        opened = await PostgresEventLog.open(postgres_url)
        stack.push_async_callback(opened.close)
        yield opened


def another(log: EventLog) -> Executor:
    return Executor(log, MemoryKeyring(), DECIDERS, lambda: NOON)


def wish(chance: random.Random) -> Command:
    one, other = chance.sample(MEMBERS, 2)
    return chance.choice(
        [
            FollowMember(follower_id=one, followee_id=other),
            FollowMember(follower_id=one, followee_id=other),
            UnfollowMember(follower_id=one, followee_id=other),
            BlockMember(blocker_id=one, blocked_id=other),
            UnblockMember(blocker_id=one, blocked_id=other),
        ]
    )


async def each(commands: list[Command], execute: Callable[[Command], Awaitable[object]]) -> None:
    """Have eight callers execute these commands, each one after the other."""
    waiting = iter(commands)

    async def call() -> None:
        for command in waiting:
            await execute(command)

    await asyncio.gather(*(call() for _ in range(8)))


async def test_racing_executors_record_only_what_their_rules_allow(log: PostgresEventLog) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()

    async def attempt(executor: Executor, command: Command) -> None:
        try:
            outcome = await executor.execute(command)
        except Rejection as refused:
            outcomes[type(refused).__name__] += 1
        except StreamMoved:
            outcomes["StreamMoved"] += 1
        else:
            outcomes["done" if outcome.events else "nothing"] += 1

    executors = [another(log) for _ in range(3)]
    await asyncio.gather(
        *(
            each([wish(chance) for _ in range(COMMANDS // 3)], partial(attempt, executor))
            for executor in executors
        )
    )
    assert sum(outcomes.values()) == COMMANDS
    assert outcomes["StreamMoved"] < COMMANDS / 20
    for stream in ("relation:ann:bob", "relation:ann:cleo", "relation:bob:cleo"):
        events = [one.event for one in await log.load(stream)]
        assert len(events) > COMMANDS / 60
        assert_allowed(events)


def assert_allowed(events: Sequence[object]) -> None:
    """Each event is what its command decides in the state that the events before it leave."""
    relation = Relation()
    at = 0
    while at < len(events):
        # A block records the ends of follows before itself.
        last = at
        while isinstance(events[last], Unfollowed) and events[last].because_of == "block":  # type: ignore[attr-defined]
            last += 1
        happened = events[at : last + 1]
        assert decide(asked(events[last]), relation, NOON) == happened  # type: ignore[arg-type]
        for event in happened:
            relation = evolve(relation, event)
        at = last + 1


def asked(event: object) -> Command:
    match event:
        case Followed(follower_id=one, followee_id=other):
            return FollowMember(follower_id=one, followee_id=other)
        case Unfollowed(follower_id=one, followee_id=other):
            return UnfollowMember(follower_id=one, followee_id=other)
        case Blocked(blocker_id=one, blocked_id=other):
            return BlockMember(blocker_id=one, blocked_id=other)
        case Unblocked(blocker_id=one, blocked_id=other):
            return UnblockMember(blocker_id=one, blocked_id=other)
        case _:
            raise AssertionError(event)


async def test_a_follow_repeated_a_hundred_times_at_once_is_one_event(
    log: PostgresEventLog,
) -> None:
    executors = [another(log) for _ in range(4)]
    follow = FollowMember(follower_id="ann", followee_id="bob")
    outcomes = await asyncio.gather(
        *(executor.execute(follow) for executor in executors for _ in range(25))
    )
    (followed,) = await log.read(0, 10)
    assert {outcome.position for outcome in outcomes} == {followed.position}


async def test_of_many_who_claim_a_name_at_once_one_gets_it(log: PostgresEventLog) -> None:
    executors = [another(log) for _ in range(4)]
    outcomes = await asyncio.gather(
        *(
            executors[number % 4].execute(ClaimUsername(username_key="k", member_id=f"m{number}"))
            for number in range(100)
        ),
        return_exceptions=True,
    )
    refused = [one for one in outcomes if isinstance(one, BaseException)]
    assert [type(one) for one in refused] == [UsernameTaken] * 99
    assert await log.head() == (await log.read(0, 10))[0].position
