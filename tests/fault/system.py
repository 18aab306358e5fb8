"""A whole Plaza in a folder of its own, started as a person would, and killed as fate would."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from infra.servers.process import free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
STOP_SECONDS = 20.0
VERB_SECONDS = 120.0


@dataclass
class System:
    """One `plaza up`. Its children are found in the process table."""

    folder: Path
    full: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    command_port: int = field(default_factory=free_port)
    query_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def command_url(self) -> str:
        return f"http://127.0.0.1:{self.command_port}"

    @property
    def query_url(self) -> str:
        return f"http://127.0.0.1:{self.query_port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PLAZA_DATA_FOLDER": str(self.folder),
            "PLAZA_COMMAND_API_PORT": str(self.command_port),
            "PLAZA_QUERY_API_PORT": str(self.query_port),
            "PLAZA_RATE_LIMITS": "off",
            **self.settings,
        }

    async def start(self) -> None:
        """Return when both services are ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "infra.command_line.main", "up"]
        with (self.folder / "up.log").open("ab") as output:
            self.process = subprocess.Popen(  # noqa: ASYNC220
                [*command, "--full"] if self.full else command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        await self.wait_until_ready()

    async def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        async with asyncio.timeout(seconds), aiohttp.ClientSession() as http:
            for url in (self.command_url, self.query_url):
                while not await answers(http, f"{url}/health/ready"):
                    if self.process is not None and self.process.poll() is not None:
                        raise AssertionError((self.folder / "up.log").read_text()[-3000:])
                    await asyncio.sleep(0.1)

    async def stop(self) -> int:
        """SIGTERM; answers the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, STOP_SECONDS)

    def children(self) -> dict[str, int]:
        """Process ids of the children of `plaza up` that run now, by name."""
        assert self.process is not None
        found = {}
        for entry in Path("/proc").iterdir():
            # A process may end, or become another program, between two looks at it.
            with suppress(OSError, ValueError, IndexError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == self.process.pid and state != "Z":
                    words = (entry / "cmdline").read_bytes().decode().split("\0")
                    found[name_of(words)] = int(entry.name)
        return found

    def kill(self, name: str) -> bool:
        """`kill -9` one child, by name; `everything` kills all of them and `plaza up` itself."""
        if name == "everything":
            assert self.process is not None
            pids = [self.process.pid, *self.children().values()]
        else:
            pids = [pid for child, pid in self.children().items() if child == name]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if name == "everything" and self.process is not None:
            self.process.wait()
        return bool(pids)

    async def plaza(self, *words: str, expected: int = 0, seconds: float = VERB_SECONDS) -> str:
        """Run a verb of the command line against this system; answers what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "infra.command_line.main", *words),
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(seconds):
                printed, errors = await process.communicate()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        assert process.returncode == expected, f"{words}: {printed!r} {errors.decode()}"
        return printed.decode()

    async def events(self) -> list[dict[str, Any]]:
        """The whole log."""
        return [json.loads(line) for line in (await self.plaza("log", "tail")).splitlines()]


def name_of(words: list[str]) -> str:
    """What a child is, by its command: a verb of ours, or the server's program."""
    if "infra.servers.adyen_stand_in" in words:
        return "adyen"
    if "worker" in words and any(word.startswith("products,") for word in words):
        return "commerce-worker"
    if "infra.command_line.main" in words:
        return words[words.index("infra.command_line.main") + 1]
    if "kafka.Kafka" in words:
        return "kafka"
    # Valkey rewrites its command line to a title with its address behind the name.
    return Path(words[0].split()[0]).name.removesuffix("-server")


@asynccontextmanager
async def running_system(
    folder: Path, *, full: bool = False, settings: Mapping[str, str] | None = None
) -> AsyncIterator[System]:
    """A system that is stopped in the end, whatever happened to it, also if it never got ready."""
    system = System(folder, full, settings or {})
    try:
        await system.start()
        yield system
    finally:
        await system.stop()


async def answers(http: aiohttp.ClientSession, url: str) -> bool:
    with suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
        async with http.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
            return answer.status == 200
    return False
