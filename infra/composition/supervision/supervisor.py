"""Keeps child processes running: starts them again with back-off, and in the end ends them all."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

from infra.servers.process import Program, ServerFailed, end_identified, identity

FIRST_PAUSE_SECONDS = 0.1
PAUSE_SECONDS_MAX = 3.0
STEADY_SECONDS = 10.0
TOLD_FAILURES_MAX = 3
MEND_AFTER = 3
POLL_SECONDS = 0.02
POLL_SECONDS_MAX = 0.25
STOP_SECONDS = 4.0
ROTATE_EVERY_SECONDS = 5.0
LOG_BYTES_MAX = 8 * 1024 * 1024
log = structlog.get_logger(__name__)


@dataclass
class Child:
    """A program that is kept running.

    `stage` orders the end: the processes of one stage are ended together, lowest stage first.
    `mend` is called when it ended several times in a row before it answered, to take away what
    keeps it from starting. `ready` is set while it runs and has answered.
    """

    program: Program
    stage: int
    mend: Callable[[], None] | None = None
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return self.program.name


class Supervisor:
    """Runs children until `stop`. `record` is a file that names them to whoever comes after us."""

    def __init__(self, record: Path, tell: Callable[[str], None]) -> None:
        self._record = record
        self._tell = tell
        self._children: list[Child] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._rotating = asyncio.create_task(self._rotate_logs())

    @property
    def children(self) -> list[Child]:
        return self._children

    def keep(self, child: Child) -> Child:
        """Start this child now, and again whenever it ends."""
        self._children.append(child)
        self._tasks.append(asyncio.create_task(self._keep_running(child)))
        return child

    async def stop(self) -> None:
        """End all children, stage by stage; whatever does not end in time is killed."""
        self._stopping = True
        self._rotating.cancel()
        for stage in sorted({child.stage for child in self._children}):
            await self._stop_all([child for child in self._children if child.stage == stage])
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # One that was being started while the others were stopped.
        await self._stop_all(self._children)
        self._record.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill every child at once."""
        self._stopping = True
        for child in self._children:
            _signal(child, signal.SIGKILL)

    async def _keep_running(self, child: Child) -> None:
        pause, failures, unready = FIRST_PAUSE_SECONDS, 0, 0
        while not self._stopping:
            began = time.monotonic()
            reason = await self._run_once(child)
            if self._stopping:
                return
            lasted = time.monotonic() - began
            if lasted > STEADY_SECONDS:
                pause, failures = FIRST_PAUSE_SECONDS, 0
            failures += 1
            unready = 0 if child.ready.is_set() else unready + 1
            child.ready.clear()
            log.warning("process.ended", child=child.name, reason=reason, lasted_seconds=lasted)
            if failures <= TOLD_FAILURES_MAX:
                again = (
                    "starting it again" if failures < TOLD_FAILURES_MAX else "it goes on like this"
                )
                self._tell(f"{child.name} {reason}; {again} (its log: {child.program.log_file})")
            if child.mend is not None and unready == MEND_AFTER:
                unready = 0
                await asyncio.to_thread(child.mend)
                log.warning("process.mended", child=child.name)
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_SECONDS_MAX)

    async def _run_once(self, child: Child) -> str:
        """Start a child and wait for its end; answers how it ended."""
        try:
            await asyncio.to_thread(child.program.clear_up)
            if self._stopping:
                return "is not needed any more"
            child.process = child.program.spawn()
        except (OSError, ServerFailed, subprocess.SubprocessError) as problem:
            return f"could not be started: {problem}"
        child.starts += 1
        self._write_record()
        log.info("process.started", child=child.name, process_id=child.process.pid)
        watching = asyncio.create_task(self._watch_until_ready(child))
        try:
            status = await _ended(child.process)
        finally:
            watching.cancel()
        return f"was ended by {_signal_name(-status)}" if status < 0 else f"ended with {status}"

    async def _watch_until_ready(self, child: Child) -> None:
        pause = POLL_SECONDS
        while not await asyncio.to_thread(child.program.answers):
            await asyncio.sleep(pause)
            pause = min(pause * 1.3, POLL_SECONDS_MAX)
        child.ready.set()

    async def _stop_all(self, children: list[Child]) -> None:
        for child in children:
            _signal(child, child.program.stop_signal, group=False)
        await _all_ended(children, STOP_SECONDS)
        for child in children:
            _signal(child, signal.SIGKILL)
        await _all_ended(children, STOP_SECONDS)

    def _write_record(self) -> None:
        names = [
            name
            for child in self._children
            if child.process is not None and (name := identity(child.process.pid)) is not None
        ]
        new = self._record.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(names))
        new.rename(self._record)

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(ROTATE_EVERY_SECONDS)
            for child in self._children:
                with contextlib.suppress(OSError):
                    rotate(child.program.log_file)


def end_recorded(record: Path) -> list[int]:
    """End what a killed supervisor left running, by its record; answers which that were."""
    try:
        names = msgspec.json.decode(record.read_bytes(), type=list[str])
    except (OSError, msgspec.DecodeError):
        return []
    ended = end_identified(names)
    record.unlink(missing_ok=True)
    return ended


def rotate(file: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Move what a log holds to `….1` once it is large; who writes to it goes on undisturbed."""
    if file.stat().st_size > bytes_max:
        with file.open("rb") as current, file.with_suffix(file.suffix + ".1").open("wb") as older:
            size = file.stat().st_size
            current.seek(max(0, size - 2 * bytes_max))
            older.write(current.read())
        os.truncate(file, 0)


async def _ended(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a process, once it has ended."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    handle = os.pidfd_open(process.pid)
    loop.add_reader(handle, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return process.wait()


async def _all_ended(children: Iterable[Child], seconds: float) -> None:
    running = [child.process for child in children if _is_running(child)]
    waits = [asyncio.create_task(_ended(process)) for process in running if process is not None]
    if waits:
        _, late = await asyncio.wait(waits, timeout=seconds)
        for wait in late:
            wait.cancel()


def _is_running(child: Child) -> bool:
    return child.process is not None and identity(child.process.pid) is not None


def _signal(child: Child, number: signal.Signals, *, group: bool = True) -> None:
    if child.process is None or child.process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        if group:
            os.killpg(child.process.pid, number)
        else:
            os.kill(child.process.pid, number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
