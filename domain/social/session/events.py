"""What can have happened to a session."""

from datetime import datetime
from typing import ClassVar

from domain.shared.message import Event


class SessionStarted(Event, frozen=True, kw_only=True, tag="session.started.v1"):
    ordered_by: ClassVar[str] = "member_id"
    session_id: str
    member_id: str
    expires_at: datetime


class SessionEnded(Event, frozen=True, kw_only=True, tag="session.ended.v1"):
    ordered_by: ClassVar[str] = "member_id"
    session_id: str
    member_id: str
    expires_at: datetime


SessionEvent = SessionStarted | SessionEnded
