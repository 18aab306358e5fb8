"""How every command is taken in: who asks, how often, what exactly, and whether for the first time.

A module of this package says what a request means: which commands, and what to answer. All the
rest is here, once. An `Endpoint` is a plain ASGI application, so that the busiest ones can stand in
front of Starlette and are still the same code.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from domain.shared.identifiers import id_number
from domain.shared.message import Command
from domain.shared.rejection import Rejection
from domain.social.member.decider import member_stream
from domain.social.member.rejections import MemberIdTaken
from domain.social.post.rejections import PostIdTaken
from domain.social.session.decider import session_stream
from domain.social.session.rejections import SessionIdTaken
from infra.http import idempotency
from infra.http.authentication import Authenticator, Session
from infra.http.bodies import read_body, require_members_once
from infra.http.consistency import position_token
from infra.http.correlation import SCOPE_KEY
from infra.http.entrance import HEADERS_KEY
from infra.http.idempotency import ANYBODY, InFlight
from infra.http.openapi import Operation, Parameter
from infra.http.problems import MEDIA_TYPE, not_found, problem_of, unauthenticated, undecodable
from infra.http.rate_limits import RateLimits
from infra.ports.log import EventLog, KeyTaken, Recorded, StoredAnswer, StreamMoved
from infra.runtime.commands.execute import Context, Executor, Prepare

ID_ATTEMPTS_MAX = 3
SESSIONS_MET_MAX = 200_000
STORED_REFUSALS = {403, 404, 409}
JSON = (b"content-type", b"application/json")
PROBLEM_JSON = (b"content-type", MEDIA_TYPE.encode())
NO_PATH: Mapping[str, str] = {}

B = TypeVar("B")

IdText = Annotated[str, Meta(pattern="^[0-9a-v]{13}$", examples=["0d1kq3h8o2c7a"])]

_encode = msgspec.json.Encoder().encode


class Asked(Struct, Generic[B], frozen=True):
    """A request that may be acted on. `session` is None where no log-in is asked for."""

    body: B
    path: Mapping[str, str]
    session: Session | None
    member_id: str
    address: str
    request_id: str

    def id_in_path(self, name: str) -> str:
        """An id from the path. What is not even an id is unknown: a 404 problem."""
        text = self.path[name]
        try:
            id_number(text)
        except ValueError:
            raise not_found(name.removesuffix("Id")) from None
        return text


class Plan(Struct, frozen=True):
    """What a request comes to: commands, known at once or prepared from other streams' states.

    `facts` makes what is answered, and stored under an idempotency key: so nothing personal and
    no secret may be in it. `then` runs once the events are durable, `otherwise` if they never are.
    """

    facts: Callable[[Sequence[Recorded]], Any]
    commands: Sequence[Command] = ()
    prepare: Prepare | None = None
    then: Callable[[], Awaitable[None]] | None = None
    otherwise: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What all endpoints of the service share."""

    executor: Executor
    log: EventLog
    authenticator: Authenticator
    limits: RateLimits
    secret: bytes
    in_flight: InFlight = field(default_factory=InFlight)
    met: set[str] = field(default_factory=set)
    """The sessions that the log has been asked about since this process started."""

    async def session_of(self, authorization: bytes | None) -> Session:
        """The session that a request belongs to. Raises a 401 problem where none holds.

        What projections say of ended sessions comes late, and perhaps not at all before a restart.
        So a session that this process meets for the first time is looked up in the log itself.
        """
        session = self.authenticator.authenticate(authorization)
        if session.session_id not in self.met:
            await self._meet(session)
        return session

    async def _meet(self, session: Session) -> None:
        started, member = await asyncio.gather(
            self.executor.state(session_stream(session.session_id)),
            self.executor.state(member_stream(session.member_id)),
        )
        if started.value.ended or not started.value.member_id or not member.value.exists:
            raise unauthenticated("The session has ended.")
        if len(self.met) >= SESSIONS_MET_MAX:
            self.met.clear()
        self.met.add(session.session_id)


class Answer(Struct, frozen=True):
    status: int
    body: bytes
    position: int


class First(Struct, frozen=True):
    """A request under an idempotency key: whose key, which, and what it was sent with."""

    owner: str
    key: str
    digest: bytes

    def stored(self, status: int, body: bytes) -> StoredAnswer:
        return StoredAnswer(
            member_id=self.owner, key=self.key, body_hash=self.digest, status=status, body=body
        )


Handle = Callable[[Asked[Any]], Awaitable[Plan]]
Present = Callable[[bytes, Any], bytes]
"""Makes the answer's body of the stored facts and the request's body."""


