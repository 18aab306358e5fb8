"""Why a session command may be refused."""

from dataclasses import dataclass

from domain.shared.rejection import Conflict, NotFound


@dataclass(eq=False)
class SessionIdTaken(Conflict):
    """Two ids were made alike; its maker tries again with another."""

    title = "The session id is in use"
    session_id: str


@dataclass(eq=False)
class SessionUnknown(NotFound):
    title = "There is no such session"
    session_id: str
