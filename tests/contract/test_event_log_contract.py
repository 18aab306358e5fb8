"""What everybody may rely on who is given an `EventLog`: the one in memory, and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import chain

import pytest

from domain.shared.personal import Personal
from domain.social.post.events import PostDeleted, PostPublished, PostReference
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.log.memory_event_log import MemoryEventLog
from infra.adapters.migrations import migrate
from infra.ports.log import EventLog, KeyTaken, Recorded, StoredAnswer, StreamMoved

NOON = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture(params=["memory", "postgres"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[EventLog]:
    if request.param == "memory":
        yield MemoryEventLog()
        return
    url = request.getfixturevalue("postgres_url")
    await migrate(url)
    async with AsyncExitStack() as stack:
        opened = await PostgresEventLog.open(url)
        stack.push_async_callback(opened.close)
        yield opened


def published(post_id: str, version: int = 1) -> Recorded:
    return Recorded(
        stream=f"post:{post_id}",
        version=version,
        recorded_at=NOON,
        event=PostPublished(
            post_id=post_id,
            author_id="ann",
            content=Personal(sealed=b"\x00\xffsealed"),
            created_at=NOON,
            media_urls=Personal(sealed=b"\x00\xfesealed"),
            reply_to=PostReference("p0", "bob"),
        ),
        correlation_id="request",
        causation_id="17",
    )


def deleted(post_id: str, version: int = 2) -> Recorded:
    event = PostDeleted(post_id=post_id, author_id="ann")
    return Recorded(stream=f"post:{post_id}", version=version, recorded_at=NOON, event=event)


def answer(key: str, member_id: str = "ann", position: int = 0) -> StoredAnswer:
    return StoredAnswer(
        member_id=member_id, key=key, body_hash=b"hash", status=201, body=b"{}", position=position
    )


def places(events: Sequence[Recorded]) -> list[tuple[str, int, int]]:
    return [(one.stream, one.version, one.position) for one in events]


async def test_an_empty_log_has_no_head_no_events_and_no_streams(log: EventLog) -> None:
    assert (await log.head(), list(await log.read(0, 10))) == (0, [])
    assert list(await log.load("post:p1")) == []
    assert dict(await log.load_many(["post:p1"])) == {}


async def test_what_was_appended_is_loaded_as_it_was_with_its_position(log: EventLog) -> None:
    (position,) = await log.append([published("p1")])
    (loaded,) = await log.load("post:p1")
    (read,) = await log.read(0, 10)
    assert loaded == read
    assert loaded.position == position > 0
    first = published("p1")
    assert (loaded.event, loaded.recorded_at) == (first.event, NOON)
    assert (loaded.correlation_id, loaded.causation_id) == ("request", "17")


async def test_one_append_may_go_to_several_streams_in_the_order_given(log: EventLog) -> None:
    positions = await log.append([published("p2"), published("p1"), deleted("p2")])
    assert list(positions) == sorted(positions)
    assert places(await log.read(0, 10)) == [
        ("post:p2", 1, positions[0]),
        ("post:p1", 1, positions[1]),
        ("post:p2", 2, positions[2]),
    ]


async def test_several_streams_are_loaded_together_and_empty_ones_left_out(log: EventLog) -> None:
    await log.append([published("p1"), published("p2")])
    await log.append([deleted("p1")])
    found = await log.load_many(["post:p1", "post:p2", "post:p3"])
    assert {stream: [one.version for one in events] for stream, events in found.items()} == {
        "post:p1": [1, 2],
        "post:p2": [1],
    }


async def test_a_version_that_is_taken_is_refused_and_nothing_written(log: EventLog) -> None:
    await log.append([published("p1")])
    with pytest.raises(StreamMoved):
        await log.append([published("p2"), published("p1")], answer("k"))
    assert list(await log.load("post:p2")) == []
    assert await log.answer("ann", "k") is None


async def test_a_version_that_leaves_a_gap_is_refused(log: EventLog) -> None:
    with pytest.raises(StreamMoved):
        await log.append([deleted("p1")])
    await log.append([published("p1")])
    with pytest.raises(StreamMoved):
        await log.append([deleted("p1", version=3)])
    assert len(await log.load("post:p1")) == 1


async def test_of_two_that_race_for_a_version_one_wins_and_neighbours_are_not_harmed(
    log: EventLog,
) -> None:
    attempts = [[published(f"n{number}")] for number in range(20)] + [
        [published("hot"), published(f"w{number}")] for number in range(20)
    ]
    results = await asyncio.gather(*map(log.append, attempts), return_exceptions=True)
    refused = [one for one in results if isinstance(one, BaseException)]
    assert [type(one) for one in refused] == [StreamMoved] * 19
    streams = [one.stream for one in await log.read(0, 1_000)]
    assert len([stream for stream in streams if stream.startswith("post:n")]) == 20
    assert len([stream for stream in streams if stream.startswith("post:w")]) == 1


async def test_appends_to_one_stream_may_follow_each_other_without_waiting(log: EventLog) -> None:
    first = asyncio.ensure_future(log.append([published("p1")]))
    second = asyncio.ensure_future(log.append([deleted("p1")]))
    assert (await first)[0] < (await second)[0]


async def test_an_append_that_builds_on_a_refused_one_is_refused_too(log: EventLog) -> None:
    await log.append([published("taken")])
    results = await asyncio.gather(
        log.append([published("taken"), published("p1")]),
        log.append([deleted("p1")]),
        log.append([published("p2")]),
        return_exceptions=True,
    )
    assert [type(one) for one in results[:2]] == [StreamMoved, StreamMoved]
    assert [one.stream for one in await log.read(0, 10)] == ["post:taken", "post:p2"]


async def test_an_answer_is_kept_with_the_position_of_the_last_event(log: EventLog) -> None:
    positions = await log.append([published("p1"), deleted("p1")], answer("k"))
    assert await log.answer("ann", "k") == answer("k", position=positions[-1])


async def test_an_answer_without_events_keeps_the_position_it_names(log: EventLog) -> None:
    (position,) = await log.append([published("p1")])
    assert list(await log.append([], answer("k", position=position))) == []
    assert await log.answer("ann", "k") == answer("k", position=position)


async def test_a_key_that_was_answered_is_refused_and_nothing_written(log: EventLog) -> None:
    await log.append([published("p1")], answer("k"))
    with pytest.raises(KeyTaken):
        await log.append([published("p2")], answer("k"))
    with pytest.raises(KeyTaken):
        await log.append([], answer("k"))
    assert list(await log.load("post:p2")) == []


async def test_each_member_has_keys_of_their_own(log: EventLog) -> None:
    await log.append([published("p1")], answer("k"))
    await log.append([published("p2")], answer("k", member_id="bob"))
    assert await log.answer("bob", "k") is not None
    assert await log.answer("cleo", "k") is None


async def test_the_log_is_read_in_order_from_any_position(log: EventLog) -> None:
    appended = [await log.append([published(f"p{number}")]) for number in range(10)]
    positions = list(chain(*appended))
    assert await log.head() == positions[-1]
    assert [one.position for one in await log.read(positions[3], 4)] == positions[4:8]
    assert list(await log.read(positions[-1], 4)) == []


async def test_waiting_ends_soon_after_an_append(log: EventLog) -> None:
    waiting = asyncio.ensure_future(log.wait(0, 60))
    await asyncio.sleep(0.05)
    await log.append([published("p1")])
    assert await asyncio.wait_for(waiting, 30)


async def test_waiting_for_what_is_there_already_does_not_wait(log: EventLog) -> None:
    await log.append([published("p1")])
    assert await asyncio.wait_for(log.wait(0, 60), 30)


async def test_waiting_ends_when_the_time_is_over(log: EventLog) -> None:
    (position,) = await log.append([published("p1")])
    assert not await log.wait(position, 0.05)
