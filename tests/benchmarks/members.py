"""Members of a benchmark: registered by the commands a service would execute, and logged in."""

import asyncio
import secrets
from datetime import timedelta

from domain.deciders import DECIDERS
from domain.shared.identifiers import make_id
from domain.social.member.commands import RegisterMember, registration
from domain.social.session.commands import StartSession
from infra.composition.services.command_api import Resources, utc_now
from infra.formats.codec import username_key
from infra.http.authentication import Session, Tokens
from infra.runtime.commands.execute import Executor

MADE_AT_ONCE = 100


def executor_of(resources: Resources) -> Executor:
    return Executor(resources.log, resources.keyring, DECIDERS, utc_now)


async def logged_in(resources: Resources, count: int) -> list[tuple[str, str]]:
    """Tokens and ids of new members."""
    executor = executor_of(resources)
    made: list[tuple[str, str]] = []
    for first in range(0, count, MADE_AT_ONCE):
        numbers = range(first, min(first + MADE_AT_ONCE, count))
        made += await asyncio.gather(*(log_in(resources, executor, n) for n in numbers))
    return made


async def log_in(resources: Resources, executor: Executor, number: int) -> tuple[str, str]:
    member_id, session_id, name = new_id(number), new_id(number), f"member_{number}"
    await resources.keyring.create(member_id)
    registered = RegisterMember(
        member_id=member_id,
        username_key=username_key(resources.secrets.names, name),
        username=name,
        display_name=name,
    )
    await executor.execute(*registration(registered))
    expires_at = utc_now() + timedelta(days=1)
    await executor.execute(
        StartSession(session_id=session_id, member_id=member_id, expires_at=expires_at)
    )
    session = Session(session_id, member_id, int(expires_at.timestamp()))
    return Tokens(resources.secrets.tokens).sign(session), member_id


def new_id(number: int) -> str:
    return make_id(int(utc_now().timestamp() * 1000) - number, secrets.randbits(22))
