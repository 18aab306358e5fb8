"""What the writer and the readers of timelines in Redis share: scripts, names of keys, errors."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from domain.shared.identifiers import id_text
from infra.adapters.timelines.redis_connection import (
    RedisConnection,
    RedisRefused,
    RedisUnavailable,
    bulk,
    checked,
    command,
    digest,
)
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.ports.timelines import TimelinesUnavailable

STATE = b"timelines"
BEGUN_KEPT = 10_000
HEADER_BYTES = 8
FIELDS = tuple(f"p{partition}" for partition in SOCIAL_PARTITIONS)


@cache
def script(name: str, *, applies: bool) -> str:
    """The text of a script; one that applies events begins with what they all check."""
    folder = resources.files("infra.adapters.timelines.timeline_scripts")
    body = folder.joinpath(f"{name}.lua").read_text("utf-8")
    return folder.joinpath("prelude.lua").read_text("utf-8") + body if applies else body


class Scripts:
    """Scripts by name, called by their digest."""

    def __init__(self, scripts: Mapping[str, str]) -> None:
        self._heads = {
            name: b"$7\r\nEVALSHA\r\n" + bulk((digest(text),)) for name, text in scripts.items()
        }

    def call(self, name: str, keys: Sequence[bytes | str], *words: bytes | str | int) -> bytes:
        return b"*%d\r\n%b%b" % (
            3 + len(keys) + len(words),
            self._heads[name],
            bulk((len(keys), *keys, *words)),
        )

    def call_encoded(self, name: str, count: int, keys: bytes, *words: bytes | str | int) -> bytes:
        """The same with keys that are encoded already, after the state."""
        number = b"%d" % (count + 1)
        return b"*%d\r\n%b$%d\r\n%b\r\n$9\r\ntimelines\r\n%b%b" % (
            4 + count + len(words),
            self._heads[name],
            len(number),
            number,
            keys,
            bulk(words),
        )


class TimelineClient:
    """What both sides share: one connection, the epoch that names the keys, errors made ours."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._epoch = ""

    @property
    def reachable(self) -> bool:
        return self._connection.up

    @property
    def generation(self) -> int:
        return self._connection.generation

    def _key(self, name: str) -> str:
        return f"{name}:{self._epoch}"

    def _timeline(self, member_id: int) -> str:
        return f"t:{self._epoch}:{id_text(member_id)}"

    def _own_list(self, author_id: int) -> str:
        return f"c:{self._epoch}:{id_text(author_id)}"

    async def _ask(self, *words: bytes | str | int) -> Any:
        return (await self._send(command(*words), 1))[0]

    async def _call(self, encoded: bytes) -> Any:
        return (await self._send(encoded, 1))[0]

    async def _send(self, commands: bytes, replies: int) -> list[Any]:
        try:
            return self._checked(await self._connection.send(commands, replies))
        except RedisUnavailable as error:
            raise TimelinesUnavailable(str(error)) from error

    def _checked(self, replies: list[Any]) -> list[Any]:
        try:
            return checked(replies)
        except RedisRefused as error:
            # Scripts that are gone, a replica that may not write, a full memory: whatever it is,
            # the next connection may find it different.
            self._connection.renew(str(error))
            raise TimelinesUnavailable(str(error)) from error


def header(position: int) -> bytes:
    """What a timeline begins with: the position that it was built at."""
    return position.to_bytes(HEADER_BYTES, "little")
