"""What the scripts do to one timeline, against plain lists."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from infra.adapters.timelines.redis_timeline_reader import KEEP_SECONDS, RedisTimelineReader
from infra.adapters.timelines.redis_timelines import RedisTimelines
from infra.formats.packed_timeline import MASK, TIMELINE_MAX, decode, encode_entry
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.ports.timelines import Link, Refusal, TimelinesUnavailable

ADA, BOB = 1 << 42, (1 << 42) + 77
DAY = 86_400.0

Pairs = list[tuple[int, int]]


@dataclass
class Kept:
    """One Redis, seen from both sides."""

    store: RedisTimelines
    reader: RedisTimelineReader
    now: list[float]
    at: int = 0
    epoch: str = ""
    begun: int = 0
    missing: list[int] = field(default_factory=list)

    async def start(self, position: int) -> None:
        await self.store.adopt("", dict.fromkeys(SOCIAL_PARTITIONS, position))
        found = await self.store.load()
        assert found is not None
        self.at, self.epoch = position, found.epoch

    async def keep(self, member: int, position: int, entries: Pairs) -> bool:
        building = await self.reader.begin(member)
        assert building is not None
        self.begun += 1
        return await self.reader.finish(building, position, entries)

    async def push(self, position: int, post: int, *members: int) -> object:
        link = Link(0, self.at, position, self.begun)
        keys = self.store.keys(np.array(members, np.int64))
        done = await self.store.push(link, position, encode_entry(position, post), keys)
        if not isinstance(done, Refusal):
            self.at = position
        return done

    async def read(self, member: int) -> Pairs | None:
        packed = await self.reader.read(member, lambda _: ())
        if packed is None:
            return None
        positions, posts = decode(packed.slots, self.at)
        return list(zip(positions.tolist(), posts.tolist(), strict=True))


@pytest.fixture
async def kept(redis_url: str) -> AsyncIterator[Kept]:
    now = [1_800_000_000.0]
    store = RedisTimelines(redis_url)
    reader = RedisTimelineReader(redis_url, wait_seconds=5.0, clock=lambda: now[0])
    await store.open()
    await reader.open()
    assert await store.wait_until_reachable(5)
    assert await reader.wait_until_reachable(5)
    yield Kept(store, reader, now)
    await reader.close()
    await store.close()


@pytest.mark.parametrize("start", [0, 3 * (MASK + 1) - 900])
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_however_entries_come_the_newest_are_kept(kept: Kept, seed: int, start: int) -> None:
    """In order, swapped, twice, posts and reposts, across the wrap: far more than are kept."""
    chance = random.Random(seed)
    await kept.start(start)
    assert await kept.keep(ADA, start, [])
    coming = list(range(start + 1, start + 4001))
    for _ in range(300):
        at = chance.randrange(len(coming) - 8)
        coming[at : at + 8] = chance.sample(coming[at : at + 8], 8)
    coming = [p for position in coming for p in [position] * (1 + (chance.random() < 0.05))]
    known: set[tuple[int, int]] = set()
    longest = 0
    for count, position in enumerate(coming):
        post = position if position % 5 else max(start + 1, position - chance.randrange(1, 50))
        pair = next((p for p in known if p[0] == position), (position, post))
        link = Link(0, kept.at, None, None)
        keys = kept.store.keys(np.array([ADA], np.int64))
        assert await kept.store.push(link, position, encode_entry(*pair), keys) == ()
        known.add(pair)
        if count % 97 == 0:
            packed = await kept.reader.read(ADA, lambda _: ())
            assert packed is not None
            longest = max(longest, len(packed.slots))
            positions, posts = decode(packed.slots, max(known)[0])
            found = list(zip(positions.tolist(), posts.tolist(), strict=True))
            assert found == sorted(known, reverse=True)[:TIMELINE_MAX]
    assert longest <= 4 * 1600


async def test_a_step_from_elsewhere_changes_nothing(kept: Kept) -> None:
    await kept.start(100)
    assert await kept.keep(ADA, 100, [(90, 90)])
    assert await kept.push(101, 101, ADA) == ()
    kept.at = 100
    assert await kept.push(102, 102, ADA) is Refusal.MOVED
    kept.at = 101
    assert await kept.read(ADA) == [(101, 101), (90, 90)]


async def test_a_step_that_has_not_heard_of_a_timeline_changes_nothing(kept: Kept) -> None:
    await kept.start(100)
    assert await kept.keep(ADA, 100, [])
    kept.begun = 0
    assert await kept.push(101, 101) is Refusal.STALE
    count, members = await kept.store.begun_after(0)
    assert (count, members) == (1, [ADA])
    kept.begun = count
    assert await kept.push(101, 101, ADA) == ()
    assert await kept.read(ADA) == [(101, 101)]


async def test_what_is_not_kept_takes_no_room_and_is_told(kept: Kept) -> None:
    await kept.start(100)
    assert await kept.keep(ADA, 100, [])
    assert await kept.push(101, 101, BOB, ADA, BOB + 1) == [0, 2]
    assert await kept.read(BOB) is None
    assert await kept.read(ADA) == [(101, 101)]


async def test_what_comes_while_a_timeline_is_pulled_is_in_it(kept: Kept) -> None:
    await kept.start(100)
    building = await kept.reader.begin(ADA)
    assert building is not None
    assert building.applied == 100
    kept.begun = 1
    assert await kept.read(ADA) is None
    assert await kept.reader.begin(ADA) is None
    for position in (101, 102, 103):
        assert await kept.push(position, position - 50, ADA) == ()
    assert await kept.reader.finish(building, 102, [(102, 52), (101, 51), (7, 7)])
    assert await kept.read(ADA) == [(103, 53), (102, 52), (101, 51), (7, 7)]


async def test_a_timeline_dropped_while_it_is_pulled_is_not_kept(kept: Kept) -> None:
    await kept.start(100)
    building = await kept.reader.begin(ADA)
    assert building is not None
    assert await kept.store.drop(Link(0, 100, 101, 1), [ADA]) == ()
    assert not await kept.reader.finish(building, 101, [(7, 7)])
    assert await kept.read(ADA) is None


async def test_the_first_build_of_two_does_not_stand_for_the_second(kept: Kept) -> None:
    await kept.start(100)
    first = await kept.reader.begin(ADA)
    assert await kept.store.drop(Link(0, 100, 101, 1), [ADA]) == ()
    second = await kept.reader.begin(ADA)
    assert first is not None
    assert second is not None
    assert not await kept.reader.finish(first, 101, [(7, 7)])
    assert await kept.reader.finish(second, 101, [(8, 8)])
    assert await kept.read(ADA) == [(8, 8)]


async def test_a_timeline_too_old_to_say_is_pulled_every_time(kept: Kept) -> None:
    await kept.start(5 << 30)
    assert not await kept.keep(ADA, 5 << 30, [(5 << 30, 5 << 30), (7, 7)])
    assert await kept.keep(BOB, 5 << 30, [(5 << 30, 7)])
    packed = await kept.reader.read(BOB, lambda _: ())
    assert packed is not None


async def test_reading_keeps_a_timeline_for_thirty_days(kept: Kept) -> None:
    await kept.start(100)
    assert await kept.keep(ADA, 100, [])
    ask = kept.store._connection.ask
    await ask("EXPIRE", kept.reader._timeline(ADA), 1000)
    await kept.read(ADA)
    await kept.read(ADA)
    assert await ask("TTL", kept.reader._timeline(ADA)) > KEEP_SECONDS - 10
    # Once a day is enough.
    await ask("EXPIRE", kept.reader._timeline(ADA), 1000)
    await kept.read(ADA)
    assert await ask("TTL", kept.reader._timeline(ADA)) <= 1000
    kept.now[0] += DAY
    await kept.read(ADA)
    await kept.read(ADA)
    assert await ask("TTL", kept.reader._timeline(ADA)) > KEEP_SECONDS - 10


async def test_those_who_read_last_come_first(kept: Kept) -> None:
    await kept.start(100)
    members = [ADA + n for n in range(30)]
    order = random.Random(3).sample(members, len(members))
    for member in order:
        kept.now[0] += 60
        assert await kept.keep(member, 100, [])
    strangers = np.array([BOB + 100, BOB + 101], np.int64)
    asked = np.concatenate([np.array(members, np.int64), strangers])
    found = await kept.store.latest_first(asked)
    assert found.tolist() == order[::-1] + strangers.tolist()
    assert set(await kept.store.everybody()) == set(members)


async def test_begun_timelines_are_remembered_for_a_while(kept: Kept) -> None:
    await kept.start(100)
    for n in range(300):
        assert await kept.reader.begin(ADA + n) is not None
    assert await kept.store.begun_after(290) == (300, [ADA + n for n in range(290, 300)])
    assert await kept.store.begun_after(0) == (300, [ADA + n for n in range(300)])
    assert await kept.store.begun_after(300) == (300, [])
    # A store that was set back has begun fewer than the caller has heard of.
    assert await kept.store.begun_after(301) == (300, None)


async def test_only_one_of_two_starts_an_epoch(kept: Kept) -> None:
    positions = dict.fromkeys(SOCIAL_PARTITIONS, 5)
    await kept.store.adopt("", positions)
    first = await kept.store.load()
    await kept.store.adopt("", dict.fromkeys(SOCIAL_PARTITIONS, 9))
    assert await kept.store.load() == first
    assert first is not None
    await kept.store.adopt(first.epoch, dict.fromkeys(SOCIAL_PARTITIONS, 9))
    second = await kept.store.load()
    assert second is not None
    assert second.epoch != first.epoch
    assert second.applied == dict.fromkeys(SOCIAL_PARTITIONS, 9)


async def test_a_reader_learns_of_a_new_epoch_with_what_it_reads(kept: Kept) -> None:
    await kept.start(100)
    assert await kept.keep(ADA, 100, [(7, 7)])
    assert await kept.read(ADA) == [(7, 7)]
    await kept.store.adopt(kept.epoch, dict.fromkeys(SOCIAL_PARTITIONS, 100))
    assert await kept.read(ADA) is None
    assert await kept.keep(ADA, 100, [(8, 8)])
    assert await kept.read(ADA) == [(8, 8)]


async def test_a_reader_learns_of_a_celebrity_with_what_it_reads(kept: Kept) -> None:
    await kept.start(100)
    assert await kept.keep(ADA, 100, [(7, 7)])
    asked: list[frozenset[int]] = []

    def followed(celebrities: frozenset[int]) -> list[int]:
        asked.append(celebrities)
        return [author for author in celebrities if author != ADA]

    assert await kept.reader.read(ADA, followed) is not None
    entry = encode_entry(101, 101)
    assert await kept.store.promote(Link(0, 100, 101, 1), 101, entry, BOB) == ()
    packed = await kept.reader.read(ADA, followed)
    assert packed is not None
    assert packed.celebrities == {BOB: entry}
    assert await kept.store.push_own(Link(0, 101, 102, 1), 102, encode_entry(102, 9), BOB) == ()
    packed = await kept.reader.read(ADA, followed)
    assert packed is not None
    assert packed.celebrities == {BOB: entry + encode_entry(102, 9)}
    assert await kept.store.demote(Link(0, 102, 103, 1), BOB) == ()
    packed = await kept.reader.read(ADA, followed)
    assert packed is not None
    assert packed.celebrities == {}
    assert asked == [frozenset({BOB})] * 3
    # Those who are celebrities themselves need their own list.
    assert await kept.store.promote(Link(0, 103, 104, 1), 104, entry, ADA) == ()
    packed = await kept.reader.read(ADA, followed)
    assert packed is not None
    assert packed.celebrities == {ADA: entry}


async def test_without_its_celebrity_lists_a_timeline_is_not_read(kept: Kept) -> None:
    await kept.start(100)
    assert await kept.keep(ADA, 100, [(7, 7)])
    assert await kept.store.promote(Link(0, 100, 101, 1), 101, b"", BOB) == ()
    await kept.store._connection.ask("DEL", kept.store._own_list(BOB))
    assert await kept.reader.read(ADA, lambda celebrities: celebrities) is None
    assert await kept.reader.read(ADA, lambda _: ()) is not None


@pytest.mark.parametrize("entries", [1, 5, 20, 60])
async def test_the_end_of_a_timeline_is_whole_entries(kept: Kept, entries: int) -> None:
    """Read from the end, wherever that falls among posts and reposts."""
    chance = random.Random(entries)
    await kept.start(1000)
    for n, size in enumerate(range(2 * entries + 8)):
        positions = sorted(chance.sample(range(2, 1000), size), reverse=True)
        pairs = [(p, p if chance.random() < 0.5 else p - 1) for p in positions]
        assert await kept.keep(ADA + n, 1000, pairs)
        packed = await kept.reader.read(ADA + n, lambda _: (), entries)
        assert packed is not None
        found, posts = decode(packed.slots, 1000)
        read = list(zip(found.tolist(), posts.tolist(), strict=True))
        assert read == pairs[: len(read)]
        assert len(read) >= min(entries, size)
        assert not packed.complete or len(read) == size


async def test_a_store_that_lost_its_scripts_gets_them_again(kept: Kept) -> None:
    await kept.start(100)
    await kept.store._connection.ask("SCRIPT", "FLUSH")
    with pytest.raises(TimelinesUnavailable):
        await kept.push(101, 101)
    assert await kept.store.wait_until_reachable(5)
    assert await kept.push(101, 101) == ()
