"""How long pages take, asked for on a few connections, on each one after the other."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence

CONNECTIONS = 4


async def page_seconds(
    port: int,
    requests: Iterator[bytes],
    going: Callable[[], bool],
    *,
    pause_seconds: float = 0.0,
    end: bytes = b"}",
) -> list[float]:
    """The seconds that each page took, for as long as it is `going`; a pause follows each.

    Raises `AssertionError` for a page without posts, or with another `end`.
    """
    seen: list[float] = []

    async def keep_asking() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while going():
            started = time.perf_counter()
            writer.write(next(requests))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            assert body.startswith(b'{"posts":[{'), body[:200]
            assert body.endswith(end), body[-80:]
            seen.append(time.perf_counter() - started)
            await asyncio.sleep(pause_seconds)
        writer.close()

    await asyncio.gather(*(keep_asking() for _ in range(CONNECTIONS)))
    return seen


def for_seconds(seconds: float) -> Callable[[], bool]:
    until = time.perf_counter() + seconds
    return lambda: time.perf_counter() < until


def p99(seconds: Sequence[float]) -> float:
    """What all but one in a hundred took at most."""
    return sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]
