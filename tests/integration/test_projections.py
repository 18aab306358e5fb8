"""Read tables: the same whatever happens to frames, equal to a plain model at every position."""

import asyncio
import random
from collections import Counter
from typing import Any

import msgspec
import psycopg
import pytest

from domain.shared.identifiers import id_number, id_text
from domain.social.member.events import MemberErased, MemberRegistered, ProfileChanged
from domain.social.post.events import PostPublished
from domain.social.relation.events import Followed
from domain.social.session.events import SessionEnded
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.tables.postgres_projections import PostgresProjections
from infra.ports.frames import CHANGES_CHANNEL, Applied, Frame
from infra.ports.log import OPEN, Recorded
from infra.runtime.projecting.dead_letters import DeadLetters, NotSetAside
from infra.runtime.projecting.projection import Projection
from projections import graph
from tests.fault.oracle import Square
from tests.histories import as_lines
from tests.integration.tables import (
    SOCIAL,
    Tables,
    chain,
    checkpoints,
    contents,
    forget_tables,
    frames_of,
    projector,
    random_log,
)

COUNT = 1500


async def expected_tables(url: str, events: list[Recorded]) -> Tables:
    """What the plain way leaves: every batch once, in order. The tables are dropped afterwards."""
    async with projector(url) as target:
        for frames in chain(events, 250):
            await target.apply(frames)
    tables = contents(url)
    assert checkpoints(url) == {len(events)}
    forget_tables(url)
    return tables


@pytest.mark.parametrize("size", [1, 7, 100, COUNT])
async def test_the_size_of_batches_does_not_matter(postgres_url: str, size: int) -> None:
    count = COUNT if size > 1 else 300
    events = await random_log(postgres_url, 5, count)
    expected = await expected_tables(postgres_url, events)
    async with projector(postgres_url) as target:
        for frames in chain(events, size):
            await target.apply(frames)
    assert contents(postgres_url) == expected


@pytest.mark.parametrize("seed", range(6))
async def test_frames_repeated_dropped_and_swapped_leave_the_same_tables(
    postgres_url: str, seed: int
) -> None:
    events = await random_log(postgres_url, seed, COUNT)
    expected = await expected_tables(postgres_url, events)
    dice = random.Random(seed)
    handed: list[Frame] = [frame for frames in chain(events, 60) for frame in frames]
    handed = [frame for frame in handed if dice.random() > 0.2]
    handed += dice.choices(handed, k=40)
    for _ in range(60):
        one = dice.randrange(len(handed))
        other = min(max(one + dice.randrange(-20, 20), 0), len(handed) - 1)
        handed[one], handed[other] = handed[other], handed[one]
    async with projector(postgres_url) as target:
        while handed:
            size = dice.randrange(1, 12)
            await target.apply(handed[:size])
            del handed[:size]
        # Whatever came last was dropped, perhaps; a watermark tells that there is more.
        await target.apply([Frame(p, COUNT, COUNT + 1, COUNT) for p in range(8)])
    assert contents(postgres_url) == expected


async def test_two_workers_on_the_same_partitions_apply_everything_once(postgres_url: str) -> None:
    events = await random_log(postgres_url, 11, COUNT)
    expected = await expected_tables(postgres_url, events)
    async with projector(postgres_url) as one, projector(postgres_url) as two:
        batches = chain(events, 100)
        for first, second in zip(batches, reversed(batches), strict=True):
            await asyncio.gather(one.apply(first), two.apply(second))
    assert contents(postgres_url) == expected


async def test_workers_on_different_partitions_share_count_rows(postgres_url: str) -> None:
    events = await random_log(postgres_url, 12, COUNT)
    expected = await expected_tables(postgres_url, events)

    async def work(partitions: range) -> None:
        async with projector(postgres_url) as target:
            for frames in chain(events, 40):
                await target.apply([f for f in frames if f.partition in partitions])

    await asyncio.gather(work(range(4)), work(range(4, 8)))
    assert contents(postgres_url) == expected


