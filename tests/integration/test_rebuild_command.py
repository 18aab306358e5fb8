"""Rebuilding by command: equal tables are switched to, others only where that is accepted."""

import asyncio
import json
import sys

import psycopg
import pytest

from domain.shared.identifiers import id_text
from infra.adapters.tables.postgres_builds import PostgresBuilds
from infra.command_line.main import run
from infra.ports.keepers import AlreadyRebuilding
from infra.runtime.rebuilding import rebuild as rebuilding
from tests.integration.tables import contents
from tests.integration.test_rebuild import statuses
from tests.integration.test_verify import served


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "RETIRE_SECONDS", 0.0)


async def plaza(url: str, *words: str) -> int:
    return await asyncio.to_thread(run, ["projections", *words], {"PLAZA_POSTGRES_URL": url})


def live_build(url: str, name: str) -> int:
    (found,) = [build for build, status in statuses(url, name) if status == "live"]
    return found


def spoil_a_count(url: str) -> int:
    """Answers the member whose followers are wrong from now on."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "UPDATE graph_b1.member_counts SET followers = 77 WHERE member_id ="
            " (SELECT min(member_id) FROM graph_b1.member_counts) RETURNING member_id"
        ).fetchone()
    assert row is not None
    return int(row[0])


async def test_equal_tables_are_switched_to(postgres_url: str) -> None:
    await served(postgres_url, 111)
    before = contents(postgres_url)["follows"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infra.command_line.main"),
        *("projections", "rebuild", "graph", "--json"),
        env={"PLAZA_POSTGRES_URL": postgres_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    found = json.loads(output)
    assert (found["switched"], found["different"]) == (True, 0)
    assert (found["build"], found["comparedWith"]) == (2, 1)
    assert live_build(postgres_url, "graph") == 2
    with psycopg.connect(postgres_url) as connection:
        after = connection.execute("SELECT * FROM graph_b2.follows").fetchall()
    assert sorted(after, key=repr) == before


async def test_a_difference_is_shown_and_switched_only_where_it_is_accepted(
    postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await served(postgres_url, 112)
    spoil_a_count(postgres_url)
    assert await plaza(postgres_url, "rebuild", "graph") == 1
    shown = capsys.readouterr().out
    assert "1 of" in shown
    assert "77" in shown
    assert "--accept-different" in shown
    assert statuses(postgres_url, "graph") == [(1, "live"), (2, "built")]
    assert await plaza(postgres_url, "rebuild", "graph", "--accept-different") == 0
    assert "went on with build 2" not in capsys.readouterr().out
    assert statuses(postgres_url, "graph") == [(1, "retired"), (2, "live")]
    assert await plaza(postgres_url, "rebuild", "graph") == 0
    assert statuses(postgres_url, "graph") == [(2, "retired"), (3, "live")]


async def test_what_was_served_before_can_be_switched_back_to(postgres_url: str) -> None:
    await served(postgres_url, 114)
    before = contents(postgres_url)["member_counts"]
    assert await plaza(postgres_url, "switch", "graph", "--back") == 1
    assert await plaza(postgres_url, "rebuild", "graph") == 0
    with psycopg.connect(postgres_url) as connection:
        gone = connection.execute("SELECT to_regclass('graph_b1.follows')").fetchone()
    assert gone == (None,)
    assert await plaza(postgres_url, "switch", "graph", "--back") == 0
    assert statuses(postgres_url, "graph") == [(1, "live"), (2, "retired")]
    assert contents(postgres_url)["member_counts"] == before
    assert await plaza(postgres_url, "switch", "graph", "--to", "2") == 0
    assert await plaza(postgres_url, "switch", "graph", "--to", "2") == 1
    assert await plaza(postgres_url, "switch", "graph", "--to", "9") == 1
    assert statuses(postgres_url, "graph") == [(1, "retired"), (2, "live")]
    assert await plaza(postgres_url, "verify", "graph") == 0


async def test_tables_of_another_version_are_not_switched_back_to(
    postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await served(postgres_url, 115)
    assert await plaza(postgres_url, "rebuild", "graph") == 0
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "UPDATE projection_builds SET version = 0 WHERE (name, build) = ('graph', 1)"
        )
    assert await plaza(postgres_url, "switch", "graph", "--back") == 1
    assert "made by version 0" in capsys.readouterr().err


async def test_tables_of_another_shape_are_not_switched_to_silently(
    postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await served(postgres_url, 113)
    spoil_a_count(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("ALTER TABLE graph_b1.follows ADD COLUMN reason text")
        connection.execute("UPDATE projection_builds SET version = 0 WHERE name = 'graph'")
    assert await plaza(postgres_url, "rebuild", "graph") == 1
    shown = capsys.readouterr().out
    assert "has other fields" in shown
    assert "77" in shown
    assert await plaza(postgres_url, "rebuild", "graph", "--accept-different") == 0
    assert live_build(postgres_url, "graph") == 2


async def test_what_differs_is_rewritten_in_place(postgres_url: str) -> None:
    await served(postgres_url, 116)
    before = contents(postgres_url)["member_counts"]
    spoil_a_count(postgres_url)
    assert await plaza(postgres_url, "rebuild", "graph", "--in-place") == 1
    assert await plaza(postgres_url, "rebuild", "graph", "--in-place", "--accept-different") == 0
    assert contents(postgres_url)["member_counts"] == before
    assert statuses(postgres_url, "graph") == [(1, "live")]


async def test_one_key_is_made_anew_and_no_other(postgres_url: str) -> None:
    await served(postgres_url, 117)
    before = contents(postgres_url)
    member = spoil_a_count(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("DELETE FROM graph_b1.follows WHERE %s IN (follower_id)", [member])
        connection.execute("UPDATE graph_b1.member_counts SET following = -1 WHERE followers = 0")
    spoiled = contents(postgres_url)
    key = f"member:{id_text(member)}"
    assert await plaza(postgres_url, "rebuild", "graph", "--key", key) == 0
    after = contents(postgres_url)
    assert after["follows"] == before["follows"]
    own = [row for row in before["member_counts"] if row[0] == member]
    others = [row for row in spoiled["member_counts"] if row[0] != member]
    assert sorted(after["member_counts"], key=repr) == sorted(own + others, key=repr)
    assert await plaza(postgres_url, "rebuild", "graph", "--key", "post:x") == 2
    assert await plaza(postgres_url, "rebuild", "graph", "--key", "member:!") == 2


async def test_a_projection_is_rebuilt_by_one_at_a_time(postgres_url: str) -> None:
    builds = PostgresBuilds(postgres_url)
    async with builds.alone(["graph"]), builds.alone(["posts"]):
        with pytest.raises(AlreadyRebuilding):
            async with builds.alone(["graph"]):
                pass
    async with builds.alone(["graph"]):
        pass


async def test_what_does_not_exist_is_not_rebuilt(postgres_url: str) -> None:
    assert await plaza(postgres_url, "rebuild", "nobody") == 2
    assert await plaza(postgres_url, "switch", "nobody", "--back") == 2
