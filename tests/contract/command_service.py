"""The command service as production builds it, on adapters in memory, and clients of it."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from command_api.market import Market
from infra.adapters.log.memory_event_log import MemoryEventLog
from infra.adapters.secrets.memory_keyring import MemoryKeyring
from infra.composition.services.command_api import Resources, Secrets, build
from infra.composition.services.limits import LIMITS
from infra.http.authentication import Revocations
from infra.http.rate_limits import Limit
from infra.ports.log import EventLog

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECRETS = Secrets(tokens=b"t" * 32, names=b"n" * 32, answers=b"a" * 32)
PASSWORD = "correct horse"


class MemoryCredentials:
    def __init__(self) -> None:
        self.hashes: dict[str, str] = {}

    async def put(self, member_ids: Sequence[str], password_hash: str) -> None:
        self.hashes.update(dict.fromkeys(member_ids, password_hash))

    async def get(self, member_id: str) -> str | None:
        return self.hashes.get(member_id)


class PlainPasswords:
    """Hashes nothing, so that tests do not wait; `today` is the form of today's hashes."""

    def __init__(self) -> None:
        self.today = "1:"
        self.verified = 0

    async def hash(self, password: str) -> str:
        return self.today + password

    async def verify(self, password_hash: str | None, password: str) -> bool:
        self.verified += 1
        return password_hash is not None and password_hash.partition(":")[2] == password

    def outdated(self, password_hash: str) -> bool:
        return not password_hash.startswith(self.today)


@dataclass
class Service:
    log: EventLog = field(default_factory=MemoryEventLog)
    keyring: MemoryKeyring = field(default_factory=MemoryKeyring)
    credentials: MemoryCredentials = field(default_factory=MemoryCredentials)
    passwords: PlainPasswords = field(default_factory=PlainPasswords)
    revocations: Revocations = field(default_factory=Revocations)
    limits: Mapping[str, Limit] | None = field(default_factory=lambda: LIMITS)
    now: datetime = NOON
    names: Any = field(default_factory=itertools.count)
    market: Market | None = None

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin a process anew: what it had in memory is gone, the log and the vault are not."""
        self.revocations = Revocations()
        self.app = build(
            Resources(
                log=self.log,
                keyring=self.keyring,
                credentials=self.credentials,
                passwords=self.passwords,
                secrets=SECRETS,
                revocations=self.revocations,
                clock=lambda: self.now,
                market=self.market,
            ),
            limits=self.limits,
            monotonic=self.seconds,
        )
        transport = httpx.ASGITransport(self.app, client=("192.0.2.1", 1))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://plaza.test")

    def seconds(self) -> float:
        return self.now.timestamp()

    def pass_time(self, **time: float) -> None:
        self.now += timedelta(**time)

    async def events(self) -> list[str]:
        """The types of all recorded events, in order."""
        return [type(one.event).__name__ for one in await self.log.read(0, 1000)]

    async def sign_up(self, username: str | None = None) -> "Member":
        name = username or f"member_{next(self.names)}"
        body = {"username": name, "password": PASSWORD, "displayName": name.title()}
        answer = await self.client.post("/api/users", json=body)
        assert answer.status_code == 201, answer.text
        member = Member(self, name, answer.json()["userId"])
        await member.log_in()
        return member


@dataclass
class Member:
    service: Service
    username: str
    id: str
    token: str = ""

    async def log_in(self) -> None:
        body = {"username": self.username, "password": PASSWORD}
        answer = await self.service.client.post("/api/sessions", json=body)
        assert answer.status_code == 201, answer.text
        self.token = answer.json()["token"]

    async def send(self, method: str, path: str, key: str = "", **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        if key:
            headers["Idempotency-Key"] = key
        return await self.service.client.request(method, path, headers=headers, **more)

    async def post(self, content: str = "Hello", **more: Any) -> str:
        """Publish a post; answers its id."""
        answer = await self.send("POST", "/api/posts", json={"content": content, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["postId"])


def assert_problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """The answer is a problem document of this status and type; answers its members."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["status"], problem["type"]) == (
        status,
        status,
        f"/problems/{kind}",
    )
    assert problem["title"]
    assert problem["detail"]
    return problem


def pointers(answer: httpx.Response) -> list[str]:
    return [error.get("pointer", "") for error in answer.json()["errors"]]
