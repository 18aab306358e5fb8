"""A search server with OpenSearch's HTTP API that keeps everything in memory: `osmem-server`."""

from pathlib import Path

from infra.servers.process import (
    Program,
    ServerProcess,
    answers_http,
    end_leftovers,
    free_port,
    start,
    wheel_folder,
)


def start_osmem(folder: Path, port: int | None = None) -> tuple[ServerProcess, str]:
    """Start an empty server; answers it and its URL."""
    program = osmem_program(folder, port)
    return start(program), program.url


def osmem_program(folder: Path, port: int | None = None) -> Program:
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    binary = wheel_folder("osmem_server") / "bin" / "osmem-server"
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    return Program(
        "search",
        # Texts come to it as tokens: its dictionary of Japanese would be 130 MB for nothing.
        (binary, "-addr", f"127.0.0.1:{port}", "-no-stdin-watch", "-no-ja"),
        folder,
        folder / "search.log",
        url=url,
        answers=lambda: answers_http(f"{url}/"),
        clear_up=lambda: end_leftovers(folder, binary.name),
    )