class Endpoint:
    """One command of the HTTP contract, as an ASGI application."""

    def __init__(  # noqa: PLR0913
        self,
        desk: Desk,
        method: str,
        path: str,
        handle: Handle,
        *,
        operation: Operation,
        present: Present | None = None,
    ) -> None:
        """`operation` is completed by what all commands have in common."""
        self.method = method
        self.path = path
        self.status = next(iter(operation.answers))
        self.operation = completed(operation, path)
        self._desk = desk
        self._handle = handle
        self._present = present
        self._name = f"{method} {path}"
        self._login = operation.login == "required"
        self._decode = (
            msgspec.json.Decoder(operation.body).decode if operation.body is not None else None
        )

    def route(self) -> Route:
        return Route(self.path, self, methods=[self.method])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        desk = self._desk
        headers = scope[HEADERS_KEY]
        address = address_of(scope)
        session = None
        member_id = ""
        if self._login:
            session = await desk.session_of(headers.get(b"authorization"))
            member_id = session.member_id
        desk.limits.take(self._name, member_id or address)
        body = None
        raw = b""
        if self._decode is not None:
            raw = await read_body(headers, receive)
            body = self._read(raw)
            require_members_once(raw)
        path = scope.get("path_params") or NO_PATH
        asked: Asked[Any] = Asked(body, path, session, member_id, address, scope[SCOPE_KEY])
        if idempotency.HEADER in headers:
            key = idempotency.key_of(scope["headers"])
            answer = await self._once(asked, key or "", scope["path"], raw)
        else:
            answer = await self._carry_out(asked, None)
        if answer.status >= 400:
            await send_answer(send, answer, PROBLEM_JSON)
            return
        if self._present is not None:
            answer = Answer(answer.status, self._present(answer.body, body), answer.position)
        await send_answer(send, answer, JSON)

    def _read(self, raw: bytes) -> Any:
        assert self._decode is not None
        try:
            return self._decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise undecodable(raw, error) from None

    async def _once(self, asked: Asked[Any], key: str, path: str, raw: bytes) -> Answer:
        """Carry out the request, unless it was before: then its first answer again."""
        owner = asked.member_id or ANYBODY
        digest = idempotency.body_hash(self._desk.secret, self.method, path, raw)
        first = First(owner, key, digest)
        with self._desk.in_flight.hold(owner, key):
            known = await self._recall(first)
            if known is not None:
                return known
            try:
                return await self._remember_refusals(asked, first)
            except KeyTaken:
                # Another process was asked the same at the same time, and was faster.
                known = await self._recall(first)
                assert known is not None
                return known

    async def _recall(self, first: First) -> Answer | None:
        stored = await self._desk.log.answer(first.owner, first.key)
        if stored is None:
            return None
        if stored.body_hash != first.digest:
            raise idempotency.key_reused()
        return Answer(stored.status, stored.body, stored.position)

    async def _remember_refusals(self, asked: Asked[Any], first: First) -> Answer:
        try:
            return await self._carry_out(asked, first)
        except Rejection as rejection:
            problem = problem_of(rejection)
            if problem.status not in STORED_REFUSALS:
                raise
            await self._desk.log.append((), first.stored(problem.status, problem.body()))
            raise

    async def _carry_out(self, asked: Asked[Any], first: First | None) -> Answer:
        attempts = ID_ATTEMPTS_MAX
        while True:
            attempts -= 1
            try:
                return await self._attempt(asked, first)
            except (PostIdTaken, MemberIdTaken, SessionIdTaken):
                # Two ids were made alike. The next attempt makes another one.
                if not attempts:
                    raise

    async def _attempt(self, asked: Asked[Any], first: First | None) -> Answer:
        plan = await self._handle(asked)
        executor = self._desk.executor
        answer = None if first is None else partial(self._answer_to_store, plan, first)
        why = Context(correlation_id=asked.request_id, causation_id=asked.request_id, answer=answer)
        try:
            if plan.prepare is None:
                outcome = await executor.execute(*plan.commands, context=why)
            else:
                outcome = await executor.execute_prepared(plan.prepare, why)
        except (Rejection, KeyTaken, StreamMoved):
            if plan.otherwise is not None:
                await plan.otherwise()
            raise
        if plan.then is not None:
            await plan.then()
        return Answer(self.status, encode_facts(plan.facts(outcome.events)), outcome.position)

    def _answer_to_store(
        self, plan: Plan, first: First, recorded: Sequence[Recorded]
    ) -> StoredAnswer:
        return first.stored(self.status, encode_facts(plan.facts(recorded)))


def encode_facts(facts: Any) -> bytes:
    return b"" if facts is None else _encode(facts)


def address_of(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


async def send_answer(send: Send, answer: Answer, media_type: tuple[bytes, bytes]) -> None:
    status, body = answer.status, answer.body
    headers = []
    if status < 400:
        headers.append((b"log-position", position_token(answer.position).encode()))
    if body:
        headers.append(media_type)
        headers.append((b"content-length", b"%d" % len(body)))
    elif status != 204:
        headers.append((b"content-length", b"0"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


KEY = Parameter(
    "Idempotency-Key",
    Annotated[
        str,
        Meta(min_length=1, max_length=idempotency.KEY_LENGTH_MAX, pattern="^[!-~]([ -~]*[!-~])?$"),
    ],
    "Repeats of the request under one key are answered like the first, and not done again. "
    "A member's keys are one space; before a log-in all callers share one, so choose at random.",
    where="header",
)


def completed(operation: Operation, path: str) -> Operation:
    """The operation with the parameters, headers and refusals that all commands have."""
    names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    in_path = [Parameter(name, IdText, "an id", where="path") for name in names]
    refusals = {409, 422, 429, 503, *operation.refusals}
    if operation.body is not None:
        refusals |= {400, 413}
    if operation.login == "required":
        refusals.add(401)
    if names:
        refusals.add(404)
    return replace(
        operation,
        parameters=(*in_path, *operation.parameters, KEY),
        refusals=tuple(sorted(refusals)),
        headers={"Log-Position": "Send it with queries that must see this", **operation.headers},
    )
