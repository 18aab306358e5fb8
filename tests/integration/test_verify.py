"""Verifying: nothing differs while workers go on, and whatever is changed in a table is named."""

import asyncio
import json
from collections.abc import Callable, Sequence

import psycopg
import pytest

from domain.social.relation.events import Followed, Unfollowed
from infra.adapters.log.event_log import PostgresEventLog
from infra.command_line.main import run
from infra.composition.operations.verifying import verify, verify_together
from infra.composition.settings import Settings
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.ports.keepers import CannotVerify, NotServed, Verified
from infra.ports.log import Recorded
from infra.ports.tables import Add, Change
from infra.runtime.frames.embedded import EmbeddedRunner
from infra.runtime.projecting.projection import Projection
from projections import graph, members, posts
from tests.integration.tables import SOCIAL, chain, contents, projector, random_log
from tests.integration.test_rebuild import append_more
from tests.waiting import until

COUNT = 1_500


def settings(url: str) -> Settings:
    return Settings(postgres_url=url)


async def served(url: str, seed: int, projections: Sequence[Projection] = SOCIAL) -> list[Recorded]:
    events = await random_log(url, seed, COUNT)
    async with projector(url, projections) as target:
        for frames in chain(events, 200):
            await target.apply(frames)
    return events


async def test_nothing_differs_from_what_the_workers_left(postgres_url: str) -> None:
    await served(postgres_url, 91)
    for projection in SOCIAL:
        found = await verify(settings(postgres_url), projection)
        assert (found.different, found.examples) == (0, [])
        assert found.position == COUNT
        # No tag can be read in the texts of these events: see test_trending.py for those.
        assert found.documents > 0 or projection.name == "tags"


async def test_nothing_differs_while_traffic_goes_on(postgres_url: str) -> None:
    await random_log(postgres_url, 92, COUNT)
    log = await PostgresEventLog.open(postgres_url)
    async with projector(postgres_url) as target:
        await target.checkpoints()
        running = asyncio.create_task(EmbeddedRunner(log, target, SOCIAL_PARTITIONS).run())
        writing = asyncio.create_task(append_more(log, 400))
        seen = set()
        while not writing.done():
            found = await verify(settings(postgres_url), graph.PROJECTION)
            assert found.different == 0, found
            seen.add(found.position)
        await writing
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await log.close()
    assert len(seen) > 1


