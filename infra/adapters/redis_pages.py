"""Parts of pages that all query services share: post fragments and counters, by log position.

A value comes with the position it was read at and is never replaced by an older one. Fragments
live for an hour, give or take, so that those read together do not all end together; counters do
not end by age, but there are only so many. Personal texts stay sealed in what is kept here.
"""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from importlib import resources
from typing import Any, NamedTuple

from infra.adapters.redis_connection import (
    RedisConnection,
    RedisRefused,
    RedisUnavailable,
    bulk,
    checked,
    command,
    digest,
)

WAIT_SECONDS = 0.25
FRAGMENT_SECONDS = 3600
JITTER = 0.1
COUNTERS_MAX = 1_000_000
LEASE_SECONDS = 2.0
LOOK_SECONDS = 0.005
POSITION_BYTES = 8


class Kind(Enum):
    FRAGMENT = "f"
    COUNTERS = "n"


class Versioned(NamedTuple):
    """What was true at a position of the log."""

    position: int
    value: bytes


class RedisPages:
    """Every method raises `RedisUnavailable`, at once while Redis is known to be away.

    `namespace` tells logs apart: positions of one mean nothing in another.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        *,
        fragment_seconds: int = FRAGMENT_SECONDS,
        counters_max: int = COUNTERS_MAX,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        scripts = {name: _script(name) for name in ("put", "give_back")}
        self._connection = RedisConnection(
            url, wait_seconds=WAIT_SECONDS, name="plaza-pages", scripts=tuple(scripts.values())
        )
        self._digests = {name: digest(text) for name, text in scripts.items()}
        self._namespace = namespace
        self._fragment_seconds = fragment_seconds
        self._counters_max = counters_max
        self._lease_seconds = lease_seconds
        self._loading: dict[tuple[Kind, int], asyncio.Future[Versioned]] = {}

    async def open(self) -> None:
        self._connection.start()

    async def wait_until_reachable(self, seconds: float) -> bool:
        return await self._connection.wait_until_up(seconds)

    async def close(self) -> None:
        await self._connection.close()

    async def get(self, kind: Kind, ids: Sequence[int]) -> list[Versioned | None]:
        """What is kept of these, in their order, in one round trip."""
        if not ids:
            return []
        names = [self._name(kind, each) for each in ids]
        return [_versioned(value) for value in await self._ask("MGET", *names)]

    async def put(self, kind: Kind, values: Mapping[int, Versioned]) -> int:
        """Keep values that are not older than what is kept; answers how many that were."""
        if not values:
            return 0
        names = [self._name(kind, each) for each in values]
        seconds = 0
        if kind is Kind.FRAGMENT:
            seconds = int(self._fragment_seconds * random.uniform(1 - JITTER, 1 + JITTER))
        encoded = [
            each.position.to_bytes(POSITION_BYTES, "big") + each.value for each in values.values()
        ]
        keys = (*names, f"{self._namespace}:counters")
        return int(await self._call("put", keys, max(seconds, 0), self._counters_max, *encoded))

    async def get_or_load(
        self, kind: Kind, each: int, load: Callable[[], Awaitable[Versioned]]
    ) -> Versioned:
        """What is kept, or else what one of all who ask at this moment loads.

        The others wait for it; should the one who loads die, another begins when its lease ends.
        What loading raises is raised to all of this process who wait for it.
        """
        loading = self._loading.get((kind, each))
        if loading is None:
            loading = asyncio.ensure_future(self._get_or_load(kind, each, load))
            self._loading[kind, each] = loading
            loading.add_done_callback(lambda _: self._loading.pop((kind, each)))
        # Whoever gives up waiting does not end it for the others.
        return await asyncio.shield(loading)

    async def _get_or_load(
        self, kind: Kind, each: int, load: Callable[[], Awaitable[Versioned]]
    ) -> Versioned:
        while True:
            found = (await self.get(kind, [each]))[0]
            if found is not None:
                return found
            async with self._lease(kind, each) as is_ours:
                if is_ours:
                    # It may have been kept between the look and the lease.
                    found = (await self.get(kind, [each]))[0] or await load()
                    await self.put(kind, {each: found})
                    return found
            await asyncio.sleep(LOOK_SECONDS * random.uniform(0.5, 1.5))

    @asynccontextmanager
    async def _lease(self, kind: Kind, each: int) -> AsyncIterator[bool]:
        name = f"{self._name(kind, each)}:lease"
        token = secrets.token_hex(8)
        milliseconds = int(self._lease_seconds * 1000)
        is_ours = await self._ask("SET", name, token, "NX", "PX", milliseconds) is not None
        try:
            yield is_ours
        finally:
            if is_ours:
                await self._call("give_back", (name,), token)

    def _name(self, kind: Kind, each: int) -> str:
        return f"{self._namespace}:{kind.value}:{each}"

    async def _ask(self, *words: bytes | str | int) -> Any:
        return await self._send(command(*words))

    async def _call(self, name: str, keys: Sequence[str], *words: bytes | str | int) -> Any:
        count = 3 + len(keys) + len(words)
        parts = bulk(("EVALSHA", self._digests[name], len(keys), *keys, *words))
        return await self._send(b"*%d\r\n%b" % (count, parts))

    async def _send(self, encoded: bytes) -> Any:
        try:
            return checked(await self._connection.send(encoded))[0]
        except RedisRefused as error:
            self._connection.renew(str(error))
            raise RedisUnavailable(str(error)) from error


def _script(name: str) -> str:
    folder = resources.files("infra.adapters.page_scripts")
    return folder.joinpath(f"{name}.lua").read_text("utf-8")


def _versioned(value: bytes | None) -> Versioned | None:
    if value is None:
        return None
    return Versioned(int.from_bytes(value[:POSITION_BYTES], "big"), value[POSITION_BYTES:])
