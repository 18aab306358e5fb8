"""Packed timelines in Redis, as readers need them: read, begun where there is none yet, touched."""

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from domain.shared.identifiers import id_number, id_text
from infra.adapters.timelines.redis_connection import RedisConnection, RedisUnavailable, command
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
from infra.formats.packed_timeline import BYTES_PER_SLOT, SPAN, encode_entries, represents
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.ports.timelines import (
    Building,
    CelebritiesOf,
    PackedTimeline,
    SlotsAsked,
    TimelinesUnavailable,
)

BUILD_SECONDS = 30
KEEP_SECONDS = 30 * 86_400
READER_WAIT_SECONDS = 0.25
READ_TRIES = 4
BEING_BUILT = 1 << 63
TOUCHED_MAX = 1_000_000
REQUESTS_MAX = 100_000
Clock = Callable[[], float]
_GET_VERSION = command("HGET", STATE, "v")


def _scripts() -> dict[str, str]:
    return {name: script(name, applies=False) for name in ("begin", "finish", "touch")}


class RedisTimelineReader(TimelineClient):
    """`infra.ports.timelines.TimelineReader` on one Redis."""

    def __init__(
        self, url: str, wait_seconds: float = READER_WAIT_SECONDS, clock: Clock = time.time
    ) -> None:
        scripts = _scripts()
        super().__init__(
            RedisConnection(
                url, wait_seconds=wait_seconds, name="plaza-reader", scripts=tuple(scripts.values())
            )
        )
        self._scripts = Scripts(scripts)
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
        words = (building.token, header(position), slots, KEEP_SECONDS, position)
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
