"""What an import makes of the lines of a file."""

import itertools
import json
import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import pytest

from domain.deciders import DECIDERS
from domain.shared.identifiers import EPOCH_MS, id_number, make_id
from domain.social.post.events import PostPublished
from domain.social.relation.commands import BlockMember
from domain.social.relation.events import Followed
from infra.adapters.log.memory_event_log import MemoryEventLog
from infra.adapters.secrets.memory_keyring import MemoryKeyring
from infra.formats.codec import open_event, username_key
from infra.ports.log import Recorded
from infra.runtime.commands.execute import Executor
from infra.runtime.commands.imports import BadLine, Importer, Line, Summary
from infra.runtime.commands.product_imports import parse_product

SECRET = secrets.token_bytes(32)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class NoCredentials:
    def __init__(self) -> None:
        self.hashes: dict[str, str] = {}

    async def put(self, member_ids: Sequence[str], password_hash: str) -> None:
        self.hashes |= dict.fromkeys(member_ids, password_hash)

    async def get(self, member_id: str) -> str | None:
        return self.hashes.get(member_id)


class Keys(MemoryKeyring):
    async def create_many(self, person_ids: Iterable[str]) -> None:
        for person_id in person_ids:
            await self.create(person_id)


class Bench:
    """An importer on memory, and what it leaves."""

    def __init__(self) -> None:
        self.log = MemoryEventLog()
        self.keyring = Keys()
        self.credentials = NoCredentials()
        self.executor = Executor(self.log, self.keyring, DECIDERS, lambda: NOON)

    def importer(self, password_hash: str | None = None) -> Importer:
        return Importer(
            executor=Executor(self.log, self.keyring, DECIDERS, lambda: NOON),
            keyring=self.keyring,
            credentials=self.credentials,
            name_secret=SECRET,
            clock=lambda: NOON,
            prefix="m_",
            password_hash=password_hash,
        )

    async def follows(self, *texts: str) -> Summary:
        return await self.importer().follows(lines(texts))

    async def posts(self, *texts: str) -> Summary:
        return await self.importer().posts(lines(texts))

    async def member(self, username: str) -> str:
        stream = f"username:{username_key(SECRET, username)}"
        (claimed,) = await self.log.load(stream)
        return str(getattr(claimed.event, "member_id", ""))

    async def events(self) -> Sequence[Recorded]:
        return await self.log.read(0, 10_000)


def lines(texts: Iterable[str]) -> list[Line]:
    return [Line(number, text.encode(), 0) for number, text in enumerate(texts, 1)]


def counts(summary: Summary) -> tuple[int, int, int, int]:
    return summary.lines, summary.members, summary.added, summary.bad_lines


async def test_names_that_are_new_become_members_and_follow_each_other() -> None:
    bench = Bench()
    assert counts(await bench.follows("follower,followee", "ada,bob", "bob,ada")) == (2, 2, 2, 0)
    ada, bob = await bench.member("m_ada"), await bench.member("m_bob")
    followed = [one.event for one in await bench.events() if isinstance(one.event, Followed)]
    assert {(event.follower_id, event.followee_id) for event in followed} == {
        (ada, bob),
        (bob, ada),
    }


async def test_a_repeated_import_changes_nothing() -> None:
    bench = Bench()
    await bench.follows("ada,bob", "ada,cleo")
    before = len(await bench.events())
    again = await bench.follows("ada,bob", "ada,cleo", "ada,cleo")
    assert (again.added, again.members, again.unchanged) == (0, 0, 3)
    assert len(await bench.events()) == before


async def test_bad_lines_are_skipped_and_named() -> None:
    summary = await Bench().follows("ada,bob", "ada", "ada,ada", "ADA,bob", "", "bob,ada,cleo")
    assert counts(summary) == (5, 2, 1, 4)
    assert sorted(bad.line for bad in summary.bad) == [2, 3, 4, 6]


async def test_bytes_that_are_not_utf8_are_a_bad_line() -> None:
    summary = await Bench().importer().follows([Line(1, b"ada,b\xff", 0)])
    assert summary.bad_lines == 1


async def test_quoted_cells_and_a_byte_order_mark_are_understood() -> None:
    summary = await Bench().follows("\ufefffollower,followee", '"ada","bob"')
    assert counts(summary) == (1, 2, 1, 0)


