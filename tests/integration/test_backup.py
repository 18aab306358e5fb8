"""A backup brings everything back, onto an empty machine, as of any position that it holds."""

import asyncio
import json
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pyarrow import fs

from infra.adapters import database_copy
from infra.adapters.database_copy import COMPUTED, KEPT, MADE_AT_START, Damaged, NotEmpty
from infra.adapters.migrations import migrate
from infra.adapters.process_progress import PostgresProgress
from infra.command_line.main import run
from infra.composition.backing_up import BackupRefused, back_up, check, restore
from infra.composition.settings import Settings
from infra.composition.verifying import verify
from infra.servers.process import free_port
from projections import SOCIAL
from tests.asking import Asking
from tests.integration.test_pages_follow_the_law import Chance
from tests.square import Square


@pytest.fixture
def empty_url(postgres_server: str) -> Iterator[str]:
    """Another machine, so to say: a database that nobody has used."""
    name = f"empty_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres_server.rpartition("/")[0] + "/" + name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def settings(url: str) -> Settings:
    return Settings(postgres_url=url)


def modes_of(folder: Path) -> dict[str, int]:
    return {
        file.relative_to(folder).as_posix(): file.stat().st_mode & 0o777
        for file in folder.rglob("*")
        if file.is_file()
    }


async def pages(square: Square, members: list[str]) -> list[Any]:
    async with Asking.open(square) as asking:
        return [
            await asking.get(path, member, limit=50)
            for member in members
            for path in (f"/api/users/{member}", f"/api/users/{member}/posts", "/api/feed")
        ]


async def restored_pages(url: str, members: list[str]) -> list[Any]:
    square = await Square.open(url)
    await square.apply()
    found = await pages(square, members)
    for projection in SOCIAL:
        assert (await verify(settings(url), projection)).different == 0
    await square.close()
    return found


async def lively(url: str, rounds: int) -> tuple[Square, Chance]:
    square = await Square.open(url)
    chance = Chance(square, random.Random(7))
    await chance.gather()
    for _ in range(rounds):
        await chance.act()
    await square.apply()
    return square, chance


async def test_pages_are_the_same_on_an_empty_machine(
    postgres_url: str, empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_copy, "SEGMENT_EVENTS", 50)
    square, chance = await lively(postgres_url, 120)
    then, pages_then = square.applied, await pages(square, chance.members[:3])
    folder = str(tmp_path / "backup")
    first = await asyncio.to_thread(back_up, settings(postgres_url), folder)
    for _ in range(80):
        await chance.act()
    await square.apply()
    now, pages_now = square.applied, await pages(square, chance.members[:3])
    progress = await PostgresProgress.open(postgres_url)
    await progress.advance("erasure", {0: now, 1: 5})
    await progress.close()
    made = await asyncio.to_thread(back_up, settings(postgres_url), folder)
    await square.close()
    assert (first.position, made.position) == (then, now)
    assert made.segments[: len(first.segments)] == first.segments
    modes = modes_of(tmp_path / "backup")
    named = ["manifest.json", *(one.file for one in made.files)]
    assert modes == dict.fromkeys(named, 0o600)
    assert await asyncio.to_thread(check, folder) == made

    await asyncio.to_thread(restore, settings(empty_url), folder)
    assert await restored_pages(empty_url, chance.members[:3]) == pages_now
    with pytest.raises(NotEmpty):
        await asyncio.to_thread(restore, settings(empty_url), folder)

    with psycopg.connect(empty_url, autocommit=True) as connection:
        for schema in ("public", "log", "vault", *(f"{one.name}_b1" for one in SOCIAL)):
            connection.execute(f"DROP SCHEMA {schema} CASCADE")
        connection.execute("CREATE SCHEMA public")
    _, reached = await asyncio.to_thread(restore, settings(empty_url), folder, None, then)
    assert reached == then
    assert await restored_pages(empty_url, chance.members[:3]) == pages_then
    progress = await PostgresProgress.open(empty_url)
    assert await progress.checkpoints("erasure") == {0: then, 1: 5}
    await progress.close()


async def test_who_was_erased_is_in_no_backup_any_more(postgres_url: str, tmp_path: Path) -> None:
    square = await Square.open(postgres_url)
    ann, bob = await square.member("ann"), await square.member("bob")
    places = str(tmp_path / "log"), str(tmp_path / "keys")
    made = await asyncio.to_thread(back_up, settings(postgres_url), *places)
    assert {one.table: one.rows for one in made.tables}["vault.person_keys"] == 2
    await square.erase(ann)
    made = await asyncio.to_thread(back_up, settings(postgres_url), *places)
    assert {one.table: one.rows for one in made.tables}["vault.person_keys"] == 1
    assert len(list((tmp_path / "keys").rglob("*person_keys*"))) == 1
    assert not (tmp_path / "log" / "keys").exists()
    assert bob
    await square.close()


