"""Packed timelines in Redis, as the fan-out that keeps them current needs them.

Every step that applies events is one script, which checks that the step is the next one, does it
and stores how far the partition is. So positions cover exactly what is there, also after a crash
of Redis that lost the last seconds of both.
"""

import asyncio
import secrets
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.shared.identifiers import DIGITS, LENGTH, id_number, id_text
from infra.adapters.timelines.redis_connection import (
    RedisConnection,
    RedisRefused,
    RedisUnavailable,
    checked,
    command,
)
from infra.adapters.timelines.timeline_client import (
    BEGUN_KEPT,
    FIELDS,
    HEADER_BYTES,
    STATE,
    Scripts,
    TimelineClient,
    header,
    script,
)
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.ports.timelines import (
    Kept,
    Keys,
    Link,
    Members,
    Outcome,
    Part,
    Refusal,
    TimelinesUnavailable,
)

WRITER_WAIT_SECONDS = 10.0
EPOCH_LENGTH = 4
BEGUN_WINDOW = 100
PART_MAX = 1000
PARTS = b"timelines:parts"
Characters = NDArray[np.uint8]
_Replies = asyncio.Future[list[Any]]
_DIGITS = np.frombuffer(DIGITS.encode(), np.uint8)
_SHIFTS = np.arange(60, -1, -5)
_LINE_END = np.frombuffer(b"\r\n", np.uint8)
_NO_MEMBERS = np.empty(0, np.int64)


def _scripts() -> dict[str, str]:
    applying = ("push", "drop", "promote", "demote", "help")
    return {name: script(name, applies=True) for name in applying} | {
        name: script(name, applies=False) for name in ("adopt", "bury")
    }


def id_texts(members: Members) -> Characters:
    """The ids of members as rows of characters."""
    texts: Characters = _DIGITS[(members[:, None] >> _SHIFTS) & 31]
    return texts


class _Pending:
    """The outcome of a step that was sent; whoever does not care need not await it."""

    __slots__ = ("_outcome", "_sent")

    def __init__(
        self, outcome: Callable[[_Replies], Coroutine[Any, Any, Outcome]], sent: _Replies
    ) -> None:
        self._outcome = outcome
        self._sent = sent

    def __await__(self) -> Generator[Any, None, Outcome]:
        return self._outcome(self._sent).__await__()


