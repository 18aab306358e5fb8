"""How many events a second are exported to Parquet, against reading and decoding alone."""

import json
import os
import subprocess
import sys
import tempfile

import uvloop

from tests.benchmarks.harness import Result, interleaved
from tests.benchmarks.own_postgres import own_postgres
from tests.benchmarks.rebuild import fill, read_and_decode

NAME = "export"
TARGET = 0.3
EVENTS = 300_000
MEMORY_MB_MAX = 300


def run(rounds: int) -> Result:
    with own_postgres() as url:
        uvloop.run(fill(url, EVENTS))
        return interleaved(
            NAME,
            unit="events/s",
            target=TARGET,
            rounds=rounds,
            measure=lambda: exported(url),
            probe=lambda: uvloop.run(read_and_decode(url, EVENTS)),
        )


def exported(url: str) -> float:
    """One export by the command, in a process of its own; raises if it took too much memory."""
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "infra.command_line.main",
                "export",
                "events",
                "--json",
                "--out",
                folder,
            ],
            env={**os.environ, "PLAZA_POSTGRES_URL": url},
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        summary = json.loads(process.stdout.read())
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    memory_mb = usage.ru_maxrss / 1024
    sys.stderr.write(f"export: {memory_mb:.0f} MB at most, {summary['bytes']:,} bytes\n")
    if memory_mb > MEMORY_MB_MAX:
        raise AssertionError(f"{memory_mb:.0f} MB were used, {MEMORY_MB_MAX} allowed")
    assert summary["events"] == EVENTS
    return EVENTS / float(summary["seconds"])
