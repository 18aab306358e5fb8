"""Whatever is killed, and whenever: nothing acknowledged is lost, nothing happens twice, and every
page ends up as the oracle says."""

import asyncio
import os
import random
from pathlib import Path

import aiohttp
import pytest

from tests.fault.system import System, running_system
from tests.fault.world import World, check

SEED = int(os.environ.get("PLAZA_FAULT_SEED", "20260101"))
MEMBERS = 14
COMMANDS = int(os.environ.get("PLAZA_FAULT_COMMANDS", "1200"))
COMMANDS_LONG = 5000
EMBEDDED_VICTIMS = ("command-api", "query-api", "postgres", "valkey", "worker", "everything")
FULL_VICTIMS = ("relay", "worker", "kafka", "command-api", "postgres", "valkey")


async def kill_while_living(
    system: System, world: World, commands: int, victims: list[str], dice: random.Random
) -> None:
    """Kill these children one after another, at random moments, while the world lives."""
    living = asyncio.create_task(world.live(commands))
    for victim in victims:
        await asyncio.sleep(dice.uniform(0.3, 2.0))
        async with asyncio.timeout(60):
            # It may still be being started after an earlier kill.
            while not system.kill(victim):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        if victim == "everything":
            await system.start()
        else:
            await asyncio.sleep(dice.uniform(0.1, 1.0))
    await living
    await system.wait_until_ready()


async def survives(folder: Path, victims: list[str], commands: int, *, full: bool) -> World:
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    async with running_system(folder, full=full) as system:
        world = World(system.command_url, system.query_url, SEED)
        await world.register(MEMBERS)
        await kill_while_living(system, world, commands, victims, dice)
        await check(world, await system.events())
    return world


async def test_a_world_that_nothing_happens_to_ends_as_the_oracle_says(tmp_path: Path) -> None:
    world = await survives(tmp_path, [], COMMANDS, full=False)
    assert len(world.acknowledged) > COMMANDS // 2


@pytest.mark.timeout(400)
async def test_killing_each_process_of_an_embedded_system_loses_nothing(tmp_path: Path) -> None:
    victims = list(EMBEDDED_VICTIMS)
    random.Random(SEED).shuffle(victims)
    await survives(tmp_path, victims, COMMANDS, full=False)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_twenty_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    dice = random.Random(SEED + 1)
    victims = [dice.choice(EMBEDDED_VICTIMS) for _ in range(20)]
    await survives(tmp_path, victims, COMMANDS_LONG, full=False)


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_killing_each_process_on_the_way_through_kafka_loses_nothing(tmp_path: Path) -> None:
    victims = list(FULL_VICTIMS)
    random.Random(SEED + 2).shuffle(victims)
    await survives(tmp_path, victims, COMMANDS, full=True)


async def test_without_redis_pages_are_degraded_and_the_same(tmp_path: Path) -> None:
    """Valkey is lost together with its file, so that what comes back is empty."""
    async with running_system(tmp_path) as system:
        world = World(system.command_url, system.query_url, SEED)
        await world.register(6)
        await world.live(300)
        head = (await system.events())[-1]["position"]
        async with aiohttp.ClientSession() as http:
            before = {m.id: (await world.feed(http, m, head))[0] for m in world.members}
            os.kill(system.children()["valkey"], 19)  # SIGSTOP: it is there, and does not answer.
            for member in world.members:
                ids, degraded = await world.feed(http, member, head)
                assert degraded
                assert ids == before[member.id]
            (tmp_path / "valkey" / "dump.rdb").unlink(missing_ok=True)
            system.kill("valkey")
            await world.live(100)
            await check(world, await system.events())


@pytest.mark.full
@pytest.mark.timeout(300)
async def test_without_kafka_commands_succeed_and_pages_catch_up(tmp_path: Path) -> None:
    async with running_system(tmp_path, full=True) as system:
        world = World(system.command_url, system.query_url, SEED)
        await world.register(4)
        await world.live(100)
        os.kill(system.children()["kafka"], 19)
        await world.live(100)
        os.kill(system.children()["kafka"], 18)
        await check(world, await system.events())