async def test_a_worker_cut_off_at_any_moment_leaves_whole_batches(postgres_url: str) -> None:
    events = await random_log(postgres_url, 13, COUNT)
    expected = await expected_tables(postgres_url, events)
    dice = random.Random(13)
    batches = chain(events, 50)
    cuts = 0
    while batches:
        async with projector(postgres_url, patience_seconds=0) as target:
            applying = asyncio.create_task(target.apply(batches[0]))
            _, waiting = await asyncio.wait([applying], timeout=dice.uniform(0.0, 0.06))
            if waiting:
                cuts += 1
                cut_connections(postgres_url)
            outcome = (await asyncio.gather(applying, return_exceptions=True))[0]
        if outcome is None:
            batches.pop(0)
    assert cuts > 3
    assert contents(postgres_url) == expected


def cut_connections(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'plaza-projections'"
        )


def followed_by(number: int) -> Projection:
    """The graph, which fails on a follow of one member and on nothing else."""
    poison = id_text(number)

    def fold(recorded: Recorded) -> Any:
        event = recorded.event
        if type(event) is Followed and event.followee_id == poison:
            raise ZeroDivisionError("poison")
        return graph.fold(recorded)

    return Projection("graph", 1, graph.PROJECTION.handles, graph.PROJECTION.tables, fold)


async def test_poison_parks_its_key_and_retrying_it_applies_all_in_order(postgres_url: str) -> None:
    events = await random_log(postgres_url, 14, COUNT)
    expected = await expected_tables(postgres_url, events)
    poisoned = next(e.event.followee_id for e in events if type(e.event) is Followed)
    broken = tuple(followed_by(id_number(poisoned)) if p.name == "graph" else p for p in SOCIAL)
    async with projector(postgres_url, broken) as target:
        for frames in chain(events, 250):
            await target.apply(frames)
    assert checkpoints(postgres_url) == {COUNT}
    found = contents(postgres_url)
    # Whom the member blocks and mutes is ordered by the same key, and waits too.
    different = {name for name in found if found[name] != expected[name]}
    assert {"follows", "member_counts"} <= different <= {"follows", "member_counts", "hides"}
    others = [row for row in expected["follows"] if row[1] != id_number(poisoned)]
    assert found["follows"] == others

    store = PostgresProjections(postgres_url, SOCIAL)
    letters = DeadLetters(SOCIAL, store)
    parked, *waiting = await letters.list()
    assert (parked.status, parked.key, parked.projection) == ("parked", poisoned, "graph")
    assert parked.error == "ZeroDivisionError: poison"
    assert "graph.fold(recorded)" not in parked.trace
    assert "ZeroDivisionError" in parked.trace
    assert {letter.status for letter in waiting} == {"waiting"}
    assert [letter.position for letter in waiting] == sorted(w.position for w in waiting)

    outcome = await letters.retry(parked.id)
    assert (outcome.applied, outcome.remaining) == (1 + len(waiting), 0)
    assert contents(postgres_url) == expected
    with pytest.raises(NotSetAside):
        await letters.retry(parked.id)
    await store.close()


async def test_a_letter_that_fails_again_keeps_its_key_aside(postgres_url: str) -> None:
    events = await random_log(postgres_url, 15, 600)
    poisoned = next(e.event.followee_id for e in events if type(e.event) is Followed)
    broken = (followed_by(id_number(poisoned)),)
    async with projector(postgres_url, broken) as target:
        await target.apply(frames_of(events, 0))
    store = PostgresProjections(postgres_url, broken)
    letters = DeadLetters(broken, store)
    first = (await letters.list())[0]
    outcome = await letters.retry(first.id)
    assert outcome.applied == 0
    assert outcome.error == "ZeroDivisionError: poison"
    again = await letters.show(first.id)
    assert (again.status, again.attempts) == ("parked", 2)

    discarded = await letters.discard(first.id, why="a test")
    assert (await letters.show(first.id)).why == "a test"
    assert discarded.remaining == outcome.remaining - 1 - discarded.applied
    await store.close()


