"""Log in and out."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct
from starlette.routing import Route

from command_api.endpoint import Asked, Desk, Endpoint, Plan
from command_api.new_ids import new_id
from command_api.texts import AnyPassword, AnyUsername
from command_api.users import Accounts
from domain.social.member.decider import username_stream
from domain.social.session.commands import EndSession, StartSession
from infra.formats.codec import username_key
from infra.http.authentication import Session
from infra.http.openapi import Operation
from infra.http.problems import unauthenticated
from infra.ports.log import Recorded

TAG = "Sessions"


class LogIn(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    username: AnyUsername
    password: AnyPassword


class StartedSession(Struct, frozen=True, rename="camel"):
    """What is stored of a log-in: no token, since it is signed again of the same."""

    session_id: str
    user_id: str
    expires_at: datetime


class LoggedIn(Struct, frozen=True, rename="camel"):
    token: str
    user_id: str
    expires_at: datetime


def routes(desk: Desk, accounts: Accounts, lifetime: timedelta) -> list[Route]:
    return [logging_in(desk, accounts, lifetime).route(), logging_out(desk).route()]


def logging_in(desk: Desk, accounts: Accounts, lifetime: timedelta) -> Endpoint:
    async def log_in(asked: Asked[LogIn]) -> Plan:
        member_id = await member_with(accounts, desk, asked)
        now = accounts.clock()
        session_id = new_id(accounts.clock)
        # Tokens carry whole seconds, so the session ends at one.
        expires_at = datetime.fromtimestamp(int((now + lifetime).timestamp()), UTC)
        started = StartedSession(session_id, member_id, expires_at)
        command = StartSession(session_id=session_id, member_id=member_id, expires_at=expires_at)

        def facts(_recorded: Sequence[Recorded]) -> StartedSession:
            return started

        return Plan(facts, commands=(command,))

    def present(facts: bytes, _body: LogIn) -> bytes:
        started = msgspec.json.decode(facts, type=StartedSession)
        session = Session(started.session_id, started.user_id, int(started.expires_at.timestamp()))
        token = desk.authenticator.tokens.sign(session)
        return msgspec.json.encode(LoggedIn(token, started.user_id, started.expires_at))

    operation = Operation(
        summary="Log in",
        description="Too many wrong passwords for one name from one address: 429.",
        tag=TAG,
        body=LogIn,
        body_example={"username": "ada", "password": "correct horse battery"},
        answers={201: LoggedIn},
        refusals=(401,),
        login="none",
    )
    return Endpoint(desk, "POST", "/api/sessions", log_in, operation=operation, present=present)


async def member_with(accounts: Accounts, desk: Desk, asked: Asked[LogIn]) -> str:
    """The member who goes by this name and password. Raises a 401 problem.

    The same is done, and takes as long, where nobody goes by the name.
    """
    username, password = asked.body.username, asked.body.password
    accounts.failures.begin(username, asked.address)
    key = username_key(accounts.name_secret, username)
    member_id: str = (await desk.executor.state(username_stream(key), fresh=True)).value.member_id
    password_hash = await accounts.credentials.get(member_id)
    if not await accounts.passwords.verify(password_hash, password):
        raise unauthenticated("There is no member with this name and password.")
    accounts.failures.clear(username, asked.address)
    if password_hash is not None and accounts.passwords.outdated(password_hash):
        await accounts.credentials.put([member_id], await accounts.passwords.hash(password))
    return member_id


def logging_out(desk: Desk) -> Endpoint:
    async def log_out(asked: Asked[None]) -> Plan:
        session = asked.session
        assert session is not None

        async def refuse_it() -> None:
            revocations = desk.authenticator.revocations
            revocations.end_sessions([(session.session_id, session.expires_at)])

        command = EndSession(session_id=session.session_id)
        return Plan(lambda _: None, commands=(command,), then=refuse_it)

    operation = Operation(summary="Log out", tag=TAG, answers={204: None})
    return Endpoint(desk, "DELETE", "/api/sessions/current", log_out, operation=operation)
