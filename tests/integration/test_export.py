"""Exports: every event of a range once, the same bytes for the same range, whatever stops them."""

import asyncio
import hashlib
import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from pyarrow import parquet

from domain.shared.message import tag_of
from infra.adapters.archives import parquet_events
from infra.adapters.archives.export_folder import MANIFEST, Asked, ExportRefused, Manifest
from infra.composition.operations.exporting import export_events
from infra.composition.operations.log_reading import tail
from infra.composition.settings import Settings
from infra.formats.codec import EVENT_CLASSES
from infra.formats.event_shapes import camel
from tests.integration.tables import random_log
from tests.square import Square

COUNT = 3_000


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_events, "FILE_ROWS", 700)
    monkeypatch.setattr(parquet_events, "GROUP_ROWS", 256)
    monkeypatch.setattr("infra.composition.operations.exporting.LINES_AT_ONCE", 300)


def settings(url: str) -> Settings:
    return Settings(postgres_url=url)


def bytes_of(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def rows_of(folder: Path, pattern: str = "events-*.parquet") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for file in sorted(folder.glob(pattern), key=lambda one: int(one.name.split("-")[1])):
        rows += parquet.ParquetFile(file).read().to_pylist()
    return rows


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_an_export_holds_what_the_log_tells(postgres_url: str, tmp_path: Path) -> None:
    square = await Square.open(postgres_url)
    ada = await square.member("ada")
    brian = await square.member("brian")
    for number in range(5):
        await square.post(ada, f"post {number} – ü")  # noqa: RUF001
        await square.post(brian, f"of one who leaves {number}")
    await square.follow(brian, ada)
    await square.erase(brian)
    await square.close()
    manifest = await export_events(settings(postgres_url), tmp_path, Asked())
    told = [
        event
        async for event in tail(
            settings(postgres_url), after=0, types=(), stream=None, follow=False
        )
    ]
    rows = rows_of(tmp_path)
    assert len(rows) == len(told) == manifest.events
    for row, event in zip(rows, told, strict=True):
        assert json.loads(row.pop("data")) == event.pop("data")
        assert row.pop("recordedAt") == moment(event.pop("recordedAt"))
        assert row == event
    texts = (tmp_path / manifest.files[0].name).read_bytes()
    assert b"one who leaves" not in texts
    contents = [json.loads(row["data"]) for row in rows_of(tmp_path) if "post.pub" in row["type"]]
    assert [one["content"] for one in contents[:2]] == ["post 0 – ü", None]  # noqa: RUF001


async def test_the_same_range_gives_the_same_bytes(postgres_url: str, tmp_path: Path) -> None:
    await random_log(postgres_url, 61, COUNT)
    asked = Asked(after=17, before=2_900, typed=True)
    for name in ("one", "other"):
        await export_events(settings(postgres_url), tmp_path / name, asked)
    found = bytes_of(tmp_path / "one")
    assert found == bytes_of(tmp_path / "other")
    manifest = msgspec.json.decode((tmp_path / "one" / MANIFEST).read_bytes(), type=Manifest)
    assert manifest.complete
    assert (manifest.first_position, manifest.last_position, manifest.events) == (18, 2899, 2882)
    assert found.pop(MANIFEST)
    assert {file.name: file.sha256 for file in manifest.files} == found
    assert [segment.events.name for segment in manifest.segments] == [
        "events-18-717.parquet",
        "events-718-1417.parquet",
        "events-1418-2117.parquet",
        "events-2118-2817.parquet",
        "events-2818-2899.parquet",
    ]
    assert [row["position"] for row in rows_of(tmp_path / "one")] == list(range(18, 2900))


async def test_typed_files_hold_the_same_events(postgres_url: str, tmp_path: Path) -> None:
    await random_log(postgres_url, 62, COUNT)
    await export_events(settings(postgres_url), tmp_path, Asked(typed=True))
    plain = rows_of(tmp_path)
    for tag in sorted({row["type"] for row in plain}):
        typed = rows_of(tmp_path, f"{tag}/day=*/*.parquet")
        expected = [row for row in plain if row["type"] == tag]
        assert [row["position"] for row in typed] == [row["position"] for row in expected]
        for row, other in zip(typed, expected, strict=True):
            data = json.loads(other["data"])
            assert {name: row[name] for name in data} == {
                name: moment(value) if isinstance(row[name], datetime) else value
                for name, value in data.items()
            }
    days = {file.split("/")[1] for file in bytes_of(tmp_path) if "/" in file}
    recorded = {row["recordedAt"].astimezone(UTC).date().isoformat() for row in plain}
    assert days == {f"day={day}" for day in recorded}


def test_no_field_of_an_event_has_the_name_of_a_column_of_the_envelope() -> None:
    columns = {one.name for one in parquet_events.ENVELOPE}
    for kind in EVENT_CLASSES.values():
        assert not columns & {camel(name) for name in kind.__struct_fields__}, tag_of(kind)


async def test_only_the_types_asked_for(postgres_url: str, tmp_path: Path) -> None:
    events = await random_log(postgres_url, 63, COUNT)
    types = ("post.published.v1", "follow.started.v1")
    await export_events(settings(postgres_url), tmp_path, Asked(types=types))
    wanted = [one.position for one in events if tag_of(type(one.event)) in types]
    assert [row["position"] for row in rows_of(tmp_path)] == wanted


async def test_an_export_that_was_stopped_goes_on_and_leaves_finished_files_alone(
    postgres_url: str, tmp_path: Path
) -> None:
    await random_log(postgres_url, 64, COUNT)
    asked = Asked(typed=True)
    await export_events(settings(postgres_url), tmp_path / "whole", asked)
    target = tmp_path / "stopped"

    def stop(reached: int, _after: int, _before: int) -> None:
        if reached > 1_600:
            raise KeyError(reached)

    with pytest.raises(KeyError):
        await export_events(settings(postgres_url), target, asked, stop)
    finished = {file: file.stat().st_mtime_ns for file in target.glob("events-*.parquet")}
    assert len(finished) == 2
    (target / "events-1401-1402.parquet").write_bytes(b"left by a kill before the manifest")
    await export_events(settings(postgres_url), target, asked)
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    assert bytes_of(target) == bytes_of(tmp_path / "whole")


async def test_an_export_goes_on_with_what_has_come_since(
    postgres_url: str, tmp_path: Path
) -> None:
    await random_log(postgres_url, 65, COUNT)
    for before in (500, 1_500, None):
        await export_events(settings(postgres_url), tmp_path / "steps", Asked(before=before))
    await export_events(settings(postgres_url), tmp_path / "once", Asked())
    assert bytes_of(tmp_path / "steps") == bytes_of(tmp_path / "once")


async def test_another_export_in_the_folder_is_refused(postgres_url: str, tmp_path: Path) -> None:
    await random_log(postgres_url, 66, 300)
    await export_events(settings(postgres_url), tmp_path, Asked(before=200))
    before = bytes_of(tmp_path)
    for other in (Asked(before=100), Asked(after=5), Asked(before=200, typed=True)):
        with pytest.raises(ExportRefused, match="another export"):
            await export_events(settings(postgres_url), tmp_path, other)
    assert bytes_of(tmp_path) == before
    (tmp_path / "events-1-199.parquet").write_bytes(b"damaged")
    with pytest.raises(ExportRefused, match="not as the manifest says"):
        await export_events(settings(postgres_url), tmp_path, Asked(before=200))
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "notes.txt").write_text("mine")
    with pytest.raises(ExportRefused, match="no export"):
        await export_events(settings(postgres_url), strange, Asked())


