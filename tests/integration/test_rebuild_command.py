"""Rebuilding by command: equal tables are switched to, others only where that is accepted."""

import asyncio
import json
import sys

import psycopg
import pytest

from infra.command_line.main import run
from infra.composition.rebuilding import AlreadyRebuilding, alone
from infra.composition.settings import Settings
from infra.runtime import rebuild as rebuilding
from tests.integration.tables import contents
from tests.integration.test_verify import served


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "RETIRE_SECONDS", 0.0)


async def plaza(url: str, *words: str) -> int:
    environment = {"PLAZA_POSTGRES_URL": url}
    return await asyncio.to_thread(run, ["projections", "rebuild", *words], environment)


def live_build(url: str, name: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT build FROM projection_builds WHERE name = %s AND status = 'live'", [name]
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
    assert live_build(postgres_url, "graph") == 2
    with psycopg.connect(postgres_url) as connection:
        after = connection.execute("SELECT * FROM graph_b2.follows").fetchall()
    assert sorted(after, key=repr) == before


async def test_a_difference_is_shown_and_switched_only_where_it_is_accepted(
    postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await served(postgres_url, 112)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "UPDATE graph_b1.member_counts SET followers = 77 WHERE member_id ="
            " (SELECT min(member_id) FROM graph_b1.member_counts)"
        )
    assert await plaza(postgres_url, "graph") == 1
    shown = capsys.readouterr().out
    assert "1 of" in shown
    assert '"followers":77' in shown
    assert live_build(postgres_url, "graph") == 1
    assert await plaza(postgres_url, "graph", "--accept-different") == 0
    assert live_build(postgres_url, "graph") == 2
    assert await plaza(postgres_url, "graph") == 0


async def test_tables_of_another_shape_are_not_switched_to_silently(postgres_url: str) -> None:
    await served(postgres_url, 113)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("ALTER TABLE graph_b1.hides DROP COLUMN kind")
        connection.execute("UPDATE projection_builds SET version = 0 WHERE name = 'graph'")
    assert await plaza(postgres_url, "graph") == 1
    assert await plaza(postgres_url, "graph", "--accept-different") == 0
    assert live_build(postgres_url, "graph") == 2


async def test_a_projection_is_rebuilt_by_one_at_a_time(postgres_url: str) -> None:
    settings = Settings(postgres_url=postgres_url)
    async with alone(settings, "graph"), alone(settings, "posts"):
        with pytest.raises(AlreadyRebuilding):
            async with alone(settings, "graph"):
                pass
    async with alone(settings, "graph"):
        pass


async def test_what_does_not_exist_is_not_rebuilt(postgres_url: str) -> None:
    assert await plaza(postgres_url, "nobody") == 2
