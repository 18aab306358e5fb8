"""A process of our own: started in a folder, ready when it answers, ended by its process id."""

import contextlib
import ctypes
import http.client
import importlib.util
import os
import pwd
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

START_WAIT_SECONDS = 120.0
LEFTOVER_SECONDS = 5.0
# Below the range that the kernel takes the ports of outgoing connections from, so that a server
# that is started again finds its port still free.
PORTS = range(20_000, 32_000)
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class ServerFailed(Exception):
    """A server ended, or did not answer in time; the message quotes the end of its log."""


@dataclass(frozen=True)
class Program:
    """All that is needed to start a process, and to start it again after a crash.

    `answers` tells, without raising, whether it serves. `clear_up` is to be called before each
    start: it ends what an earlier process of the same folder left behind. A program with a `user`
    is started as that user, and with the file descriptors that it `inherits`.

    When the thread that started it dies, the kernel sends it `stop_signal`, so that nothing
    outlives a killed `plaza up`: start it from a thread that lasts.
    """

    name: str
    command: tuple[str | Path, ...]
    folder: Path
    log_file: Path
    url: str = ""
    answers: Callable[[], bool] = field(default=lambda: True)
    environment: Mapping[str, str] | None = None
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    clear_up: Callable[[], None] = field(default=lambda: None)
    inherits: tuple[int, ...] = ()

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it in a session of its own, its output appended to its log file."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as output:
            return subprocess.Popen(  # noqa: S603
                [str(word) for word in self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if self.environment is None else dict(self.environment),
                cwd=self.folder,
                user=self.user,
                group=None if self.user is None else group_of(self.user),
                extra_groups=None if self.user is None else [],
                pass_fds=self.inherits,
                start_new_session=True,
                preexec_fn=_dies_with_its_parent(self.stop_signal),  # noqa: PLW1509
            )


@dataclass
class ServerProcess:
    """A running program."""

    program: Program
    process: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def log_file(self) -> Path:
        return self.program.log_file

    def wait_until_it_answers(self, seconds: float = START_WAIT_SECONDS) -> None:
        """Raises `ServerFailed`, with nothing left running, if the process ends or time does."""
        deadline = time.monotonic() + seconds
        while not self.program.answers():
            if self.process.poll() is not None:
                raise ServerFailed(
                    f"{self.name} ended with {self.process.returncode}:\n{self.tail()}"
                )
            if time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(f"{self.name} did not answer in {seconds:g} s:\n{self.tail()}")
            time.sleep(0.02)

    def tail(self, bytes_max: int = 2000) -> str:
        return tail(self.log_file, bytes_max)

    def stop(self, seconds: float = 20.0) -> None:
        """Ask the process to end; kill it when it has not after `seconds`."""
        if self.process.poll() is None:
            self.process.send_signal(self.program.stop_signal)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL to the process and everything in its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start(program: Program, seconds: float = START_WAIT_SECONDS) -> ServerProcess:
    """Start a program and wait until it answers."""
    program.clear_up()
    server = ServerProcess(program, program.spawn())
    server.wait_until_it_answers(seconds)
    return server


def run_to_its_end(  # noqa: PLR0913
    command: Iterable[str | Path],
    *,
    user: str | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    inherits: tuple[int, ...] = (),
    seconds: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself; if we are killed meanwhile, so is it."""
    return subprocess.run(  # noqa: S603
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=None if environment is None else dict(environment),
        cwd=folder,
        timeout=seconds,
        check=False,
        user=user,
        group=None if user is None else group_of(user),
        extra_groups=None if user is None else [],
        pass_fds=inherits,
        preexec_fn=_dies_with_its_parent(signal.SIGKILL),
    )


def free_port(preferred: int | None = None) -> int:
    """A TCP port on 127.0.0.1 that nobody listens on at this moment; `preferred` if that is one."""
    candidates: list[int] = [] if preferred is None else [preferred]
    candidates += [secrets.choice(PORTS) for _ in range(100)]
    for port in candidates:
        if is_free(port):
            return port
    raise ServerFailed(f"no free port from {PORTS.start} to {PORTS.stop} on 127.0.0.1")


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: connections of the last run that still linger are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def accepts_connections(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
        return True
    return False


def answers_http(url: str, seconds: float = 2.0) -> bool:
    """Whether a GET of this address is answered with 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=seconds)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wheel_folder(package: str) -> Path:
    """Where an installed package lies, found without importing it: its import has side effects."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ServerFailed(f"the package {package} is not installed: run `make install`")
    return Path(found.origin).parent


def tail(log_file: Path, bytes_max: int = 2000) -> str:
    with contextlib.suppress(OSError), log_file.open("rb") as log:
        log.seek(0, os.SEEK_END)
        log.seek(max(0, log.tell() - bytes_max))
        return log.read().decode(errors="replace")
    return ""


def processes_in(folder: Path, program: str) -> Iterator[int]:
    """Ids of the processes that run `program` (a file name) with `folder` as working directory."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink() == folder and (
                (entry / "exe").readlink().name.removesuffix(" (deleted)") == program
            ):
                yield int(entry.name)


def end_leftovers(folder: Path, program: str, first: signal.Signals = signal.SIGTERM) -> None:
    """End what a killed run left behind in a server's folder, and wait until all of it is gone."""
    folder = folder.resolve()
    deadline = time.monotonic() + LEFTOVER_SECONDS
    signals = [first]
    while found := list(processes_in(folder, program)):
        if time.monotonic() > deadline:
            signals.append(signal.SIGKILL)
        while signals:
            wanted = signals.pop(0)
            for process_id in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process_id, wanted)
        if time.monotonic() > deadline + LEFTOVER_SECONDS:
            raise ServerFailed(f"{program} in {folder} does not end: processes {found}")
        time.sleep(0.02)


def identity(process_id: int) -> str | None:
    """A name for this process that no other one ever has on this machine; None if it has ended."""
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{process_id}/stat").read_text()
        state, *fields = stat.rpartition(")")[2].split()
        if state != "Z":
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            return f"{boot}/{process_id}/{fields[18]}"
    return None


def end_identified(identities: Iterable[str], seconds: float = 3.0) -> list[int]:
    """End exactly these processes and their groups, where they still run; answers which did."""
    found = [
        process_id for name in identities if identity(process_id := int(name.split("/")[1])) == name
    ]
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + seconds
        for process_id in found:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process_id, number)
        while any(identity(process_id) for process_id in found) and time.monotonic() < deadline:
            time.sleep(0.02)
    return found


def group_of(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


def _dies_with_its_parent(stop_signal: signal.Signals) -> Callable[[], None]:
    parent = os.getpid()

    def ask_the_kernel() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(stop_signal), 0, 0, 0)
        if os.getppid() != parent:  # It died between the fork and this line.
            os._exit(1)

    return ask_the_kernel