class RedisTimelines(TimelineClient):
    """`infra.ports.timelines.TimelineStore` on one Redis."""

    def __init__(self, url: str, wait_seconds: float = WRITER_WAIT_SECONDS) -> None:
        scripts = _scripts()
        super().__init__(
            RedisConnection(
                url, wait_seconds=wait_seconds, name="plaza-fanout", scripts=tuple(scripts.values())
            )
        )
        # Waiting for shared parts blocks a connection, so that has one of its own.
        self._bell = RedisConnection(url, wait_seconds=wait_seconds, name="plaza-fanout-bell")
        self._scripts = Scripts(scripts)

    async def open(self) -> None:
        self._connection.start()
        self._bell.start()

    async def wait_until_reachable(self, seconds: float) -> bool:
        return await self._connection.wait_until_up(seconds)

    async def close(self) -> None:
        await self._connection.close()
        await self._bell.close()

    async def load(self) -> Kept | None:
        epoch, begun, *positions = await self._ask("HMGET", STATE, "e", "n", *FIELDS)
        if epoch is None or begun is None or None in positions:
            return None
        self._epoch = epoch.decode()
        celebrities = await self._ask("SMEMBERS", self._key("celebrities"))
        return Kept(
            self._epoch,
            {p: int(at) for p, at in zip(SOCIAL_PARTITIONS, positions, strict=True)},
            int(begun),
            frozenset(id_number(each.decode()) for each in celebrities),
        )

    async def adopt(self, instead_of: str, positions: Mapping[int, int]) -> None:
        epoch = "".join(secrets.choice(DIGITS) for _ in range(EPOCH_LENGTH))
        words: list[str | int] = [instead_of, epoch]
        for partition, field in zip(SOCIAL_PARTITIONS, FIELDS, strict=True):
            words += (field, positions.get(partition, 0))
        await self._call(self._scripts.call("adopt", (STATE,), *words))

    async def begun_after(self, count: int) -> tuple[int, Sequence[int] | None]:
        for window in (BEGUN_WINDOW, BEGUN_KEPT):
            begun, members = await self._begun(window)
            missing = begun - count
            if 0 <= missing <= len(members):
                newest = members[len(members) - missing :]
                return begun, [id_number(each.decode()) for each in newest]
        return begun, None

    async def _begun(self, window: int) -> tuple[int, list[bytes]]:
        replies = await self._send(
            command("MULTI")
            + command("HGET", STATE, "n")
            + command("LRANGE", self._key("begun"), -window, -1)
            + command("EXEC"),
            4,
        )
        begun, members = replies[-1]
        if begun is None:
            raise TimelinesUnavailable("the store was emptied")
        return int(begun), members

    async def everybody(self) -> Collection[int]:
        found: set[int] = set()
        cursor = b"0"
        while True:
            cursor, rows = await self._ask("ZSCAN", self._key("readers"), cursor, "COUNT", 5000)
            found.update([id_number(each.decode()) for each in rows[::2]])
            if cursor == b"0":
                return found

    async def anybody(self) -> int | None:
        """A member who may have a timeline, by chance."""
        found = await self._ask("ZRANDMEMBER", self._key("readers"))
        return None if found is None else id_number(found.decode())

    async def latest_first(self, members: Members) -> Members:
        texts = [bytes(row) for row in id_texts(members)]
        scores = np.zeros(len(members))
        waiting = []
        for start in range(0, len(texts), PART_MAX):
            part = texts[start : start + PART_MAX]
            asked = command("ZMSCORE", self._key("readers"), *part)
            waiting.append((start, self._send(asked, 1)))
        for start, replies in waiting:
            found = (await replies)[0]
            scores[start : start + len(found)] = [float(score or 0) for score in found]
        return members[np.argsort(-scores, kind="stable")]

    def keys(self, members: Members) -> Keys:
        prefix = b"$%d\r\nt:%b:" % (3 + EPOCH_LENGTH + LENGTH, self._epoch.encode())
        rows = np.empty((len(members), len(prefix) + LENGTH + 2), np.uint8)
        rows[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
        rows[:, len(prefix) : -2] = id_texts(members)
        rows[:, -2:] = _LINE_END
        return Keys(members, rows.tobytes())

    def push(self, link: Link, position: int, entry: bytes, keys: Keys) -> Awaitable[Outcome]:
        return self._apply(
            self._scripts.call_encoded(
                "push", len(keys.members), keys.encoded, *self._words(link), entry, position
            )
        )

    def push_own(
        self, link: Link, position: int, entry: bytes, author_id: int
    ) -> Awaitable[Outcome]:
        keys = (STATE, self._own_list(author_id))
        words = (*self._words(link), entry, position)
        return self._apply(self._scripts.call("push", keys, *words))

    def drop(self, link: Link, members: Sequence[int]) -> Awaitable[Outcome]:
        keys = self.keys(np.array(members, np.int64)) if members else Keys(_NO_MEMBERS, b"")
        return self._apply(
            self._scripts.call_encoded("drop", len(members), keys.encoded, *self._words(link))
        )

    def promote(
        self, link: Link, position: int, slots: bytes, author_id: int
    ) -> Awaitable[Outcome]:
        keys = (STATE, self._own_list(author_id), self._key("celebrities"))
        words = (*self._words(link), header(position) + slots, id_text(author_id))
        return self._apply(self._scripts.call("promote", keys, *words))

    def demote(self, link: Link, author_id: int) -> Awaitable[Outcome]:
        keys = (STATE, self._own_list(author_id), self._key("celebrities"))
        words = (*self._words(link), id_text(author_id))
        return self._apply(self._scripts.call("demote", keys, *words))

    async def take_turn(self, task: str, seconds: float) -> bool:
        words = ("SET", self._key(task), 1, "NX", "EX", int(seconds))
        return await self._ask(*words) is not None

    async def lists(self, cursor: bytes, count: int) -> tuple[bytes, Mapping[bytes, bytes]]:
        cursor, names = await self._ask("SCAN", cursor, "MATCH", "[tc]:????:*", "COUNT", count)
        ours = f":{self._epoch}:".encode()
        if foreign := [name for name in names if not name.startswith(ours, 1)]:
            await self._ask("UNLINK", *foreign)
        kept = [name for name in names if name.startswith(ours, 1)]
        if not kept:
            return cursor, {}
        asked = b"".join([command("GETRANGE", name, HEADER_BYTES, -1) for name in kept])
        return cursor, dict(zip(kept, await self._send(asked, len(kept)), strict=True))

    async def bury(self, name: bytes, graves: Iterable[tuple[int, bytes, bytes]]) -> int:
        words: list[bytes | int] = []
        for at, entry, grave in graves:
            words += (HEADER_BYTES + at, entry, grave)
        return int(await self._call(self._scripts.call("bury", (name,), *words)))

    async def forget(self, member_ids: Collection[int]) -> None:
        """Keep these members' timelines no longer: whoever pushes to one finds it gone."""
        if member_ids:
            await self._ask("UNLINK", *(self._timeline(member) for member in member_ids))

    async def share(self, parts: Iterable[Part]) -> None:
        jobs = [
            _strings(
                self._epoch,
                FIELDS[part.link.partition],
                str(part.link.previous),
                str(part.position),
                part.entry,
                f"t:{self._epoch}:",
                id_texts(part.members).tobytes(),
            )
            for part in parts
        ]
        await self._ask("RPUSH", PARTS, *jobs)

    async def help(self) -> bool:
        return bool(await self._call(self._scripts.call("help", (STATE, PARTS))))

    async def wait_for_parts(self, seconds: float) -> bool:
        # Moving the first to its own place waits for one without taking it.
        words = ("BLMOVE", PARTS, PARTS, "LEFT", "LEFT", seconds)
        try:
            return checked(await self._bell.send(command(*words)))[0] is not None
        except (RedisUnavailable, RedisRefused) as error:
            raise TimelinesUnavailable(str(error)) from error

    def _words(self, link: Link) -> tuple[str | int, ...]:
        return (
            self._epoch,
            FIELDS[link.partition],
            link.previous,
            "" if link.position is None else link.position,
            "" if link.begun is None else link.begun,
        )

    def _apply(self, encoded: bytes) -> Awaitable[Outcome]:
        """Send at once; the outcome may be awaited later."""
        try:
            sent = self._connection.send(encoded)
        except RedisUnavailable as error:
            raise TimelinesUnavailable(str(error)) from error
        return _Pending(self._outcome, sent)

    async def _outcome(self, sent: _Replies) -> Outcome:
        try:
            reply = self._checked(await sent)[0]
        except RedisUnavailable as error:
            raise TimelinesUnavailable(str(error)) from error
        if reply == 1:
            return ()
        return reply if isinstance(reply, list) else Refusal(reply.decode())


def _strings(*parts: bytes | str) -> bytes:
    """Strings with their lengths before them, as Lua's `struct` unpacks them."""
    encoded = [part if isinstance(part, bytes) else part.encode() for part in parts]
    return b"".join([len(part).to_bytes(4, "little") + part for part in encoded])
