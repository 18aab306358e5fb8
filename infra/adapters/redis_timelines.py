"""Packed timelines in Redis: one side for the fan-out that keeps them current, one for readers.

Every step that applies events is one script, which checks that the step is the next one, does it
and stores how far the partition is. So positions cover exactly what is there, also after a crash
of Redis that lost the last seconds of both.
"""

import asyncio
import contextlib
import secrets
import time
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
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.shared.identifiers import DIGITS, LENGTH, id_number, id_text
from infra.adapters.redis_connection import (
    RedisConnection,
    RedisRefused,
    RedisUnavailable,
    bulk,
    checked,
    command,
    digest,
)
from infra.formats.packed_timeline import BYTES_PER_SLOT, SPAN, encode_entries, represents
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.ports.timelines import (
    Building,
    CelebritiesOf,
    Kept,
    Keys,
    Link,
    Members,
    Outcome,
    PackedTimeline,
    Part,
    Refusal,
    SlotsAsked,
    TimelinesUnavailable,
)

STATE = b"timelines"
BEGUN_KEPT = 10_000
BUILD_SECONDS = 30
KEEP_SECONDS = 30 * 86_400
WRITER_WAIT_SECONDS = 10.0
READER_WAIT_SECONDS = 0.25
READ_TRIES = 4
HEADER_BYTES = 8
BEING_BUILT = 1 << 63
EPOCH_LENGTH = 4
BEGUN_WINDOW = 100
PART_MAX = 1000
TOUCHED_MAX = 1_000_000
REQUESTS_MAX = 100_000
PARTS = b"timelines:parts"

Clock = Callable[[], float]
Characters = NDArray[np.uint8]
_Replies = asyncio.Future[list[Any]]

FIELDS = tuple(f"p{partition}" for partition in SOCIAL_PARTITIONS)
_DIGITS = np.frombuffer(DIGITS.encode(), np.uint8)
_SHIFTS = np.arange(60, -1, -5)
_LINE_END = np.frombuffer(b"\r\n", np.uint8)
_GET_VERSION = command("HGET", STATE, "v")
_NO_MEMBERS = np.empty(0, np.int64)


@cache
def _script(name: str, *, applies: bool) -> str:
    folder = resources.files("infra.adapters.timeline_scripts")
    body = folder.joinpath(f"{name}.lua").read_text("utf-8")
    return folder.joinpath("prelude.lua").read_text("utf-8") + body if applies else body


def writer_scripts() -> dict[str, str]:
    applying = ("push", "drop", "promote", "demote", "help")
    return {name: _script(name, applies=True) for name in applying} | {
        name: _script(name, applies=False) for name in ("adopt", "bury")
    }


def reader_scripts() -> dict[str, str]:
    return {name: _script(name, applies=False) for name in ("begin", "finish", "touch")}


def id_texts(members: Members) -> Characters:
    """The ids of members as rows of characters."""
    texts: Characters = _DIGITS[(members[:, None] >> _SHIFTS) & 31]
    return texts


class _Scripts:
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


class _Client:
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


class RedisTimelines(_Client):
    """`infra.ports.timelines.TimelineStore` on one Redis."""

    def __init__(self, url: str, wait_seconds: float = WRITER_WAIT_SECONDS) -> None:
        scripts = writer_scripts()
        super().__init__(
            RedisConnection(
                url, wait_seconds=wait_seconds, name="plaza-fanout", scripts=tuple(scripts.values())
            )
        )
        # Waiting for shared parts blocks a connection, so that has one of its own.
        self._bell = RedisConnection(url, wait_seconds=wait_seconds, name="plaza-fanout-bell")
        self._scripts = _Scripts(scripts)

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
        words = (*self._words(link), _header(position) + slots, id_text(author_id))
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