async def test_a_quote_that_is_not_closed_is_a_bad_line() -> None:
    summary = await Bench().follows('"ada,bob', "bob,ada", '"ada"x,bob')
    assert (summary.added, sorted(bad.line for bad in summary.bad)) == (1, [1, 3])


async def test_a_follow_across_a_block_is_refused_and_the_others_stand() -> None:
    bench = Bench()
    await bench.follows("ada,bob")
    ada, bob = await bench.member("m_ada"), await bench.member("m_bob")
    await bench.executor.execute(BlockMember(blocker_id=bob, blocked_id=ada))
    summary = await bench.follows("cleo,bob", "ada,bob", "bob,cleo")
    assert summary.added == 2
    assert summary.bad == [BadLine(2, "One of you blocks the other")]


async def test_new_members_get_the_password_and_old_ones_keep_theirs() -> None:
    bench = Bench()
    await bench.follows("ada,bob")
    await bench.importer("hashed").follows(lines(["ada,cleo"]))
    assert bench.credentials.hashes == {await bench.member("m_cleo"): "hashed"}


async def test_a_post_keeps_the_moment_at_which_it_was_written() -> None:
    bench = Bench()
    line = '{"author": "ada", "content": "hi", "createdAt": "2020-05-01T10:00:00Z"}'
    assert counts(await bench.posts(line)) == (1, 1, 1, 0)
    (post,) = [
        open_event(one.event, bench.keyring)
        for one in await bench.events()
        if isinstance(one.event, PostPublished)
    ]
    assert (post.content.value, post.created_at) == ("hi", datetime(2020, 5, 1, 10, tzinfo=UTC))
    assert post.author_id == await bench.member("m_ada")


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00-14:00", "1815-12-10T00:00:00Z", "2012-06-23T10:00:00-07:00"]
)
async def test_posts_of_any_age_get_ids_that_tables_can_hold(moment: str) -> None:
    bench = Bench()
    line = json.dumps({"author": "ada", "content": "hi", "createdAt": moment})
    assert counts(await bench.posts(line)) == (1, 1, 1, 0)
    (post,) = [one.event for one in await bench.events() if isinstance(one.event, PostPublished)]
    assert id_number(post.post_id) >= 0
    assert post.post_id < make_id(EPOCH_MS + 3_600_000, 0)


async def test_many_posts_of_one_moment_are_all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = itertools.count()
    monkeypatch.setattr("secrets.randbits", lambda _: next(drawn) // 3)
    lines_of_a_day = [
        json.dumps({"author": "ada", "content": f"{n}", "createdAt": "2021-01-01T00:00:00Z"})
        for n in range(30)
    ]
    assert counts(await Bench().posts(*lines_of_a_day)) == (30, 1, 30, 0)


async def test_a_byte_order_mark_may_come_before_the_first_post() -> None:
    line = '{"author": "ada", "content": "hi"}'
    assert counts(await Bench().posts("\ufeff" + line, line)) == (2, 1, 2, 0)


def test_a_byte_order_mark_may_come_before_the_first_product() -> None:
    text = '{"title": "A", "price": 3, "seller": "s", "category": "c", "description": "d"}'
    assert parse_product(Line(1, ("\ufeff" + text).encode(), 0), "EUR").title == "A"


async def test_repeated_posts_are_kept_once_and_twice_said_is_twice_kept() -> None:
    bench = Bench()
    twice = ['{"author": "ada", "content": "hi"}'] * 2
    assert (await bench.posts(*twice)).added == 2
    again = await bench.posts(*twice)
    assert (again.added, again.unchanged) == (0, 2)


async def test_posts_that_cannot_be_are_named_with_the_reason() -> None:
    summary = await Bench().posts(
        "{",
        '{"author": "ada"}',
        '{"author": "ada", "content": ""}',
        '{"author": "ada", "content": "hi", "createdAt": "2999-01-01T00:00:00Z"}',
        '{"author": "a!", "content": "hi"}',
        '{"author": "ada", "content": "' + "x" * 501 + '"}',
        '{"author": "ada", "content": "hi", "createdAt": "2020-05-01T10:00:00"}',
        '{"author": "ada", "content": "hi", "createdAt": "0001-01-01T00:00:00+14:00"}',
    )
    assert (summary.added, sorted(bad.line for bad in summary.bad)) == (0, [*range(1, 9)])
    assert next(bad.error for bad in summary.bad if bad.line == 4).startswith("createdAt ")
