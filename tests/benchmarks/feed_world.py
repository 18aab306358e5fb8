"""A seeded square with kept timelines, and processes that serve it, for the benchmarks of pages."""

import asyncio
import itertools
import multiprocessing
import os
import random
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import uvloop
from starlette.types import Receive, Scope, Send

from domain.social.engagement.events import PostLiked, PostReposted
from domain.social.post.events import PostPublished
from domain.social.relation.events import Followed
from infra.composition.services import query_api
from infra.composition.settings import Settings
from infra.http.server import serve as serve_http
from tests.square import Square, pushing

HELLO_BYTES = 9_000
START_SECONDS = 60
SCRIPT = str(Path(__file__).with_name("feeds.lua"))
UNITS = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}


@dataclass(frozen=True)
class Size:
    """How large a world is; every `repost_every`th entry is a repost."""

    members: int = 200
    authors: int = 1_000
    posts: int = 30_000
    followees: int = 100
    repost_every: int = 10
    likes: int = 20


class World(Protocol):
    """What happens in a square before it is served."""

    async def fill(self, square: Square) -> None: ...


@dataclass
class FeedWorld:
    size: Size
    readers: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    async def fill(self, square: Square) -> None:
        """Everybody follows some authors, who then write."""
        dice = random.Random(1)
        size = self.size
        self.readers = [await square.member(f"reader_{n}") for n in range(size.members)]
        authors = [await square.member(f"author_{n}") for n in range(size.authors)]
        for reader in self.readers:
            chosen = dice.sample(authors, size.followees)
            await square.record_all([follow(reader, author) for author in chosen])
        for start in range(0, size.posts, 1000):
            await self._write(square, dice, authors, min(1000, size.posts - start))
        for reader in self.readers:
            posts = dice.sample(list(square.posts)[-5000:], size.likes)
            await square.record_all([like(square, reader, post) for post in posts])
        await square.apply()
        self.tokens = [square.tokens.sign(square.session(reader)) for reader in self.readers]

    async def _write(
        self, square: Square, dice: random.Random, authors: Sequence[str], count: int
    ) -> None:
        """Posts, and among them reposts of posts written shortly before."""
        recent = list(square.posts)
        happened: list[Happened] = []
        for number in range(count):
            author = dice.choice(authors)
            if recent and number % self.size.repost_every == 0:
                happened.append(repost(square, author, dice.choice(recent)))
            else:
                text = f"{number} " + "lorem ipsum dolor " * dice.randint(4, 8)
                post = square.published(author, text)
                happened.append((f"post:{post.post_id}", post))
        positions = await square.record_all(happened)
        square.posts |= {
            event.post_id: (event, at)
            for (_, event), at in zip(happened, positions, strict=True)
            if isinstance(event, PostPublished)
        }


Happened = tuple[str, Any]


def follow(follower: str, followee: str) -> Happened:
    event = Followed(follower_id=follower, followee_id=followee)
    return f"relation:{follower}:{followee}", event


def like(square: Square, member: str, post_id: str) -> Happened:
    author = square.posts[post_id][0].author_id
    return f"like:{post_id}:{member}", PostLiked(
        post_id=post_id, author_id=author, member_id=member
    )


def repost(square: Square, member: str, post_id: str) -> Happened:
    post, position = square.posts[post_id]
    return f"repost:{post_id}:{member}", PostReposted(
        post_id=post_id, author_id=post.author_id, member_id=member, post_position=position
    )


@asynccontextmanager
async def filled(world: World, postgres_url: str, redis_url: str) -> AsyncIterator[Square]:
    """The world in a log, its tables, and what pushing needs in Redis."""
    square = await Square.open(postgres_url)
    try:
        if redis_url:
            async with pushing(square, redis_url, celebrities_from=1_000_000):
                await world.fill(square)
        else:
            await world.fill(square)
        yield square
    finally:
        await square.close()


# Serving.


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % HELLO_BYTES),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * HELLO_BYTES})


async def serve_hello(ready: Callable[[int], None]) -> None:
    await serve_http(hello, "127.0.0.1", 0, ready)


async def serve_feeds(settings: Settings, ready: Callable[[int], None]) -> None:
    await query_api.serve(settings, ready)


def _child(serving: Callable[..., Coroutine[Any, Any, None]], pipe: Any, *given: Any) -> None:
    uvloop.run(serving(*given, pipe.send))


@dataclass
class Served:
    """A process that serves HTTP."""

    process: Any
    port: int

    def cpu_seconds(self) -> float:
        """What the process has used since its start."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / 100


@contextmanager
def served(serving: Callable[..., Coroutine[Any, Any, None]], *given: Any) -> Iterator[Served]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(serving, theirs, *given), daemon=True)
    process.start()
    try:
        if not ours.poll(START_SECONDS):
            raise TimeoutError("the server did not start")
        yield Served(process, ours.recv())
    finally:
        process.terminate()
        process.join()


# Asking.


@dataclass(frozen=True)
class Load:
    """What a while of asking showed."""

    requests: int
    refused: int
    bytes_per_request: float


async def load(
    port: int, path: str, tokens: Sequence[str], connections: int, seconds: float
) -> Load:
    """Ask for a page in one member's name after the other, each connection as fast as it can."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return await load_by_ourselves(port, path, tokens, connections, seconds)
    with tempfile.NamedTemporaryFile("w", suffix=".tokens") as file:
        file.write("\n".join(tokens) + "\n")
        file.flush()
        words = ["-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", SCRIPT]
        process = await asyncio.create_subprocess_exec(
            wrk,
            *words,
            f"http://127.0.0.1:{port}",
            env={**os.environ, "TOKENS": file.name, "PAGE": path},
            stdout=asyncio.subprocess.PIPE,
        )
        output = (await process.communicate())[0].decode()
    count = int(found(r"(\d+) requests in", output))
    refused = int(found(r"Non-2xx or 3xx responses: (\d+)", output, "0"))
    number, unit = re.findall(r"requests in [^,]*, ([\d.]+)(\w+) read", output)[0]
    return Load(count, refused, float(number) * UNITS[unit] / max(1, count))


def found(pattern: str, text: str, otherwise: str = "") -> str:
    matched = re.search(pattern, text)
    return matched[1] if matched else otherwise


async def load_by_ourselves(
    port: int, path: str, tokens: Sequence[str], connections: int, seconds: float
) -> Load:
    requests = itertools.cycle([request(path, token) for token in tokens])
    clients = [Client(requests) for _ in range(connections)]
    loop = asyncio.get_running_loop()
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.sleep(seconds)
    for client in clients:
        client.stopped = True
    await asyncio.sleep(0.3)
    for client in clients:
        client.transport.close()
    count = sum(client.answered for client in clients)
    total = sum(client.bytes for client in clients)
    return Load(count, sum(client.refused for client in clients), total / max(1, count))


class Client(asyncio.Protocol):
    """Sends one request after the other on one connection, each when the last is answered."""

    transport: asyncio.Transport

    def __init__(self, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self._missing = 0
        self.stopped = False
        self.answered = 0
        self.refused = 0
        self.bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        if self._missing == 0:
            head, _, body = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                self.refused += 1
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            self.bytes += length
            self._missing = length - len(body)
        else:
            self._missing -= len(data)
        if self._missing == 0:
            self.answered += 1
            if not self.stopped:
                self.transport.write(next(self._requests))


def request(path: str, token: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: plaza\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
