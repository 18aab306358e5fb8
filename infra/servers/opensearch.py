"""OpenSearch from jars: one node, with its data in a folder."""

import random
from collections.abc import Mapping
from pathlib import Path

from infra.servers.java import fetch_jars, find_java
from infra.servers.process import (
    Program,
    ServerFailed,
    ServerProcess,
    answers_http,
    end_leftovers,
    free_port,
    is_free,
    start,
)

# The runner serves on its base port + 1, and closes at once where the base is not below 9299.
PORTS = range(9202, 9299)
HEAP = ("-Xms512m", "-Xmx512m")


def start_opensearch(
    folder: Path, environ: Mapping[str, str], port: int | None = None
) -> tuple[ServerProcess, str]:
    """Start the node that lives in `folder`; answers it and its URL.

    Raises `JavaMissing` where there is no Java ≥ 21 or no Maven.
    """
    program = opensearch_program(folder, environ, port)
    return start(program), program.url


def opensearch_program(
    folder: Path, environ: Mapping[str, str], port: int | None = None
) -> Program:
    """The node that lives in `folder`, ready to be started."""
    folder = folder.absolute()
    java = find_java(environ)
    jars = fetch_jars("opensearch", java, environ)
    port = port or _free_port()
    config = folder / "node_1" / "config" / "opensearch.yml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(
        "discovery.type: single-node\n"
        "network.host: 127.0.0.1\n"
        f"transport.port: {free_port()}\n"
        "cluster.routing.allocation.disk.threshold_enabled: false\n"
    )
    url = f"http://127.0.0.1:{port}"
    return Program(
        "opensearch",
        (
            *(java.program, *HEAP, "--enable-native-access=ALL-UNNAMED", "-cp", f"{jars}/*"),
            *("org.codelibs.opensearch.runner.OpenSearchRunner", "-basePath", folder),
            *("-numOfNode", "1", "-clusterName", "plaza", "-baseHttpPort", str(port - 1)),
        ),
        folder,
        folder / "opensearch.log",
        url=url,
        answers=lambda: answers_http(f"{url}/_cluster/health"),
        clear_up=lambda: end_leftovers(folder, "java"),
    )


def _free_port() -> int:
    ports = list(PORTS)
    random.shuffle(ports)
    for port in ports:
        if is_free(port):
            return port
    raise ServerFailed(f"no free port from {PORTS.start} to {PORTS.stop - 1} for OpenSearch")
