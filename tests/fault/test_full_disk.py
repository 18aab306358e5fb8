"""A log that cannot write: commands are refused, nothing is half there, and space heals it."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.fault.system import System, running_system
from tests.fault.world import ANSWER_WAIT_SECONDS, World, check

DISK_BYTES = 400_000_000
SEED = 7
TRIES = 4000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data folder whose PostgreSQL stands on a small disk of its own."""
    disk = tmp_path / "postgres"
    disk.mkdir()
    if os.geteuid() != 0:
        say = pytest.fail if os.environ.get("PLAZA_REQUIRE_FULL") else pytest.skip
        say("a small disk can only be mounted by root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "plaza", disk], check=True)
    yield tmp_path
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.timeout(240)
async def test_a_full_disk_refuses_commands_and_recovers_when_there_is_room(
    small_disk: Path,
) -> None:
    async with running_system(small_disk) as system:
        world = World(system.command_url, system.query_url, SEED)
        await world.register(4)
        await world.live(100)
        ballast = small_disk / "postgres" / "ballast"
        fill(ballast)
        refused = await post_until_refused(system, world)
        assert refused["status"] == 503
        assert str(refused["type"]).startswith("/problems/")
        ballast.unlink()
        await system.wait_until_ready()
        await world.live(100)
        await check(world, await system.events())


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    ballast.write(b"\0" * size)
            except OSError:
                continue


async def post_until_refused(system: System, world: World) -> dict[str, object]:
    """Post until the service says that it cannot; answers what it says."""
    wait = aiohttp.ClientTimeout(total=ANSWER_WAIT_SECONDS)
    headers = {"Authorization": f"Bearer {world.members[0].token}"}
    async with aiohttp.ClientSession(timeout=wait, headers=headers) as http:
        for number in range(TRIES):
            body = {"content": f"{number} " + "x" * 490}
            async with http.post(system.command_url + "/api/posts", json=body) as answer:
                if answer.status == 503:
                    assert "Retry-After" in answer.headers
                    return dict(await answer.json())
                assert answer.status == 201, await answer.text()
        await asyncio.sleep(0)
    raise AssertionError("the disk never filled up")