async def test_what_is_damaged_is_refused_and_leaves_nothing(
    postgres_url: str, empty_url: str, tmp_path: Path
) -> None:
    square, _ = await lively(postgres_url, 30)
    await square.close()
    folder = str(tmp_path)
    made = await asyncio.to_thread(back_up, settings(postgres_url), folder)
    for name in (made.segments[0].file, made.tables[0].file):
        file = tmp_path / name
        whole = file.read_bytes()
        for broken in (whole[:-9], whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], b""):
            file.write_bytes(broken)
            with pytest.raises(Damaged, match=file.name):
                await asyncio.to_thread(check, folder)
            with pytest.raises(Damaged, match=file.name):
                await asyncio.to_thread(restore, settings(empty_url), folder)
        file.write_bytes(whole)
    with psycopg.connect(empty_url) as connection:
        for kept in ("log.events", *(kept.name for kept in KEPT)):
            query = f"SELECT count(*) FROM {kept}"
            assert connection.execute(query).fetchone() == (0,)
    assert await asyncio.to_thread(check, folder) == made


async def test_what_makes_no_sense_is_refused(
    postgres_url: str, empty_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, url in enumerate((postgres_url, empty_url)):
        square, _ = await lively(url, seed)
        await square.close()
    here, there = {"PLAZA_POSTGRES_URL": postgres_url}, {"PLAZA_POSTGRES_URL": empty_url}
    words = ["backup", str(tmp_path / "one"), "--json"]
    assert await asyncio.to_thread(run, words, here) == 0
    position = json.loads(capsys.readouterr().out)["position"]
    assert await asyncio.to_thread(run, words, there) == 1
    assert "another log" in capsys.readouterr().out
    for more, told in (
        (["--at", str(position + 1)], f"ends at position {position}"),
        ([], "has events"),
    ):
        words = ["restore", str(tmp_path / "one"), *more]
        assert await asyncio.to_thread(run, words, there) == 1
        assert told in capsys.readouterr().err
    assert run(["restore", str(tmp_path / "none")], there) == 1
    assert run(["restore", str(tmp_path / "one"), "--check", "--at", "1"], there) == 2
    assert run(["restore", str(tmp_path / "one"), "--check"], there) == 0
    assert "are as they were written" in capsys.readouterr().out
    (tmp_path / "one" / "manifest.json").write_text("{}")
    with pytest.raises(BackupRefused, match="cannot be read"):
        check(str(tmp_path / "one"))


async def test_every_table_is_kept_or_can_be_computed(postgres_url: str) -> None:
    await migrate(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute(
            "SELECT schemaname || '.' || tablename FROM pg_tables"
            " WHERE schemaname IN ('log', 'vault', 'public')"
        ).fetchall()
    known = {"log.events", *COMPUTED, *MADE_AT_START, *(kept.name for kept in KEPT)}
    assert {name for (name,) in rows} == known


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a place in a bucket of SeaweedFS, which speaks S3."""
    folder = tmp_path / "seaweed"
    folder.mkdir()
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    known = {"accessKey": "plaza", "secretKey": "a secret of tests"}
    identity = {"name": "plaza", "credentials": [known], "actions": ["Admin", "Read", "Write"]}
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    words = ["-ip=127.0.0.1", f"-dir={folder}", "-s3", "-master.telemetry=false"]
    words.append(f"-s3.config={config}")
    for name, port in ports.items():
        words += [f"-{name}.port={port}", f"-{name}.port.grpc={free_port()}"]
    binary = Path(sys.executable).with_name("weed")
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([binary, "server", *words], stdout=log, stderr=log, cwd=folder)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", known["accessKey"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", known["secretKey"])
    options = f"scheme=http&endpoint_override=127.0.0.1:{ports['s3']}"
    try:
        until = time.monotonic() + 60
        while True:
            try:
                files, _ = fs.FileSystem.from_uri(
                    f"s3://backups/?{options}&allow_bucket_creation=true"
                )
                files.create_dir("backups")
                break
            except OSError:
                assert time.monotonic() < until, (folder / "log").read_text()[-2000:]
                time.sleep(0.2)
        yield f"s3://backups/plaza?{options}"
    finally:
        server.kill()
        server.wait(10)


async def test_a_bucket_is_as_good_as_a_folder(
    postgres_url: str, empty_url: str, bucket: str
) -> None:
    square, chance = await lively(postgres_url, 40)
    expected = await pages(square, chance.members[:2])
    for _ in range(2):
        made = await asyncio.to_thread(back_up, settings(postgres_url), bucket)
    await square.close()
    assert await asyncio.to_thread(check, bucket) == made
    await asyncio.to_thread(restore, settings(empty_url), bucket)
    assert await restored_pages(empty_url, chance.members[:2]) == expected
    with pytest.raises(BackupRefused, match="there is no backup"):
        await asyncio.to_thread(check, bucket.replace("/plaza?", "/nothing?"))
