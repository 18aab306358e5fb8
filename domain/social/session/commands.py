"""What can be asked of a session."""

from datetime import datetime
from typing import ClassVar

from domain.shared.message import Command


class StartSession(Command, frozen=True, kw_only=True):
    creates: ClassVar[bool] = True
    session_id: str
    member_id: str
    expires_at: datetime


class EndSession(Command, frozen=True, kw_only=True):
    session_id: str


SessionCommand = StartSession | EndSession
