"""What importing a graph takes against its edges; start and memory against the log it leaves."""

import asyncio
import contextlib
import json
import random
import tempfile
import time
from pathlib import Path

import uvloop

from tests.benchmarks.harness import Curve
from tests.fault.system import System

EDGES = (1_000, 10_000, 100_000)
EDGES_A_MEMBER = 10
CATCH_UP_SECONDS = 300
IMPORT_SECONDS = 600
IMPORT_TIMES_MAX = 120.0
"""A hundred times as many edges may take a hundred times as long, and a little more."""

START_TIMES_MAX = 3.0
MEMORY_TIMES_MAX = 2.0


def system_costs() -> list[Curve]:
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        Path(folder).chmod(0o755)
        return uvloop.run(measured(Path(folder)))


async def measured(folder: Path) -> list[Curve]:
    """One system: each import makes its log about ten times as long."""
    system = System(folder / "data")
    events: list[int] = []
    imports: list[float] = []
    starts: list[float] = []
    megabytes: list[float] = []
    await system.start()
    try:
        for edges in EDGES:
            imports.append(await imported(system, folder, edges))
            events.append(await caught_up(system))
            await system.stop()
            started = time.perf_counter()
            await system.start()
            starts.append(time.perf_counter() - started)
            await caught_up(system)
            megabytes.append(memory(system))
    finally:
        await system.stop()
    return [
        Curve("import", "edges of a graph", EDGES, imports, "s", IMPORT_TIMES_MAX),
        Curve("warm start", "events in the log", events, starts, "s", START_TIMES_MAX),
        Curve("memory", "events in the log", events, megabytes, "MB", MEMORY_TIMES_MAX),
    ]


async def imported(system: System, folder: Path, edges: int) -> float:
    """Seconds that an import takes until its last event is durable."""
    file = folder / f"{edges}.csv"
    dice = random.Random(edges)
    members = edges // EDGES_A_MEMBER
    pairs: set[tuple[int, int]] = set()
    while len(pairs) < edges:
        # A few have many followers, most have few.
        one, other = dice.randrange(members), int(members * dice.random() ** 3)
        if one != other:
            pairs.add((one, other))
    lines = [f"{one},{other}\n" for one, other in sorted(pairs)]
    file.write_text("follower,followee\n" + "".join(lines))
    started = time.perf_counter()
    words = ("import", "follows", str(file), "--prefix", f"g{edges}_", "--json")
    summary = json.loads(await system.plaza(*words, seconds=IMPORT_SECONDS))
    seconds = time.perf_counter() - started
    assert summary["follows"] == edges, summary
    return seconds


async def caught_up(system: System) -> int:
    """How long the log is, once all projections have read it to its end."""
    async with asyncio.timeout(CATCH_UP_SECONDS):
        while True:
            rows = json.loads(await system.plaza("projections", "list", "--json"))
            if rows and not any(row["lagEvents"] for row in rows):
                return max(int(row["position"]) for row in rows)
            await asyncio.sleep(0.5)


def memory(system: System) -> float:
    """Megabytes of everything that runs, shared pages counted once."""
    assert system.process is not None
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            parents[int(entry.name)] = int(parent)
    found = [system.process.pid]
    for ancestor in found:
        found += [pid for pid, parent in parents.items() if parent == ancestor]
    return sum(map(proportional_kilobytes, found)) / 1024


def proportional_kilobytes(process_id: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
