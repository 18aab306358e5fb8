"""One connection to Redis: ready-made bytes in, parsed replies out, one write per loop tick.

While the connection is down every request is refused at once, so that a dead Redis costs nothing.
"""

import asyncio
import contextlib
import hashlib
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import hiredis
import structlog

log = structlog.get_logger(__name__)

RETRY_FIRST_SECONDS = 0.05
RETRY_MAX_SECONDS = 1.0
REPLIES_MAX = 100_000

Argument = bytes | str | int | float


class RedisUnavailable(Exception):
    """Redis cannot be reached, or did not answer in time; what was asked may have been done."""


class RedisRefused(Exception):
    """Redis answered with an error."""


def command(*words: Argument) -> bytes:
    """One command in the form in which it is sent."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        encoded = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(encoded), encoded))
    return b"".join(parts)


def bulk(words: Sequence[Argument]) -> bytes:
    """Words of a command, without the line that says how many there are."""
    return command(*words).split(b"\r\n", 1)[1]


def digest(script: str) -> str:
    """The name by which a loaded script is called."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


class Receiver(Protocol):
    """Takes the replies to a request, or learns that none will come; a future is one.

    What is not one is called from within the connection, and must not raise.
    """

    def done(self) -> bool: ...

    def set_result(self, replies: list[Any], /) -> None: ...

    def set_exception(self, error: RedisUnavailable, /) -> None: ...


class _Waiting:
    __slots__ = ("missing", "receiver", "replies", "sent_at")

    def __init__(self, receiver: Receiver, missing: int, sent_at: float) -> None:
        self.receiver = receiver
        self.missing = missing
        self.replies: list[Any] = []
        self.sent_at = sent_at


@dataclass(frozen=True)
class Address:
    host: str
    port: int
    path: str = ""
    username: str = ""
    password: str = ""
    database: int = 0
    tls: bool = False


def parse_address(url: str) -> Address:
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError(f"not an address of a Redis: {parts.scheme}://…")
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme == "unix":
        return Address("", 0, unquote(parts.path), username, password)
    database = int(parts.path.strip("/") or 0)
    return Address(
        parts.hostname or "127.0.0.1",
        parts.port or 6379,
        username=username,
        password=password,
        database=database,
        tls=parts.scheme == "rediss",
    )


