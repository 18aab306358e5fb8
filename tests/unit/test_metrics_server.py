"""What a process without a service of its own measures can be asked for by whoever hangs up."""

import socket
import struct
import threading

import pytest
from prometheus_client import CollectorRegistry

from infra.composition.services.metrics_server import serve_metrics

AT_ONCE = struct.pack("ii", 1, 0)
"""Closing then resets the connection."""


def test_who_hangs_up_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    server, ended = serve_metrics(0, "127.0.0.1", CollectorRegistry()), threading.Event()
    shutdown = server.shutdown_request

    def told(request: socket.socket) -> None:
        shutdown(request)
        ended.set()

    monkeypatch.setattr(server, "shutdown_request", told)
    try:
        with socket.create_connection(("127.0.0.1", server.server_port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            client.sendall(b"GET /met")
        assert ended.wait(60)
    finally:
        server.shutdown()
        server.server_close()
    assert not capfd.readouterr().err
