"""What both services share: tokens, cursors, limits, positions, pointers, and slow connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import structlog
from msgspec import Struct
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from infra.composition.services.revocations import follow_revocations
from infra.http import server
from infra.http.authentication import Authenticator, Revocations, Session, Tokens
from infra.http.consistency import Applied, required_position
from infra.http.cursors import Cursors
from infra.http.entrance import Entrance, Origins
from infra.http.lists import LIMIT_DEFAULT, limit_of
from infra.http.metrics import RequestMetrics
from infra.http.problems import Problem, undecodable
from infra.http.rate_limits import Failures, Limit, RateLimits
from infra.ports.frames import Applied as Told
from infra.ports.reads import ReadsUnavailable
from tests.waiting import until

TOKENS = Tokens(b"a secret of thirty-two bytes....")
SESSION = Session("0d1kq3h8o2c7a", "0d1kq3h8o2c7b", 2_000_000_000)
LATER = 2_000_000_000_000
CURSORS = Cursors(b"another secret")


def refused(problem: pytest.ExceptionInfo[Problem]) -> tuple[int, str]:
    return problem.value.status, problem.value.kind


def test_a_token_reads_as_the_session_that_it_was_signed_for() -> None:
    assert TOKENS.read(TOKENS.sign(SESSION).encode()) == SESSION


def test_a_token_with_any_character_changed_is_none() -> None:
    token = TOKENS.sign(SESSION)
    for place in range(len(token)):
        for letter in "Aa0_":
            changed = token[:place] + letter + token[place + 1 :]
            assert changed == token or TOKENS.read(changed.encode()) is None
    assert Tokens(b"another").read(token.encode()) is None
    for odd in (b"", b"=", b"\xff" * 50, token.encode() + b"=", token.encode() + b"A"):
        assert TOKENS.read(odd) is None


def test_a_session_holds_until_it_expires_ends_or_its_member_is_erased() -> None:
    revocations, clock = Revocations(), [1_000.0]
    authenticator = Authenticator(TOKENS, revocations, lambda: clock[0])
    header = b"Bearer " + TOKENS.sign(SESSION).encode()
    assert authenticator.authenticate(header) == SESSION
    revocations.end_sessions([(SESSION.session_id, SESSION.expires_at)])
    with pytest.raises(Problem) as ended:
        authenticator.authenticate(header)
    assert refused(ended) == (401, "unauthenticated")
    revocations.forget_expired(SESSION.expires_at + 1)
    assert authenticator.authenticate(header) == SESSION
    revocations.erase_members([SESSION.member_id])
    with pytest.raises(Problem):
        authenticator.authenticate(header)
    clock[0] = 2_000_000_000.0
    with pytest.raises(Problem):
        Authenticator(TOKENS, Revocations(), lambda: clock[0]).authenticate(header)


def test_without_a_header_nobody_is_identified_and_a_bad_one_is_refused() -> None:
    authenticator = Authenticator(TOKENS, Revocations(), lambda: 0.0)
    assert authenticator.identify(None) is None
    with pytest.raises(Problem):
        authenticator.identify(b"Bearer x")


def test_a_cursor_is_taken_back_by_the_list_that_handed_it_out_and_no_other() -> None:
    cursor = CURSORS.seal("followers a", b"payload")
    assert CURSORS.open("followers a", cursor) == b"payload"
    changed = "A" + cursor[1:] if cursor[0] != "A" else "B" + cursor[1:]
    for listing, text in [
        ("followers b", cursor),
        ("followers a", changed),
        ("followers a", ""),
        ("followers a", cursor + "="),
        ("followers a", "é"),
        ("followers a", "x" * 10_000),
    ]:
        with pytest.raises(Problem) as caught:
            CURSORS.open(listing, text)
        assert refused(caught) == (422, "invalid-request")


@pytest.mark.parametrize(("text", "limit"), [(None, LIMIT_DEFAULT), ("1", 1), ("100", 100)])
def test_a_list_is_as_long_as_asked_for_or_of_the_default_length(
    text: str | None, limit: int
) -> None:
    assert limit_of({} if text is None else {"limit": text}) == limit


@pytest.mark.parametrize("text", ["0", "101", "-1", "", "x", "1.5", "٣", "9" * 5000])
def test_a_limit_outside_of_its_range_is_refused(text: str) -> None:
    with pytest.raises(Problem) as caught:
        limit_of({"limit": text})
    assert refused(caught) == (422, "invalid-request")


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = [0.0]
    limits = RateLimits({"posts": Limit(per_minute=60, burst=2)}, lambda: clock[0])
    limits.take("posts", "ada")
    limits.take("posts", "ada")
    with pytest.raises(Problem) as caught:
        limits.take("posts", "ada")
    assert refused(caught) == (429, "too-many-requests")
    assert caught.value.headers["Retry-After"] == "1"
    limits.take("posts", "bob")
    limits.take("likes", "ada")
    clock[0] = 1.0
    limits.take("posts", "ada")
    with pytest.raises(Problem):
        limits.take("posts", "ada")


def test_failures_count_from_their_beginning_and_a_success_clears_them() -> None:
    clock = [0.0]
    failures = Failures(Limit(per_minute=1, burst=3), lambda: clock[0])
    for _ in range(3):
        failures.begin("ada", "here")
    with pytest.raises(Problem):
        failures.begin("ada", "here")
    failures.begin("ada", "elsewhere")
    clock[0] = 60.0
    failures.begin("ada", "here")
    failures.clear("ada", "here")
    for _ in range(3):
        failures.begin("ada", "here")


async def test_waiting_for_a_position_ends_when_it_is_applied_or_time_is_up() -> None:
    applied = Applied(5)
    assert await applied.wait(5)
    waiting = [asyncio.create_task(applied.wait(place)) for place in (8, 6, 7)]
    await asyncio.sleep(0)
    applied.advance(7)
    applied.advance(3)
    assert await waiting[1]
    assert await waiting[2]
    assert not waiting[0].done()
    applied.advance(8)
    assert await waiting[0]
    assert not await applied.wait(9, seconds=0.01)
    with pytest.raises(Problem) as caught:
        await applied.require(9, seconds=0.01)
    assert refused(caught) == (503, "unavailable")
    assert "Retry-After" in caught.value.headers


@pytest.mark.parametrize("value", [b"-1", b"x", b"", b"9" * 30, b"1.0"])
def test_a_position_that_was_not_handed_out_is_refused(value: bytes) -> None:
    assert required_position([]) == 0
    assert required_position([(b"log-position", b"12")]) == 12
    with pytest.raises(Problem) as caught:
        required_position([(b"log-position", value)])
    assert refused(caught) == (422, "invalid-request")


class Inner(Struct, forbid_unknown_fields=True):
    number: int
    texts: list[str] = []


class Outer(Struct, rename="camel"):
    inner_ones: list[Inner]
    by_name: dict[str, int] = {}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"innerOnes":[{"number":1},{"number":"x"}]}', "/innerOnes/1/number"),
        (b'{"innerOnes":[{"number":1,"texts":["a",2]}]}', "/innerOnes/0/texts/1"),
        (b'{"innerOnes":[{}]}', "/innerOnes/0/number"),
        (b'{"innerOnes":[{"number":1,"a/b":2}]}', "/innerOnes/0/a~1b"),
        (b'{"innerOnes":[],"byName":{"a":1,"b":"x"}}', "/byName"),
        (b"{}", "/innerOnes"),
        (b"[]", ""),
        (b'{"innerOnes":[],"x":["a","\\ud800"]}', "/x/1"),
    ],
)
def test_a_pointer_names_the_value_at_fault(body: bytes, pointer: str) -> None:
    try:
        msgspec.json.decode(body, type=Outer)
    except msgspec.DecodeError as error:
        problem = undecodable(body, error)
    assert problem.status == 422
    assert [error.pointer for error in problem.errors] == [pointer]


async def hello(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def serving(app: ASGIApp = hello) -> AsyncIterator[int]:
    ready = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(server.serve(app, "127.0.0.1", 0, ready.set_result))
    yield await ready
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\n"],
    ids=["nothing", "half a line", "half a head"],
)
async def test_a_request_that_does_not_arrive_ends_its_connection(
    monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(server, "ARRIVAL_SECONDS", 0.1)
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.1)
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()


async def test_a_connection_serves_one_request_after_another() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            for piece in (b"GET / HTTP/1.1\r\n", b"host: x\r\n\r\n"):
                writer.write(piece)
                await asyncio.sleep(0.01)
            answer = await asyncio.wait_for(reader.readuntil(b"hello"), 60)
            assert answer.startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_who_is_being_answered_when_a_service_stops_is_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "DRAIN_SECONDS", 0)
    asked = asyncio.Event()

    async def slow(_: Request) -> Response:
        asked.set()
        await asyncio.Event().wait()
        return Response()

    metrics = RequestMetrics(CollectorRegistry())
    log = structlog.get_logger()
    entrance = Entrance([Route("/", slow)], metrics=metrics, log=log, origins=Origins())
    async with serving(entrance) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await asked.wait()
    answer = await asyncio.wait_for(reader.read(), 60)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: " in answer.lower()
    assert b"/problems/unavailable" in answer
    writer.close()


class FakeReads:
    def __init__(self) -> None:
        self.ended = [("a", LATER, 7)]
        self.erased = [1]

    async def ended_sessions(self, after: int) -> list[tuple[str, int, int]]:
        return [one for one in self.ended if one[2] > after]

    async def erased_members(self) -> list[int]:
        return self.erased


class FakeChanges:
    """Tells of something when `told` is set; loses its connection once, before the first."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Told | None] = asyncio.Queue()
        self.lost = 1

    async def follow(self) -> AsyncIterator[Told | None]:
        if self.lost:
            self.lost -= 1
            raise ReadsUnavailable
        yield None
        while True:
            yield await self.queue.get()


async def test_revocations_follow_what_projections_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.composition.services.revocations.RETRY_SECONDS", 0.0)
    reads, changes, revocations = FakeReads(), FakeChanges(), Revocations()
    task = asyncio.create_task(follow_revocations(reads, changes, revocations))  # type: ignore[arg-type]
    await until(lambda: revocations.covers(Session("a", "x", LATER)))
    assert revocations.covers(Session("x", "0000000000001", LATER))
    reads.ended.append(("b", LATER, 9))
    changes.queue.put_nowait(Told(projection="posts", build=1, positions={0: 9}))
    await until(changes.queue.empty)
    assert not revocations.covers(Session("b", "x", LATER))
    changes.queue.put_nowait(Told(projection="sessions", build=1, positions={0: 9}))
    await until(lambda: revocations.covers(Session("b", "x", LATER)))
    task.cancel()
