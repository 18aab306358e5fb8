"""Posts by many members, as fast as they are answered or at a rate: prints what it saw.

Requests are encoded beforehand; each connection sends its next one when it has been answered, and
not before its turn where a rate is given.
"""

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import uvloop


class Client(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], seen: list[float], every_seconds: float) -> None:
        self._requests = requests
        self._every_seconds = every_seconds
        self._seen = seen
        self._received = b""
        self._sent = 0.0
        self.refused = 0
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        # An answer is an object in JSON, most often in one piece with its headers.
        self._received += data
        if not self._received.endswith(b"}"):
            return
        if not self._received.startswith(b"HTTP/1.1 201 "):
            self.refused += 1
        self._received = b""
        self._seen.append(time.perf_counter() - self._sent)
        if not self.stopped:
            self._send_in_turn()

    def _send_in_turn(self) -> None:
        early = self._sent + self._every_seconds - time.perf_counter()
        if early <= 0:
            self._send()
        else:
            asyncio.get_running_loop().call_later(early, self._send)


async def main(tokens: list[str], port: int, connections: int, seconds: float, rate: float) -> None:
    """Post for `seconds`; `rate` is in posts a second, 0 for as many as are answered."""
    body = os.environ["BODY"]
    requests = itertools.cycle([encoded(token, body) for token in tokens])
    seen: list[float] = []
    every_seconds = connections / rate if rate else 0.0
    clients = [Client(requests, seen, every_seconds) for _ in range(connections)]
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.sleep(seconds)
    reached = len(seen) / (time.perf_counter() - started)
    for client in clients:
        client.stopped = True
    seen.sort()
    found = {
        "rate": reached,
        "refused": sum(client.refused for client in clients),
        "broken": 0,
        "p50_ms": seen[len(seen) // 2] * 1000,
        "p99_ms": seen[len(seen) * 99 // 100] * 1000,
    }
    sys.stdout.write(json.dumps(found) + "\n")
    await asyncio.sleep(0.1)


def encoded(token: str, body: str) -> bytes:
    head = (
        "POST /api/posts HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


if __name__ == "__main__":
    members = Path(os.environ["TOKENS"]).read_text().split()
    port, connections, seconds, *rest = map(float, sys.argv[1:])
    uvloop.run(main(members, int(port), int(connections), seconds, *rest or (0.0,)))