async def test_a_row_of_the_log_that_cannot_be_read_is_set_aside(postgres_url: str) -> None:
    events = await random_log(postgres_url, 16, 300)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "UPDATE log.events SET state = '\\xc1' WHERE notification_id = %s", [150]
        )
    log = await PostgresEventLog.open(postgres_url)
    async with projector(postgres_url) as target:
        # A gap from the start: everything is taken from the log.
        await target.apply([Frame(p, 300, 301, 300) for p in range(8)])
        await target.apply([Frame(p, 299, 300, 300) for p in range(8)])
    await log.close()
    assert checkpoints(postgres_url) == {300}
    store = PostgresProjections(postgres_url, SOCIAL)
    letters = await store.dead_letters()
    await store.close()
    assert {(letter.position, letter.status) for letter in letters} == {(150, "parked")}
    assert {letter.projection for letter in letters} == {p.name for p in SOCIAL}
    assert {letter.stream for letter in letters} == {events[149].stream}


@pytest.mark.parametrize("seed", [21, 22, 23])
async def test_tables_equal_a_plain_model_at_every_position(postgres_url: str, seed: int) -> None:
    events = await random_log(postgres_url, seed, COUNT)
    dice = random.Random(seed)
    async with projector(postgres_url) as target:
        for frames in chain(events, dice.randrange(20, 400)):
            await target.apply(frames)
    tables = contents(postgres_url)
    for position in [COUNT, *(dice.randrange(1, COUNT) for _ in range(12))]:
        square = Square().see(as_lines(events[:position]))
        assert follows_at(tables, position) == square.follows
        assert hides_at(tables, position) == (square.blocks, square.mutes)
        assert engaged_at(tables, "likes", position) == square.likes
        assert engaged_at(tables, "reposts", position) == set(square.reposts)
        assert standing_at(tables, position) == set(square.author) - square.deleted
        assert entries_at(tables, position) == {
            (author, *entry) for author, entries in square.entries.items() for entry in entries
        }
        for member in {id_text(row[0]) for row in tables["members"]}:
            assert timeline_at(tables, member, position) == square.timeline(member)
    assert members_of(tables) == plain_members(events)
    assert {row[0] for row in tables["ended_sessions"]} == {
        e.event.session_id for e in events if type(e.event) is SessionEnded
    }
    assert_counts(tables, Square().see(as_lines(events)))


def holds(row: tuple[Any, ...], position: int) -> bool:
    return bool(row[-2] <= position < row[-1])


def follows_at(tables: Tables, position: int) -> dict[tuple[str, str], int]:
    return {
        (id_text(row[0]), id_text(row[1])): row[2]
        for row in tables["follows"]
        if holds(row, position)
    }


def hides_at(tables: Tables, position: int) -> tuple[set[Any], set[Any]]:
    found = {
        (id_text(row[0]), id_text(row[1]), row[2])
        for row in tables["hides"]
        if holds(row, position)
    }
    return tuple({h[:2] for h in found if h[2] == kind} for kind in ("block", "mute"))  # type: ignore[return-value]


def engaged_at(tables: Tables, name: str, position: int) -> set[tuple[str, str]]:
    return {(id_text(row[1]), id_text(row[0])) for row in tables[name] if holds(row, position)}


def standing_at(tables: Tables, position: int) -> set[str]:
    return {id_text(row[0]) for row in tables["posts"] if holds(row, position)}


def entries_at(tables: Tables, position: int) -> set[tuple[str, int, str]]:
    return {
        (id_text(row[0]), row[-2], id_text(row[2]))
        for row in tables["entries"]
        if row[-2] <= position
    }


