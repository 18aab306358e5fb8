"""The log in PostgreSQL when things go wrong: conflicts, lost connections, servers in trouble."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

import psycopg
import pytest

from domain.social.engagement.events import PostLiked, PostUnliked
from infra.adapters.log import group_commit, log_listener
from infra.adapters.log.event_log import PostgresEventLog, UnreadableEvent
from infra.adapters.log.group_commit import OutcomeUnknown, Unstorable
from infra.adapters.migrations import migrate
from infra.formats import codec
from infra.ports.log import KeyTaken, LogUnavailable, Recorded, StoredAnswer, StreamMoved
from tests.integration.proxy import Proxy, proxied

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WRITER = "plaza-log-writer"
LISTENER = "plaza-log-listener"
APPENDING = b"log.append"


def like(stream: str, version: int = 1) -> Recorded:
    kind = PostLiked if version % 2 else PostUnliked
    event = kind(post_id=stream, author_id="ann", member_id="bob")
    return Recorded(
        stream=stream, version=version, recorded_at=NOON, event=event, correlation_id=f"{version}"
    )


def answer(key: str, position: int = 0) -> StoredAnswer:
    return StoredAnswer(
        member_id="bob", key=key, body_hash=b"hash", status=201, body=b"{}", position=position
    )


@pytest.fixture
async def url(postgres_url: str) -> str:
    await migrate(postgres_url)
    return postgres_url


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresEventLog]:
    log = await PostgresEventLog.open(url)
    try:
        yield log
    finally:
        await log.close()


@pytest.fixture
async def log(url: str) -> AsyncIterator[PostgresEventLog]:
    async with opened(url) as log:
        yield log


@pytest.fixture
async def proxy(url: str) -> AsyncIterator[Proxy]:
    async with proxied(url) as proxy:
        yield proxy


@contextmanager
def administrator(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def end_backends(connection: psycopg.Connection, name: str) -> int:
    ended = connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = %s AND datname = current_database()",
        [name],
    )
    return len(ended.fetchall())


async def stored(log: PostgresEventLog) -> list[tuple[str, int]]:
    return [(line.stream, line.version) for line in await log.read_lines(0, 1_000_000)]


# Batches.


async def together(log: PostgresEventLog, *commands: Sequence[Recorded]) -> list[object]:
    """The outcomes of commands that are written in one batch: `ok`, or what was raised."""
    outcomes = await asyncio.gather(*map(log.append, commands), return_exceptions=True)
    return ["ok" if isinstance(one, list) else type(one) for one in outcomes]


async def test_one_conflict_in_a_batch_fails_no_neighbour(log: PostgresEventLog) -> None:
    await log.append([like("a")])
    assert await together(log, [like("b")], [like("a")], [like("c")]) == ["ok", StreamMoved, "ok"]
    assert await stored(log) == [("a", 1), ("b", 1), ("c", 1)]


async def test_of_two_commands_on_one_version_in_a_batch_the_second_is_refused(
    log: PostgresEventLog,
) -> None:
    assert await together(log, [like("a")], [like("a")]) == ["ok", StreamMoved]
    assert await stored(log) == [("a", 1)]


async def test_a_command_of_several_streams_goes_in_whole_or_not_at_all(
    log: PostgresEventLog,
) -> None:
    await log.append([like("b")])
    many = [like("a"), like("a", 2), like("b"), like("c")]
    assert await together(log, many, [like("d")]) == [StreamMoved, "ok"]
    assert await stored(log) == [("b", 1), ("d", 1)]


async def test_a_command_that_continues_a_refused_one_is_refused(log: PostgresEventLog) -> None:
    """Commands of one busy stream are decided one on the other, before the first is written."""
    await log.append([like("a")])
    outcomes = await together(log, [like("a"), like("x")], [like("x", 2)], [like("a", 2)])
    assert outcomes == [StreamMoved, StreamMoved, "ok"]


async def test_commands_of_one_stream_can_follow_each_other_in_a_batch(
    log: PostgresEventLog,
) -> None:
    chain = [[like("a", version)] for version in range(1, 40)]
    assert await together(log, *chain) == ["ok"] * 39
    assert [one.version for one in await log.load("a")] == list(range(1, 40))


async def test_a_taken_key_in_a_batch_fails_its_own_command_only(log: PostgresEventLog) -> None:
    outcomes = await asyncio.gather(
        log.append([like("a")], answer("k")),
        log.append([like("b")], answer("k")),
        log.append([like("c")], answer("other")),
        return_exceptions=True,
    )
    assert [type(one) for one in outcomes] == [list, KeyTaken, list]
    assert await stored(log) == [("a", 1), ("c", 1)]


async def test_an_answer_without_events_keeps_the_position_it_was_given(
    log: PostgresEventLog,
) -> None:
    await log.append([], answer("k", position=17))
    kept = await log.answer("bob", "k")
    assert kept is not None
    assert kept.position == 17


async def test_values_that_cannot_be_stored_fail_their_own_command_only(
    log: PostgresEventLog,
) -> None:
    too_long = random.Random(1).randbytes(3_000).hex()
    outcomes = await together(log, [like("a")], [like("nul\0")], [like(too_long)], [like("b")])
    assert outcomes == ["ok", Unstorable, Unstorable, "ok"]
    assert await stored(log) == [("a", 1), ("b", 1)]


async def test_an_answer_that_cannot_be_stored_fails_its_own_command_only(
    log: PostgresEventLog,
) -> None:
    outcomes = await asyncio.gather(
        log.append([like("a")], answer("nul\0")),
        log.append([like("b")], answer("\ud800")),
        log.append([like("c")], answer("k")),
        return_exceptions=True,
    )
    assert [type(one) for one in outcomes] == [Unstorable, UnicodeEncodeError, list]
    assert await stored(log) == [("c", 1)]


async def test_versions_that_do_not_follow_each_other_are_a_fault_of_the_caller(
    log: PostgresEventLog,
) -> None:
    with pytest.raises(ValueError, match="do not follow"):
        await log.append([like("a"), like("a", 3)])


async def test_a_caller_who_goes_away_takes_nobody_along(log: PostgresEventLog) -> None:
    gone = asyncio.create_task(log.append([like("a")]))
    stays = asyncio.create_task(log.append([like("b")]))
    await asyncio.sleep(0)
    gone.cancel()
    assert len(await stays) == 1
    assert ("b", 1) in await stored(log)


async def test_large_commands_are_spread_over_several_batches(log: PostgresEventLog) -> None:
    commands = [[like(f"{n}", version) for version in range(1, 301)] for n in range(12)]
    assert await together(log, *commands) == ["ok"] * 12
    assert len(await stored(log)) == 3_600


# Lost connections.


async def test_a_commit_whose_answer_was_lost_is_found_in_the_log(proxy: Proxy) -> None:
    async with opened(proxy.url) as log:
        await log.append([like("warm")])
        proxy.answer_lost = once(is_append)
        assert await log.append([like("a"), like("b")], answer("k")) == [2, 3]
        assert await stored(log) == [("warm", 1), ("a", 1), ("b", 1)]
        with pytest.raises(StreamMoved):
            await log.append([like("a")])


async def test_an_answer_without_events_whose_commit_was_lost_is_found(proxy: Proxy) -> None:
    async with opened(proxy.url) as log:
        await log.append([like("warm")])
        proxy.answer_lost = once(is_append)
        assert list(await log.append([], answer("k"))) == []


async def test_a_request_that_was_lost_is_written_once(proxy: Proxy) -> None:
    async with opened(proxy.url) as log:
        await log.append([like("warm")])
        proxy.request_lost = once(is_append)
        await log.append([like("a")])
        assert await stored(log) == [("warm", 1), ("a", 1)]


async def test_a_request_that_arrives_after_its_repetition_changes_nothing(proxy: Proxy) -> None:
    async with opened(proxy.url) as log:
        await log.append([like("warm")])
        proxy.late_seconds = 0.3
        proxy.request_lost = once(is_append)
        positions = await log.append([like("a"), like("a", 2)])
        await asyncio.sleep(0.6)
        assert await stored(log) == [("warm", 1), ("a", 1), ("a", 2)]
        assert [one.position for one in await log.load("a")] == list(positions)


async def test_somebody_elses_event_is_not_taken_for_ours(url: str, proxy: Proxy) -> None:
    async with opened(proxy.url) as log, opened(url) as other:
        await log.append([like("warm")])
        proxy.request_lost = once(is_append)
        losing = asyncio.create_task(log.append([like("a")]))
        theirs = Recorded(
            stream="a", version=1, recorded_at=NOON, event=like("a").event, correlation_id="theirs"
        )
        proxy.held.clear()
        await other.append([theirs])
        proxy.held.set()
        with pytest.raises(StreamMoved):
            await losing
        assert [one.correlation_id for one in await log.load("a")] == ["theirs"]


@pytest.mark.parametrize("seed", range(3))
async def test_connections_lost_at_random_lose_and_repeat_nothing(proxy: Proxy, seed: int) -> None:
    chance = random.Random(seed)
    losses: list[bytes] = []

    def lose_some(data: bytes) -> bool:
        if not is_append(data) or chance.random() > 0.05:
            return False
        losses.append(data)
        return True

    proxy.request_lost = proxy.answer_lost = lose_some
    async with opened(proxy.url) as log:
        acknowledged = await write_chains(log, writers=32, commands=40)
        await assert_exactly(log, acknowledged)
    assert losses


async def test_ended_backends_lose_and_repeat_nothing(url: str, log: PostgresEventLog) -> None:
    chance = random.Random(7)

    async def disturb(connection: psycopg.Connection) -> None:
        while True:
            await asyncio.sleep(chance.uniform(0.01, 0.08))
            end_backends(connection, WRITER)

    with administrator(url) as connection:
        disturbing = asyncio.create_task(disturb(connection))
        acknowledged = await write_chains(log, writers=32, commands=60)
        disturbing.cancel()
    await assert_exactly(log, acknowledged)


async def write_chains(
    log: PostgresEventLog, writers: int, commands: int
) -> dict[tuple[str, int], int]:
    """Each writer appends to a stream of its own; where every event was acknowledged to stand.

    A false conflict would raise, and a command that was written twice or by half would show.
    """
    acknowledged: dict[tuple[str, int], int] = {}

    async def write(writer: int) -> None:
        for number in range(commands):
            events = [like(f"chain-{writer}", number + 1), like(f"single-{writer}-{number}")]
            key = answer(f"{writer}-{number}") if number % 3 == 0 else None
            positions = await log.append(events, key)
            for event, position in zip(events, positions, strict=True):
                acknowledged[event.stream, event.version] = position

    await asyncio.gather(*(write(writer) for writer in range(writers)))
    return acknowledged


async def assert_exactly(log: PostgresEventLog, acknowledged: dict[tuple[str, int], int]) -> None:
    lines = await log.read_lines(0, 1_000_000)
    assert {(line.stream, line.version): line.position for line in lines} == acknowledged
    assert len(lines) == len(acknowledged)


def is_append(data: bytes) -> bool:
    # The statement is prepared at its first use; from then on its name stands for it.
    return APPENDING in data or b"\x00_pg3_0\x00" in data


def once(condition: Callable[[bytes], bool]) -> Callable[[bytes], bool]:
    done: list[bool] = []

    def decide(data: bytes) -> bool:
        if done or not condition(data):
            return False
        done.append(True)
        return True

    return decide


# A server in trouble.


async def test_without_a_server_commands_are_refused_in_time_and_later_go_in(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "PATIENCE_SECONDS", 0.5)
    async with opened(proxy.url) as log:
        await log.append([like("a")])
        await proxy.close()
        started = time.monotonic()
        with pytest.raises(LogUnavailable):
            await log.append([like("b")])
        assert time.monotonic() - started < 30
        await proxy.open()
        assert await log.append([like("c")]) == [2]


async def test_a_short_absence_of_the_server_is_waited_out(proxy: Proxy) -> None:
    async with opened(proxy.url) as log:
        await log.append([like("a")])
        await proxy.close()
        appending = asyncio.create_task(log.append([like("b")]))
        loading = asyncio.create_task(log.load("a"))
        await asyncio.sleep(0.4)
        await proxy.open()
        assert await appending == [2]
        assert len(await loading) == 1


async def test_nobody_is_told_that_a_command_failed_while_that_is_unknown(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(group_commit, "DOUBT_PATIENCE_SECONDS", 1.0)
    async with opened(proxy.url) as log:
        await log.append([like("warm")])
        closing: list[asyncio.Task[None]] = []

        def lose_and_close(data: bytes) -> bool:
            if is_append(data):
                closing.append(asyncio.create_task(proxy.close()))
                return True
            return False

        proxy.answer_lost = lose_and_close
        with pytest.raises(OutcomeUnknown):
            await log.append([like("a")])


@pytest.mark.parametrize("state", ["disk_full", "read_only_sql_transaction", "io_error"])
async def test_a_server_that_cannot_write_refuses_the_batch_and_recovers(
    url: str, log: PostgresEventLog, state: str
) -> None:
    with administrator(url) as connection:
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$;"
            " CREATE TRIGGER refuse BEFORE INSERT ON log.events EXECUTE FUNCTION refuse()"
        )
        assert await together(log, [like("a")], [like("b")]) == [LogUnavailable] * 2
        connection.execute("DROP TRIGGER refuse ON log.events")
    assert await together(log, [like("a")], [like("b")]) == ["ok", "ok"]


async def test_a_database_set_to_read_only_refuses_and_recovers(
    url: str, log: PostgresEventLog
) -> None:
    name = url.rpartition("/")[2]
    with administrator(url) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        end_backends(connection, WRITER)
        with pytest.raises(LogUnavailable):
            await log.append([like("a")])
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await log.append([like("b")])
    assert await stored(log) == [("b", 1)]


async def test_a_full_queue_refuses_at_once(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "WAITING_MAX", 10)
    async with opened(proxy.url) as log:
        await log.append([like("warm")])
        proxy.held.clear()
        first = asyncio.create_task(log.append([like("first")]))
        await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(log.append([like(f"{n}")])) for n in range(10)]
        await asyncio.sleep(0.05)
        with pytest.raises(LogUnavailable):
            await log.append([like("one too many")])
        proxy.held.set()
        await first
        await asyncio.gather(*waiting)


async def test_a_server_that_does_not_answer_is_left(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "WRITE_SECONDS", 0.3)
    async with opened(proxy.url) as log:
        await log.append([like("warm")])
        proxy.held.clear()
        appending = asyncio.create_task(log.append([like("a")]))
        await asyncio.sleep(0.6)
        proxy.held.set()
        await appending
        assert await stored(log) == [("warm", 1), ("a", 1)]


async def test_closing_writes_what_waits(url: str) -> None:
    async with opened(url) as log:
        waiting = [asyncio.create_task(log.append([like(f"{n}")])) for n in range(500)]
        await asyncio.sleep(0)
    assert len(await asyncio.gather(*waiting)) == 500
    with pytest.raises(LogUnavailable):
        await log.append([like("late")])


# Reading.


async def test_an_unreadable_event_ends_a_run_and_is_then_named(
    url: str, log: PostgresEventLog
) -> None:
    await log.append([like("a")])
    with administrator(url) as connection:
        connection.execute(
            "INSERT INTO log.events (originator_id, originator_version, topic, state)"
            " VALUES ('b', 1, 'from.tomorrow.v1', '\\xc1')"
        )
    await log.append([like("c")])
    assert [one.stream for one in await log.read(0, 10)] == ["a"]
    with pytest.raises(UnreadableEvent) as caught:
        await log.read(1, 10)
    assert caught.value.line == codec.Line(2, "b", 1, b"\xc1")
    assert [one.stream for one in await log.read(2, 10)] == ["c"]
    assert [line.stream for line in await log.read_lines(0, 10)] == ["a", "b", "c"]


async def test_waiting_ends_soon_after_somebody_elses_append(
    url: str, log: PostgresEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without being told, the log would be looked at much too late.
    monkeypatch.setattr(log_listener, "LOOK_SECONDS", 300)
    async with opened(url) as other:
        waiting = asyncio.create_task(log.wait(0, 60))
        await asyncio.sleep(0.2)
        await other.append([like("a")])
        assert await waiting


async def test_waiting_survives_the_loss_of_its_connection(url: str, log: PostgresEventLog) -> None:
    async with opened(url) as other:
        waiting = asyncio.create_task(log.wait(0, 60))
        await asyncio.sleep(0.2)
        with administrator(url) as connection:
            assert end_backends(connection, LISTENER) == 1
        await other.append([like("a")])
        assert await waiting


async def test_waiting_notices_what_was_appended_without_a_notice(
    url: str, log: PostgresEventLog
) -> None:
    waiting = asyncio.create_task(log.wait(0, 60))
    await asyncio.sleep(0.2)
    line = like("a")
    with administrator(url) as connection:
        connection.execute(
            "INSERT INTO log.events (originator_id, originator_version, topic, state)"
            " VALUES ('a', 1, 'like.added.v1', %s)",
            [codec.encode_state(line)],
        )
    assert await waiting


async def test_waiting_ends_after_its_time(log: PostgresEventLog) -> None:
    started = time.monotonic()
    assert not await log.wait(0, 0.3)
    assert time.monotonic() - started > 0.2
