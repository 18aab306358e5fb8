"""A server process of our own: started in a folder, ready when it answers, ended by its process id."""

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

START_WAIT_SECONDS = 60.0


class ServerFailed(Exception):
    """A server ended, or did not answer in time; the message quotes the end of its log."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class ServerProcess:
    name: str
    process: subprocess.Popen[bytes]
    log_file: Path
    stop_signal: signal.Signals = signal.SIGTERM

    def wait_until(self, answers: Callable[[], bool], seconds: float = START_WAIT_SECONDS) -> None:
        """Return once `answers()` is true. Raises `ServerFailed` if the process ends or time does."""
        deadline = time.monotonic() + seconds
        while not answers():
            if self.process.poll() is not None:
                raise ServerFailed(
                    f"{self.name} ended with {self.process.returncode}:\n{self.tail()}"
                )
            if time.monotonic() > deadline:
                self.stop()
                raise ServerFailed(f"{self.name} did not answer in {seconds:g} s:\n{self.tail()}")
            time.sleep(0.02)

    def tail(self, bytes_max: int = 2000) -> str:
        with contextlib.suppress(OSError):
            return self.log_file.read_bytes()[-bytes_max:].decode(errors="replace")
        return ""

    def stop(self, seconds: float = 20.0) -> None:
        """Ask the process to end; kill it when it has not after `seconds`."""
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL to the process and everything in its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start_process(  # noqa: PLR0913
    name: str,
    command: Sequence[str | Path],
    log_file: Path,
    *,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    folder: Path | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> ServerProcess:
    """Start a command in a process group of its own, its output appended to `log_file`."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    output: IO[bytes]
    with log_file.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            cwd=folder,
            user=user,
            start_new_session=True,
        )
    return ServerProcess(name, process, log_file, stop_signal)


def wheel_folder(package: str) -> Path:
    """Where an installed package lies, found without importing it: its import has side effects."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ServerFailed(f"the package {package} is not installed: run `make install`")
    return Path(found.origin).parent


def accepts_connections(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
        return True
    return False
