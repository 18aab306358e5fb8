"""How many posts a second the command service takes over HTTP, against `pgbench -c32`.

All on one machine: the service, its PostgreSQL, and wrk, which posts for a thousand members.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import uvloop

from infra.adapters.migrations import migrate
from infra.composition.services.command_api import opened
from infra.composition.settings import Settings
from infra.servers.process import Program, answers_http, free_port, start
from tests.benchmarks.append_store import PROBE_TABLE, pgbench, server
from tests.benchmarks.harness import Result, interleaved
from tests.benchmarks.members import logged_in

NAME = "append_http"
TARGET = 0.6
MEMBERS = 1_000
CONNECTIONS = 128
ROUND_SECONDS = 4
BODY = json.dumps({"content": "The quick brown fox jumps over the lazy dog, and posts about it."})
HERE = Path(__file__).parent


def run(rounds: int) -> Result:
    with server() as url, tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        tokens = Path(folder, "tokens")
        tokens.write_text("\n".join(uvloop.run(members(url))) + "\n")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(PROBE_TABLE)
        with service(url, Path(folder)) as port:
            post(port, tokens)  # The first requests of each session ask the log about it.
            return interleaved(
                NAME,
                unit="posts/s",
                target=TARGET,
                rounds=rounds,
                measure=lambda: post(port, tokens),
                probe=lambda: pgbench(url),
            )


async def members(url: str) -> list[str]:
    """Tokens of newly registered members, each logged in."""
    await migrate(url)
    async with opened(Settings(postgres_url=url)) as resources:
        return [token for token, _ in await logged_in(resources, MEMBERS)]


@contextmanager
def service(url: str, folder: Path) -> Iterator[int]:
    """The command service as `plaza command-api` runs it, limits and logging included."""
    port = free_port()
    process = start(
        Program(
            "command-api",
            (sys.executable, "-m", "infra.command_line.main", "command-api"),
            folder=HERE.parents[1],
            log_file=folder / "command-api.log",
            answers=lambda: answers_http(f"http://127.0.0.1:{port}/health/ready"),
            environment={
                **os.environ,
                "PLAZA_POSTGRES_URL": url,
                "PLAZA_COMMAND_API_PORT": str(port),
                "PLAZA_DATA_FOLDER": str(folder),
            },
        )
    )
    try:
        yield port
    finally:
        process.stop()


def post(port: int, tokens: Path) -> float:
    """Posts answered with 201 a second. Raises where any was refused."""
    wrk = shutil.which("wrk")
    command = [sys.executable, HERE / "posting_client.py", port, CONNECTIONS, ROUND_SECONDS]
    if wrk is not None:
        script = ["-s", HERE / "posts.lua", f"http://127.0.0.1:{port}"]
        command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{ROUND_SECONDS}s", *script]
    done = subprocess.run(
        [str(word) for word in command],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TOKENS": str(tokens), "BODY": BODY},
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert not found["refused"], found
    assert not found["broken"], found
    return float(found["rate"])