def timeline_at(tables: Tables, member: str, position: int) -> list[str]:
    """The law, from the tables alone."""
    me = id_number(member)
    since = {r[1]: r[2] for r in tables["follows"] if r[0] == me and holds(r, position)} | {me: 0}
    hidden = {r[1] for r in tables["hides"] if r[0] == me and holds(r, position)}
    hidden |= {
        r[0] for r in tables["hides"] if r[1] == me and r[2] == "block" and holds(r, position)
    }
    standing = {r[-2] for r in tables["posts"] if holds(r, position)}
    union: list[tuple[Any, ...]] = []
    for author, followed_at in since.items():
        own = sorted(
            (r for r in tables["entries"] if r[0] == author and r[-2] <= position),
            key=lambda r: r[-2],
        )
        union += [r for r in own if r[-2] <= followed_at][-20:]
        union += [r for r in own if r[-2] > followed_at]
    newest = sorted(union, key=lambda r: r[-2], reverse=True)[:800]
    shown: dict[str, None] = {}
    for author, post_position, post_id, post_author, _, _, until in newest:
        gone = until <= position or post_position not in standing
        if not gone and not {author, post_author} & hidden:
            shown.setdefault(id_text(post_id))
    return list(shown)


def assert_counts(tables: Tables, square: Square) -> None:
    members = {id_text(row[0]) for row in tables["members"]}
    counts = {id_text(row[0]): row[1:] for row in tables["member_counts"]}
    posts = {id_text(row[0]): row[1] for row in tables["author_counts"]}
    for member in members:
        followers, following = counts.get(member, (0, 0))[:2]
        assert square.profile_counts(member) == {
            "followerCount": followers,
            "followingCount": following,
            "postCount": posts.get(member, 0),
        }
    engagement = {id_text(row[0]): row[1:] for row in tables["engagement_counts"]}
    replies = {id_text(row[0]): row[1] for row in tables["post_counts"]}
    for post in square.author:
        likes, reposts = engagement.get(post, (0, 0))[:2]
        assert square.counts(post) == {
            "likeCount": likes,
            "repostCount": reposts,
            "replyCount": replies.get(post, 0),
        }


def members_of(tables: Tables) -> dict[str, list[tuple[Any, ...]]]:
    """Each member's rows: since, until, name, bio, erased."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in sorted(tables["members"], key=lambda row: row[-2]):
        member, key, username, name, bio, _, _, _, erased, since, until = row
        found.setdefault(id_text(member), []).append(
            (since, until, key, username, name, bio, erased)
        )
    return found


def plain_members(events: list[Recorded]) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[list[Any]]] = {}
    for recorded in events:
        event, position = recorded.event, recorded.position
        match event:
            case MemberRegistered():
                key, username = event.username_key, event.username.sealed
                name = event.display_name.sealed
                row = [position, OPEN, key, username, name, event.bio.sealed, False]
                found[event.member_id] = [row]
            case ProfileChanged():
                rows = found[event.member_id]
                rows[-1][1] = position
                rows.append([position, OPEN, *rows[-1][2:]])
                if event.display_name is not None:
                    rows[-1][4] = event.display_name.sealed
                if event.bio is not None:
                    rows[-1][5] = event.bio.sealed
            case MemberErased():
                rows = found[event.member_id]
                rows[-1][1] = position
                rows.append([position, OPEN, None, None, None, None, True])
                for row in rows:
                    row[2:6] = [None] * 4
    return {member: [tuple(row) for row in rows] for member, rows in found.items()}


async def test_positions_and_touched_ids_are_told_when_they_are_committed(
    postgres_url: str,
) -> None:
    events = await random_log(postgres_url, 31, 400)
    listener = await psycopg.AsyncConnection.connect(postgres_url, autocommit=True)
    await listener.execute(f"LISTEN {CHANGES_CHANNEL}".encode())
    async with projector(postgres_url) as target:
        await target.apply(frames_of(events, 0))
    told = [
        msgspec.json.decode(notice.payload, type=Applied)
        async for notice in listener.notifies(timeout=1)
    ]
    await listener.close()
    applied = [one for one in told if one.positions]
    assert {one.projection for one in applied} == {p.name for p in SOCIAL}
    assert all(one.positions == dict.fromkeys(range(8), 400) for one in applied)
    posts = {i for one in applied if one.projection == "posts" for i in one.posts}
    assert posts >= {id_number(e.event.post_id) for e in events if type(e.event) is PostPublished}
    kinds = Counter(one.everything for one in applied)
    assert kinds == {False: len(applied)}