class RedisConnection:
    """A connection that is made anew for as long as it is wanted.

    Requests are pipelined: what is sent in one tick of the loop is one write, and replies come in
    order. When nothing is answered for `wait_seconds` the connection is cut, and with it fails
    whatever waits on it.
    """

    def __init__(
        self, url: str, *, wait_seconds: float, name: str = "plaza", scripts: Sequence[str] = ()
    ) -> None:
        self._address = parse_address(url)
        self._wait_seconds = wait_seconds
        self._name = name
        self._scripts = scripts
        self._out: list[bytes] = []
        self._waiting: deque[_Waiting] = deque()
        self._missing = 0
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop
        self._lost = asyncio.Event()
        self._changed = asyncio.Event()
        self.up = False
        self.generation = 0
        """Grows with each connection made: what was learned on an earlier one may not hold."""

    def start(self) -> None:
        """Begin to connect, and go on until `close`."""
        if self._task is None:
            # Asking for the running loop costs a system call each time.
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(self._stay_connected())

    async def close(self) -> None:
        if self._task is not None:
            self.up = False
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def wait_until_up(self, seconds: float) -> bool:
        """Return True as soon as requests are taken, False when they are not after `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.up:
                    await self._changed.wait()
        return self.up

    def send(self, commands: bytes, replies: int = 1) -> "asyncio.Future[list[Any]]":
        """Send commands that together have this many replies; the future holds those in order.

        An error among the replies is an instance of `hiredis.ReplyError`. Raises
        `RedisUnavailable`, and so may the future.
        """
        if not self.up:
            raise RedisUnavailable("not connected")
        return self._send(commands, replies)

    def send_for(self, receiver: Receiver, commands: bytes, replies: int) -> None:
        """The same without a future: the receiver is told in the tick in which the replies come."""
        if not self.up:
            raise RedisUnavailable("not connected")
        self._enqueue(receiver, commands, replies)

    def renew(self, reason: str) -> None:
        """Cut the connection, so that it is made anew: the server is not what it was."""
        self._cut(reason)

    async def ask(self, *words: Argument) -> Any:
        """The reply to one command. Raises `RedisRefused` where it is an error."""
        return checked(await self.send(command(*words)))[0]

    def _send(self, commands: bytes, replies: int) -> "asyncio.Future[list[Any]]":
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._enqueue(future, commands, replies)
        return future

    def _enqueue(self, receiver: Receiver, commands: bytes, replies: int) -> None:
        if self._missing + replies > REPLIES_MAX:
            raise RedisUnavailable("too many requests wait for an answer")
        self._missing += replies
        self._waiting.append(_Waiting(receiver, replies, time.monotonic()))
        if not self._out:
            self._loop.call_soon(self._write)
        self._out.append(commands)

    def _write(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and out:
            self._transport.write(b"".join(out) if len(out) > 1 else out[0])

    # What the protocol calls.

    def received(self, replies: list[Any]) -> None:
        waiting = self._waiting
        for reply in replies:
            if not waiting:
                self._cut("a reply that nobody asked for")
                return
            first = waiting[0]
            first.replies.append(reply)
            first.missing -= 1
            self._missing -= 1
            if first.missing == 0:
                waiting.popleft()
                if not first.receiver.done():
                    first.receiver.set_result(first.replies)

    def lost(self) -> None:
        was_up, self.up = self.up, False
        self._transport = None
        self._out = []
        waiting, self._waiting = self._waiting, deque()
        self._missing = 0
        for one in waiting:
            receiver = one.receiver
            if not receiver.done():
                receiver.set_exception(RedisUnavailable("the connection was lost"))
                if isinstance(receiver, asyncio.Future):
                    receiver.exception()  # Whoever no longer waits for it is not warned about it.
        self._lost.set()
        if was_up:
            log.warning("redis.lost", connection=self._name)

    # Connecting.

    async def _stay_connected(self) -> None:
        pause = RETRY_FIRST_SECONDS
        try:
            while True:
                self._lost.clear()
                if await self._connect():
                    pause = RETRY_FIRST_SECONDS
                    await self._watch()
                self._cut("")
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, RETRY_MAX_SECONDS)
        finally:
            self._cut("")
            self.lost()

    async def _connect(self) -> bool:
        address = self._address
        loop = self._loop
        try:
            async with asyncio.timeout(max(self._wait_seconds, 1.0)):
                if address.path:
                    transport, _ = await loop.create_unix_connection(
                        lambda: _Protocol(self), address.path
                    )
                else:
                    transport, _ = await loop.create_connection(
                        lambda: _Protocol(self), address.host, address.port, ssl=address.tls or None
                    )
                self._transport = transport
                await self._greet()
        except (OSError, TimeoutError, RedisUnavailable, RedisRefused) as error:
            log.info("redis.unreachable", connection=self._name, error=repr(error))
            return False
        self.generation += 1
        self.up = True
        self._changed.set()
        self._changed = asyncio.Event()
        return True

    async def _greet(self) -> None:
        address = self._address
        words: list[tuple[Argument, ...]] = []
        if address.password:
            words.append(
                ("AUTH", *([address.username] if address.username else []), address.password)
            )
        if address.database:
            words.append(("SELECT", address.database))
        words.append(("CLIENT", "SETNAME", self._name))
        words += [("SCRIPT", "LOAD", script) for script in self._scripts]
        # A server that is still reading its file accepts connections and refuses this.
        words.append(("PING",))
        checked(await self._send(b"".join([command(*each) for each in words]), len(words)))

    async def _watch(self) -> None:
        """Return when the connection is lost; cut it when an answer is overdue."""
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_seconds / 4):
                    await self._lost.wait()
            overdue = time.monotonic() - self._wait_seconds
            if self._waiting and self._waiting[0].sent_at < overdue:
                self._cut(f"no answer in {self._wait_seconds:g} s")

    def _cut(self, reason: str) -> None:
        if self._transport is not None:
            if reason:
                log.warning("redis.cut", connection=self._name, reason=reason)
            self._transport.abort()
            self.lost()


class _Protocol(asyncio.Protocol):
    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._reader = hiredis.Reader()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._connection._transport is not self._transport:  # noqa: SLF001 -- Its other half.
            return
        reader = self._reader
        reader.feed(data)
        replies = []
        try:
            while (reply := reader.gets()) is not False:
                replies.append(reply)
        except hiredis.ProtocolError as error:
            self._connection._cut(repr(error))  # noqa: SLF001
            return
        self._connection.received(replies)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._connection._transport is self._transport:  # noqa: SLF001
            self._connection.lost()


def checked(replies: list[Any]) -> list[Any]:
    """The same replies if none is an error. Raises `RedisRefused` for the first that is."""
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            raise RedisRefused(str(reply))
    return replies