async def test_a_row_that_cannot_be_read_is_there_without_data(
    postgres_url: str, tmp_path: Path
) -> None:
    await random_log(postgres_url, 67, 100)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE log.events SET state = '\\xc1' WHERE notification_id = 42")
    manifest = await export_events(settings(postgres_url), tmp_path, Asked())
    assert (manifest.events, manifest.unreadable) == (100, 1)
    row = rows_of(tmp_path)[41]
    assert (row["position"], row["type"], row["data"]) == (42, None, None)


async def test_kills_at_any_time_cost_nothing_but_time(postgres_url: str, tmp_path: Path) -> None:
    """The command, killed again and again while it writes, in the end has written the same."""
    await random_log(postgres_url, 68, COUNT)
    await export_events(settings(postgres_url), tmp_path / "whole", Asked(typed=True))
    target = tmp_path / "killed"
    kills = await asyncio.to_thread(run_and_kill, postgres_url, target)
    assert kills
    done = await asyncio.to_thread(command, postgres_url, target, "--json")
    output, errors = done.communicate(timeout=60)
    assert done.returncode == 0, errors
    summary = json.loads(output)
    assert (summary["events"], summary["lastPosition"]) == (COUNT, COUNT)
    assert bytes_of(target) == bytes_of(tmp_path / "whole")


def run_and_kill(url: str, target: Path) -> int:
    kills = 0
    for segments in (1, 2, 4):
        with command(url, target) as process:
            while process.poll() is None and len(list(target.glob("events-*"))) < segments:
                time.sleep(0.001)
            process.kill()
            kills += process.wait() == -signal.SIGKILL
    return kills


def command(url: str, target: Path, *more: str) -> subprocess.Popen[bytes]:
    program = (
        "from infra.adapters.archives import parquet_events as files;"
        "files.FILE_ROWS = 700; files.GROUP_ROWS = 256;"
        "from infra.composition.operations import exporting; exporting.LINES_AT_ONCE = 300;"
        "from infra.command_line.main import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, "export", "events", "--typed", "--out", target, *more],
        env={"PLAZA_POSTGRES_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