PLANTED = {
    "a count of one more": (
        graph.PROJECTION,
        (
            "UPDATE graph_b1.member_counts SET followers = followers + 1 WHERE member_id ="
            " (SELECT min(member_id) FROM graph_b1.member_counts) RETURNING member_id"
        ),
        "member_counts",
        "member_id",
    ),
    "a row that is gone": (
        posts.PROJECTION,
        (
            "DELETE FROM posts_b1.posts WHERE position ="
            " (SELECT max(position) FROM posts_b1.posts) RETURNING position"
        ),
        "posts",
        "position",
    ),
    "a row that nobody made": (
        graph.PROJECTION,
        "INSERT INTO graph_b1.follows VALUES (1, 2, 3, 9223372036854775807) RETURNING follower_id",
        "follows",
        "follower_id",
    ),
    "a byte of a sealed text": (
        members.PROJECTION,
        (
            "UPDATE members_b1.members SET bio = set_byte(bio, 3, 1 + get_byte(bio, 3) % 200) WHERE"
            " (member_id, since) = (SELECT member_id, since FROM members_b1.members"
            " WHERE bio IS NOT NULL LIMIT 1) RETURNING member_id"
        ),
        "members",
        "member_id",
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
async def test_a_planted_difference_is_found_and_named(postgres_url: str, planted: str) -> None:
    projection, statement, table, key = PLANTED[planted]
    await served(postgres_url, 93)
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    found = await verify(settings(postgres_url), projection)
    assert found.different == 1
    (example,) = found.examples
    assert example.place == table
    shown = example.served or example.computed
    assert shown is not None
    assert shown[key] == row[0]
    assert example.served != example.computed


Fold = Callable[[Recorded], Sequence[Change]]
Bug = Callable[[Sequence[Recorded]], Fold]
"""A fold that is wrong in one way, made for these events."""

RIGHT = graph.PROJECTION.fold
EVERY = 100


def dropping(_events: Sequence[Recorded]) -> Fold:
    return lambda recorded: () if recorded.position % EVERY == 0 else RIGHT(recorded)


def applying_one_twice(events: Sequence[Recorded]) -> Fold:
    first = next(one.position for one in events if isinstance(one.event, Followed))

    def fold(recorded: Recorded) -> Sequence[Change]:
        changes = RIGHT(recorded)
        again = [one for one in changes if isinstance(one, Add)]
        return (*changes, *again) if recorded.position == first else changes

    return fold


def swapping_two(events: Sequence[Recorded]) -> Fold:
    one, other = [one for one in events if isinstance(one.event, Followed)][:2]
    swapped = {one.position: other, other.position: one}
    return lambda recorded: RIGHT(swapped.get(recorded.position, recorded))


def wrong_on_one_type(_events: Sequence[Recorded]) -> Fold:
    return lambda recorded: () if isinstance(recorded.event, Unfollowed) else RIGHT(recorded)


@pytest.mark.parametrize("bug", [dropping, applying_one_twice, swapping_two, wrong_on_one_type])
async def test_tables_of_a_fold_with_a_bug_differ(postgres_url: str, bug: Bug) -> None:
    events = await random_log(postgres_url, 94, COUNT)
    handles, tables = graph.PROJECTION.handles, graph.PROJECTION.tables
    handled = [recorded for recorded in events if type(recorded.event) in handles]
    wrong = Projection("graph", 1, handles, tables, bug(handled))
    async with projector(postgres_url, [wrong]) as target:
        for frames in chain(events, 200):
            await target.apply(frames)
    found = await verify(settings(postgres_url), graph.PROJECTION)
    assert found.different > 0


async def test_one_pass_verifies_several_and_one_that_cannot_be_keeps_none_from_it(
    postgres_url: str,
) -> None:
    await served(postgres_url, 191, [graph.PROJECTION, posts.PROJECTION])
    broken = Projection(
        "posts",
        posts.PROJECTION.version,
        posts.PROJECTION.handles,
        posts.PROJECTION.tables,
        raising_at_last,
    )
    projections = [graph.PROJECTION, broken, members.PROJECTION]
    found = await verify_together(settings(postgres_url), projections)
    assert isinstance(found["graph"], Verified)
    assert (found["graph"].different, found["graph"].position) == (0, COUNT)
    assert isinstance(found["posts"], CannotVerify)
    assert "not any more" in str(found["posts"])
    assert isinstance(found["members"], NotServed)


def raising_at_last(recorded: Recorded) -> Sequence[Change]:
    if recorded.position > COUNT - 100:
        raise ValueError("not any more")
    return posts.PROJECTION.fold(recorded)


async def test_nothing_is_left_in_the_database(postgres_url: str) -> None:
    await served(postgres_url, 192, [graph.PROJECTION])
    with psycopg.connect(postgres_url, autocommit=True) as connection:

        def relations() -> list[tuple[str]]:
            return connection.execute("SELECT relname FROM pg_class ORDER BY 1").fetchall()

        before = relations()
        await verify(settings(postgres_url), graph.PROJECTION)
        # The server removes what was temporary once it has seen the connection end.
        await until(lambda: relations() == before)


@pytest.mark.parametrize("planted", PLANTED)
async def test_a_planted_difference_is_mended_alone(postgres_url: str, planted: str) -> None:
    projection, statement, _, _ = PLANTED[planted]
    await served(postgres_url, 98)
    before = contents(postgres_url, [projection])
    with psycopg.connect(postgres_url) as connection:
        connection.execute(statement.encode())
    assert contents(postgres_url, [projection]) != before
    found = await verify(settings(postgres_url), projection, repair=True)
    assert (found.different, found.repaired) == (1, 1)
    assert contents(postgres_url, [projection]) == before
    assert (await verify(settings(postgres_url), projection)).different == 0


async def test_what_came_meanwhile_is_in_the_mended_rows(postgres_url: str) -> None:
    await served(postgres_url, 99)
    log = await PostgresEventLog.open(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE graph_b1.member_counts SET followers = followers + 3")
    async with projector(postgres_url) as target:
        running = asyncio.create_task(EmbeddedRunner(log, target, SOCIAL_PARTITIONS).run())
        writing = asyncio.create_task(append_more(log, 300))
        found = await verify(settings(postgres_url), graph.PROJECTION, repair=True)
        await writing
        head = await log.head()
        async with asyncio.timeout(20):
            while min((await target.checkpoints()).values()) < head:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await log.close()
    assert found.repaired > 10
    assert (await verify(settings(postgres_url), graph.PROJECTION)).different == 0


async def test_events_that_were_set_aside_are_not_missed(postgres_url: str) -> None:
    wrong = Projection("graph", 1, graph.PROJECTION.handles, graph.PROJECTION.tables, parking)
    await served(postgres_url, 95, [wrong])
    found = await verify(settings(postgres_url), graph.PROJECTION)
    assert found.set_aside > 0
    assert found.different == 0


def parking(recorded: Recorded) -> Sequence[Change]:
    if recorded.position % 500 < 10:
        raise ValueError("not this one")
    return graph.PROJECTION.fold(recorded)


async def test_what_is_not_served_or_of_another_version_cannot_be_verified(
    postgres_url: str,
) -> None:
    await random_log(postgres_url, 96, 100)
    with pytest.raises(NotServed):
        await verify(settings(postgres_url), graph.PROJECTION)
    await served_again(postgres_url)
    newer = Projection(
        "graph", 2, graph.PROJECTION.handles, graph.PROJECTION.tables, graph.PROJECTION.fold
    )
    with pytest.raises(CannotVerify, match="served in version 1"):
        await verify(settings(postgres_url), newer)


async def served_again(url: str) -> None:
    async with projector(url) as target:
        await target.checkpoints()


async def test_the_command_answers_rows_and_a_status(
    postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await served(postgres_url, 97)
    environment = {"PLAZA_POSTGRES_URL": postgres_url}
    words = ["projections", "verify", "--json"]
    assert await asyncio.to_thread(run, words, environment) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [projection.name for projection in SOCIAL]
    assert {row["different"] for row in rows} == {0}
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE engagement_b1.engagement_counts SET likes = likes + 1")
    words = ["projections", "verify", "engagement"]
    assert await asyncio.to_thread(run, words, environment) == 1
    shown = capsys.readouterr().out
    assert "log" in shown
    assert await asyncio.to_thread(run, ["projections", "verify", "nobody"], environment) == 2
