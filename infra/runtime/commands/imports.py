"""Brings follows and posts in from files, by the same commands that people give.

A repeated import changes nothing: names are looked up before they are registered, a follow that
holds is not begun again, and each post is kept under an idempotency key made of what it says.
"""

import asyncio
import codecs
import csv
import hashlib
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from msgspec import Meta, Struct

from domain.shared.identifiers import make_id
from domain.shared.message import Command
from domain.shared.rejection import Invalid, Rejection
from domain.social.member.commands import RegisterMember, registration
from domain.social.member.decider import username_stream
from domain.social.member.values import check_username
from domain.social.post.commands import PublishPost
from domain.social.post.rejections import PostIdTaken
from domain.social.relation.commands import FollowMember
from infra.formats.codec import username_key
from infra.ports.log import Clock, KeyTaken, LogUnavailable, StoredAnswer
from infra.ports.secrets import Credentials, Keyring
from infra.runtime.commands.execute import Context, Executor, Outcome

LINES_AT_ONCE = 5_000
FOLLOWS_AT_ONCE = 500
MEMBERS_AT_ONCE = 250
POSTS_AT_ONCE = 1_000
GROUPS_UNDER_WAY_MAX = 4
BAD_LINES_KEPT_MAX = 1_000
ID_ATTEMPTS_MAX = 50
PATIENCE_SECONDS = (0.2, 0.5, 1, 2, 5, 10, 15)

T = TypeVar("T")


class Line(Struct, frozen=True):
    """A line of a file, counted from 1, and how many bytes of the file were read with it."""

    number: int
    text: bytes
    bytes_read: int


class BadLine(Struct, frozen=True):
    line: int
    error: str


