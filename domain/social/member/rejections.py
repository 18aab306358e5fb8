"""Why a member command may be refused."""

from dataclasses import dataclass

from domain.shared.rejection import Conflict, NotFound


@dataclass(eq=False)
class UsernameTaken(Conflict):
    title = "The username is taken"


@dataclass(eq=False)
class MemberIdTaken(Conflict):
    """Two ids were made alike; its maker tries again with another."""

    title = "The member id is in use"
    member_id: str


@dataclass(eq=False)
class MemberUnknown(NotFound):
    title = "There is no such member"
    member_id: str