class RedisTimelineReader(_Client):
    """`infra.ports.timelines.TimelineReader` on one Redis."""

    def __init__(
        self, url: str, wait_seconds: float = READER_WAIT_SECONDS, clock: Clock = time.time
    ) -> None:
        scripts = reader_scripts()
        super().__init__(
            RedisConnection(
                url, wait_seconds=wait_seconds, name="plaza-reader", scripts=tuple(scripts.values())
            )
        )
        self._scripts = _Scripts(scripts)
        self._clock = clock
        self._version: bytes | None = None
        self._celebrities: frozenset[int] = frozenset()
        self._prefix = b""
        self._touched: set[int] = set()
        self._requests: dict[int, bytes] = {}
        self._day = 0
        self._high = 0

    async def open(self) -> None:
        self._connection.start()

    async def wait_until_reachable(self, seconds: float) -> bool:
        return await self._connection.wait_until_up(seconds)

    async def close(self) -> None:
        await self._connection.close()

    async def read(
        self, member_id: int, followed: CelebritiesOf, entries: int | None = None
    ) -> PackedTimeline | None:
        # Far more than enough: each try more means that an account crossed the threshold meanwhile.
        for _ in range(READ_TRIES):
            if self._version is None:
                await self._learn()
            if self._version is None:
                return None
            celebrities = list(followed(self._celebrities)) if self._celebrities else []
            if member_id in self._celebrities and member_id not in celebrities:
                celebrities.append(member_id)
            found, own, version = await self._fetch(member_id, celebrities, entries)
            if version != self._version:
                self._version = None
                continue
            if len(found[0]) < HEADER_BYTES or any(len(head) < HEADER_BYTES for head, _ in own):
                return None
            position = int.from_bytes(found[0], "little")
            if position & BEING_BUILT or self._high - position >= SPAN:
                return None
            if self._is_first_today(member_id):
                self._touch(member_id)
            slots, complete = _aligned(found[1], entries)
            lists = {
                celebrity: _aligned(tail, entries)[0]
                for celebrity, (_, tail) in zip(celebrities, own, strict=True)
            }
            return PackedTimeline(position, slots, complete, lists)
        raise TimelinesUnavailable("celebrities change too fast")

    def ask(self, member_id: int, asked: SlotsAsked) -> bool:
        request = self._requests.get(member_id) or self._request(member_id)
        if request is None:
            return False
        try:
            self._connection.send_for(_SlotsReply(self, member_id, asked), request, 2)
        except RedisUnavailable:
            return False
        return True

    def take(self, member_id: int, replies: Sequence[Any]) -> tuple[int, bytes] | None:
        """A timeline out of the replies to `ask`; None if it is not kept."""
        value, version = replies
        if version != self._version or not isinstance(value, bytes) or len(value) < HEADER_BYTES:
            return None
        position = int.from_bytes(value[:HEADER_BYTES], "little")
        if position & BEING_BUILT or self._high - position >= SPAN:
            return None
        if self._is_first_today(member_id):
            self._touch(member_id)
        return position, value[HEADER_BYTES:]

    def _request(self, member_id: int) -> bytes | None:
        """The bytes that ask for a timeline alone; None where celebrities may have to be merged."""
        if self._version is None or member_id in self._celebrities:
            return None
        if len(self._requests) >= REQUESTS_MAX:
            self._requests.clear()
        request = command("GET", self._prefix + id_text(member_id).encode()) + _GET_VERSION
        self._requests[member_id] = request
        return request

    async def _fetch(
        self, member_id: int, celebrities: Sequence[int], entries: int | None
    ) -> tuple[tuple[bytes, bytes], list[tuple[bytes, bytes]], bytes | None]:
        """Header and slots of the timeline, those of the lists, and then the version: were that
        asked for first, an account might cross the threshold between it and the lists."""
        window = HEADER_BYTES if entries is None else -_window_bytes(entries)
        tail = b"$%d\r\n%d\r\n$2\r\n-1\r\n" % (len(str(window)), window)
        names = [b"%b%b" % (self._prefix, id_text(member_id).encode())]
        names += [self._own_list(celebrity).encode() for celebrity in celebrities]
        parts: list[bytes] = []
        for name in names:
            get = b"*4\r\n$8\r\nGETRANGE\r\n$%d\r\n%b\r\n" % (len(name), name)
            parts += (get, b"$1\r\n0\r\n$1\r\n7\r\n", get, tail)
        parts.append(_GET_VERSION)
        count = 2 * len(names) + 1
        replies = await self._send(b"".join(parts), count)
        pairs = list(
            zip(replies[: 2 * len(names) : 2], replies[1 : 2 * len(names) : 2], strict=True)
        )
        return pairs[0], pairs[1:], replies[2 * len(names)]

    def _touch(self, member_id: int) -> None:
        """Sent, and not waited for."""
        keys = (self._timeline(member_id), self._key("readers"))
        words = (KEEP_SECONDS, int(self._clock()), id_text(member_id))
        with contextlib.suppress(RedisUnavailable):
            self._connection.send(self._scripts.call("touch", keys, *words))

    def _is_first_today(self, member_id: int) -> bool:
        day = int(self._clock() // 86_400)
        if day != self._day or len(self._touched) > TOUCHED_MAX:
            self._day, self._touched = day, set()
        if member_id in self._touched:
            return False
        self._touched.add(member_id)
        return True

    async def _learn(self) -> None:
        """What is needed to name keys, all as of one moment."""
        found = await self._ask("HGET", STATE, "v")
        if found is None:
            return
        self._epoch = found.decode().partition(":")[0]
        replies = await self._send(
            command("MULTI")
            + command("HMGET", STATE, "v", *FIELDS)
            + command("SMEMBERS", self._key("celebrities"))
            + command("EXEC"),
            4,
        )
        (version, *positions), celebrities = replies[-1]
        if version is None or version.partition(b":")[0] != self._epoch.encode():
            return
        self._version = version
        self._requests.clear()
        self._prefix = f"t:{self._epoch}:".encode()
        self._celebrities = frozenset(id_number(each.decode()) for each in celebrities)
        self._high = max([self._high, *(int(position or 0) for position in positions)])

    async def begin(self, member_id: int) -> Building | None:
        if self._version is None:
            await self._learn()
        if self._version is None:
            return None
        token = (BEING_BUILT | secrets.randbits(63)).to_bytes(HEADER_BYTES, "little")
        positions = await self._call(
            self._scripts.call(
                "begin",
                (STATE, self._timeline(member_id), self._key("begun"), self._key("readers")),
                self._epoch,
                token,
                BUILD_SECONDS,
                id_text(member_id),
                int(self._clock()),
                BEGUN_KEPT,
                *FIELDS,
            )
        )
        if positions == 0 or None in positions:
            # Perhaps of another epoch by now: the next one to ask finds out.
            self._version = None
            return None
        applied = max(int(position) for position in positions)
        self._high = max(self._high, applied)
        return Building(member_id, self._epoch, token, applied)

    async def finish(
        self, building: Building, position: int, entries: Sequence[tuple[int, int]]
    ) -> bool:
        if position < building.applied:
            raise ValueError("pulled before what may have been pushed already")
        if building.epoch != self._epoch or (entries and not represents(position, entries[-1][0])):
            return False
        name = self._timeline(building.member_id)
        slots = encode_entries(reversed(entries))
        words = (building.token, _header(position), slots, KEEP_SECONDS, position)
        return bool(await self._call(self._scripts.call("finish", (name,), *words)))

    async def applied(self) -> Mapping[int, int]:
        positions = await self._ask("HMGET", STATE, *FIELDS)
        if None in positions:
            return {}
        found = {p: int(at) for p, at in zip(SOCIAL_PARTITIONS, positions, strict=True)}
        self._high = max(self._high, *found.values())
        return found

    async def celebrities(self) -> frozenset[int]:
        await self._learn()
        return self._celebrities

    @property
    def known_celebrities(self) -> frozenset[int]:
        return self._celebrities


class _SlotsReply:
    """Hands a timeline to who asked for it; see `redis_connection.Receiver`."""

    __slots__ = ("_asked", "_member_id", "_reader")

    def __init__(self, reader: RedisTimelineReader, member_id: int, asked: SlotsAsked) -> None:
        self._reader = reader
        self._member_id = member_id
        self._asked = asked

    def done(self) -> bool:
        return False

    def set_result(self, replies: list[Any], /) -> None:
        kept = self._reader.take(self._member_id, replies)
        if kept is None:
            self._asked.not_found()
        else:
            self._asked.found(*kept)

    def set_exception(self, error: RedisUnavailable, /) -> None:
        del error  # Who reads it the other way meets it again.
        self._asked.not_found()


def _strings(*parts: bytes | str) -> bytes:
    """Strings with their lengths before them, as Lua's `struct` unpacks them."""
    encoded = [part if isinstance(part, bytes) else part.encode() for part in parts]
    return b"".join([len(part).to_bytes(4, "little") + part for part in encoded])


def _header(position: int) -> bytes:
    return position.to_bytes(HEADER_BYTES, "little")


def _window_bytes(entries: int) -> int:
    # Two slots an entry, and two more to tell where an entry begins.
    return BYTES_PER_SLOT * (2 * entries + 2)


def _aligned(tail: bytes, entries: int | None) -> tuple[bytes, bool]:
    """The slots in what was read, from the first whole entry on, and whether those are all."""
    if entries is None:
        return tail, True
    if len(tail) < _window_bytes(entries):
        return tail[HEADER_BYTES:], True
    # The first two may be the header. After a head comes the rest of a repost.
    second_is_head = tail[2 * BYTES_PER_SLOT - 1] >> 7
    return tail[BYTES_PER_SLOT if second_is_head else 2 * BYTES_PER_SLOT :], False