class ImportedPost(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    author: str
    content: str
    created_at: Annotated[datetime, Meta(tz=True)] | None = None


class NewKeys(Keyring, Protocol):
    async def create_many(self, person_ids: Iterable[str]) -> None: ...


@dataclass
class Summary:
    """What an import has done so far."""

    lines: int = 0
    members: int = 0
    added: int = 0
    unchanged: int = 0
    bad_lines: int = 0
    bad: list[BadLine] = field(default_factory=list)
    bytes_read: int = 0

    def reject(self, line: int, error: str) -> None:
        self.bad_lines += 1
        if len(self.bad) < BAD_LINES_KEPT_MAX:
            self.bad.append(BadLine(line, error))


Told = Callable[[Summary], None]


@dataclass
class Importer:
    """`prefix` comes before every name of a file; `password_hash` is that of all new members."""

    executor: Executor
    keyring: NewKeys
    credentials: Credentials
    name_secret: bytes
    clock: Clock
    prefix: str = ""
    password_hash: str | None = None
    told: Told = lambda _: None
    summary: Summary = field(default_factory=Summary)
    _members: dict[str, str] = field(default_factory=dict)

    async def follows(self, lines: Iterable[Line]) -> Summary:
        """Lines of `follower,followee`; a first line with these very words is a heading."""
        groups = Groups(GROUPS_UNDER_WAY_MAX)
        for chunk in chunks(lines, LINES_AT_ONCE):
            pairs = dict(self._parsed(chunk, parse_follow))
            await self._meet({name for pair in pairs.values() for name in pair}, pairs)
            commands = (
                (
                    number,
                    FollowMember(
                        follower_id=self._members[follower], followee_id=self._members[followee]
                    ),
                )
                for number, (follower, followee) in pairs.items()
                if follower in self._members and followee in self._members
            )
            for some in chunks(commands, FOLLOWS_AT_ONCE):
                await groups.begin(self._follow(dict(some)))
        await groups.end()
        return self.summary

    async def posts(self, lines: Iterable[Line]) -> Summary:
        """Lines of JSON: `{"author", "content", "createdAt"?}`."""
        seen: Counter[bytes] = Counter()
        for chunk in chunks(lines, POSTS_AT_ONCE):
            posts = dict(self._parsed(chunk, parse_post))
            await self._meet(
                {post.author for post in posts.values()},
                {number: (post.author,) for number, post in posts.items()},
            )
            known = {n: post for n, post in posts.items() if post.author in self._members}
            await self.keyring.fetch(self._members[post.author] for post in known.values())
            publishing = []
            for number, post in known.items():
                print_of_post = fingerprint(post)
                seen[print_of_post] += 1
                key = f"import:{print_of_post.hex()}:{seen[print_of_post]}"
                publishing.append(self._publish(number, post, key))
            await all_done(publishing)
            self.told(self.summary)
        return self.summary

    def _parsed(
        self, lines: Sequence[Line], parse: Callable[[Line], T | None]
    ) -> Iterator[tuple[int, T]]:
        for line in lines:
            self.summary.bytes_read = line.bytes_read
            if not line.text.strip():
                continue
            self.summary.lines += 1
            try:
                parsed = parse(line)
            except ValueError as problem:
                self.summary.reject(line.number, str(problem))
                continue
            if parsed is None:
                self.summary.lines -= 1
            else:
                yield line.number, parsed

    async def _meet(self, names: set[str], lines: dict[int, Any]) -> None:
        """Know the member ids of these names; those never met become members."""
        strange = sorted(names - self._members.keys())
        groups = Groups(GROUPS_UNDER_WAY_MAX)
        for some in chunks(strange, MEMBERS_AT_ONCE):
            await groups.begin(self._look_up_or_register(some))
        await groups.end()
        for number, named in lines.items():
            for name in named:
                if name not in self._members:
                    self.summary.reject(number, self._why_unknown(name))
                    break

    async def _look_up_or_register(self, names: Sequence[str]) -> None:
        keys = {}
        for name in names:
            try:
                check_username(self.prefix + name)
            except Invalid:
                continue
            keys[name] = username_key(self.name_secret, self.prefix + name)
        states = await self._patiently(
            lambda: asyncio.gather(
                *(self.executor.state(username_stream(key), fresh=True) for key in keys.values())
            )
        )
        new = {}
        for (name, key), state in zip(keys.items(), states, strict=True):
            if state.value.member_id:
                self._members[name] = state.value.member_id
            else:
                new[name] = key
        if new:
            await self._register(new)

    async def _register(self, keys: dict[str, str]) -> None:
        now_ms = int(self.clock().timestamp() * 1000)
        ids = {name: make_id(now_ms, secrets.randbits(22)) for name in keys}
        if len(set(ids.values())) < len(ids):
            return await self._register(keys)
        await self._patiently(lambda: self.keyring.create_many(ids.values()))
        if self.password_hash is not None:
            hashed = self.password_hash
            await self._patiently(lambda: self.credentials.put(list(ids.values()), hashed))
        members = [
            registration(
                RegisterMember(
                    member_id=ids[name],
                    username_key=key,
                    username=self.prefix + name,
                    display_name=self.prefix + name,
                )
            )
            for name, key in keys.items()
        ]
        try:
            await self._execute([command for member in members for command in member])
        except Rejection:
            # Somebody signs up under one of these names at this moment: one by one, then.
            for name, member in zip(keys, members, strict=True):
                await self._register_one(name, member)
        else:
            self._members |= ids
            self.summary.members += len(ids)
        return None

    async def _register_one(self, name: str, commands: tuple[Command, ...]) -> None:
        _, member = commands
        assert isinstance(member, RegisterMember)
        try:
            await self._execute(commands)
        except Rejection:
            await self.keyring.destroy(member.member_id)
            stream = username_stream(member.username_key)
            self._members[name] = (await self.executor.state(stream, fresh=True)).value.member_id
        else:
            self._members[name] = member.member_id
            self.summary.members += 1

    async def _follow(self, commands: dict[int, FollowMember]) -> None:
        if not commands:
            return
        try:
            outcome = await self._execute(list(commands.values()))
        except Rejection:
            # One of them is refused; the others are not to suffer for it.
            for number, command in commands.items():
                try:
                    outcome = await self._execute([command])
                except Rejection as refused:
                    self.summary.reject(number, reason(refused))
                else:
                    self._count(1, outcome)
        else:
            self._count(len(commands), outcome)
        self.told(self.summary)

    def _count(self, asked: int, outcome: Outcome) -> None:
        self.summary.added += len(outcome.events)
        self.summary.unchanged += asked - len(outcome.events)

    async def _publish(self, number: int, post: ImportedPost, key: str) -> None:
        try:
            await self._publish_under_a_free_id(post, key)
        except KeyTaken:
            self.summary.unchanged += 1
        except Rejection as refused:
            self.summary.reject(number, reason(refused))
        else:
            self.summary.added += 1

    async def _publish_under_a_free_id(self, post: ImportedPost, key: str) -> None:
        """Many posts of one moment, as days without a time are, make ids alike now and then."""
        for left in reversed(range(ID_ATTEMPTS_MAX)):
            command, answer = self._publishing(post, key)
            try:
                await self._execute([command], Context(answer=partial(always, answer)))
            except PostIdTaken:
                if not left:
                    raise
            else:
                return

    def _publishing(self, post: ImportedPost, key: str) -> tuple[PublishPost, StoredAnswer]:
        author_id = self._members[post.author]
        now = self.clock()
        moment = min(post.created_at or now, now)
        command = PublishPost(
            post_id=make_id(int(moment.timestamp() * 1000), secrets.randbits(22)),
            author_id=author_id,
            content=post.content,
            created_at=post.created_at,
        )
        answer = StoredAnswer(
            member_id=author_id,
            key=key,
            body_hash=hashlib.sha256(key.encode()).digest(),
            status=201,
            body=msgspec.json.encode({"postId": command.post_id}),
        )
        return command, answer

    async def _execute(
        self, commands: Sequence[Command], context: Context | None = None
    ) -> Outcome:
        return await self._patiently(
            lambda: self.executor.execute(*commands, context=context or Context())
        )

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Try again while the log is away: what was not written then was not half written."""
        for pause in PATIENCE_SECONDS:
            try:
                return await call()
            except LogUnavailable:
                await asyncio.sleep(pause)
        return await call()

    def _why_unknown(self, name: str) -> str:
        shown = self.prefix + name[:40]
        return f"{shown!r} is no user name: 3 to 30 characters out of a-z, 0-9 and _"


def parse_follow(line: Line) -> tuple[str, str] | None:
    """Raises `ValueError` with what is wrong; None for the heading."""
    text = unmarked(line).decode().strip()
    try:
        cells = next(csv.reader([text], strict=True)) if '"' in text else text.split(",")
    except csv.Error as problem:
        raise ValueError(f"this is not follower,followee: {problem}") from None
    if len(cells) != 2:
        raise ValueError("this is not follower,followee")
    follower, followee = cells[0].strip(), cells[1].strip()
    if line.number == 1 and (follower, followee) == ("follower", "followee"):
        return None
    if follower == followee:
        raise ValueError(f"{follower!r} cannot follow itself")
    return follower, followee


def parse_post(line: Line) -> ImportedPost:
    """Raises `ValueError` with what is wrong."""
    post = _decode_post(unmarked(line))
    try:
        if post.created_at is not None:
            post.created_at.astimezone(UTC)
    except OverflowError:
        raise ValueError("createdAt is before the year 1 or after 9999") from None
    return post


_decode_post = msgspec.json.Decoder(ImportedPost).decode


def unmarked(line: Line) -> bytes:
    """A line without the byte order mark that a file may begin with."""
    return line.text.removeprefix(codecs.BOM_UTF8) if line.number == 1 else line.text


def always(answer: StoredAnswer, _: object) -> StoredAnswer:
    return answer


def fingerprint(post: ImportedPost) -> bytes:
    """The same for the same post, whenever it is imported."""
    return hashlib.sha256(msgspec.json.encode(post)).digest()[:16]


def reason(refused: Rejection) -> str:
    if isinstance(refused, Invalid):
        return f"{refused.pointer.lstrip('/')} {refused.detail}"
    return refused.title


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


class Groups:
    """Coroutines under way at the same time, but not more than so many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way: set[asyncio.Task[None]] = set()

    async def begin(self, group: Coroutine[Any, Any, None]) -> None:
        """Raises what one that has ended by now has raised."""
        self._under_way.add(asyncio.create_task(group))
        while len(self._under_way) >= self._most:
            await self._one_done()

    async def end(self) -> None:
        while self._under_way:
            await self._one_done()

    async def _one_done(self) -> None:
        done, self._under_way = await asyncio.wait(
            self._under_way, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()


async def all_done(calls: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*calls)
