"""A log-in, from its start until it is ended or runs out."""

from datetime import UTC, datetime
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.shared.decider import Decider
from domain.social.session import commands, events
from domain.social.session.commands import SessionCommand
from domain.social.session.events import SessionEvent
from domain.social.session.rejections import SessionIdTaken, SessionUnknown


class Session(Struct, frozen=True):
    """`member_id` is empty until the session has started."""

    member_id: str = ""
    expires_at: datetime = datetime.min.replace(tzinfo=UTC)
    ended: bool = False


def decide(command: SessionCommand, session: Session, now: datetime) -> list[SessionEvent]:
    match command:
        case commands.StartSession():
            return start(command, session)
        case commands.EndSession():
            return end(command, session, now)
        case _:
            assert_never(command)


def start(command: commands.StartSession, session: Session) -> list[SessionEvent]:
    if session.member_id:
        raise SessionIdTaken(command.session_id)
    return [
        events.SessionStarted(
            session_id=command.session_id,
            member_id=command.member_id,
            expires_at=command.expires_at,
        )
    ]


def end(command: commands.EndSession, session: Session, now: datetime) -> list[SessionEvent]:
    if not session.member_id:
        raise SessionUnknown(command.session_id)
    if session.ended or session.expires_at <= now:
        return []
    return [
        events.SessionEnded(
            session_id=command.session_id,
            member_id=session.member_id,
            expires_at=session.expires_at,
        )
    ]


def evolve(session: Session, event: SessionEvent) -> Session:
    match event:
        case events.SessionStarted():
            return Session(event.member_id, event.expires_at)
        case events.SessionEnded():
            return replace(session, ended=True)
        case _:
            assert_never(event)


def session_stream(session_id: str) -> str:
    return f"session:{session_id}"


SESSION = Decider(
    prefix="session",
    stream=lambda command: session_stream(command.session_id),
    initial=Session(),
    decide=decide,
    evolve=evolve,
)
