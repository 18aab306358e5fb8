"""What can have happened to an account, and to the name it goes by."""

from datetime import datetime
from typing import ClassVar

from domain.shared.message import Event
from domain.shared.personal import Personal


class MemberRegistered(Event, frozen=True, kw_only=True, tag="member.registered.v1"):
    """`username_key` is the keyed hash under which the name is unique."""

    ordered_by: ClassVar[str] = "member_id"
    about: ClassVar[str] = "member_id"
    member_id: str
    username_key: str
    username: Personal[str]
    display_name: Personal[str]
    bio: Personal[str]
    email: Personal[str]
    created_at: datetime


class ProfileChanged(Event, frozen=True, kw_only=True, tag="member.profile_changed.v1"):
    """A field that is None was not changed."""

    ordered_by: ClassVar[str] = "member_id"
    about: ClassVar[str] = "member_id"
    member_id: str
    display_name: Personal[str] | None = None
    bio: Personal[str] | None = None
    avatar_url: Personal[str] | None = None


class MemberErased(Event, frozen=True, kw_only=True, tag="member.erased.v1"):
    """The account ended and its key is destroyed: nothing it wrote can be read any more."""

    ordered_by: ClassVar[str] = "member_id"
    member_id: str


class UsernameClaimed(Event, frozen=True, kw_only=True, tag="username.claimed.v1"):
    ordered_by: ClassVar[str] = "member_id"
    username_key: str
    member_id: str


class UsernameReleased(Event, frozen=True, kw_only=True, tag="username.released.v1"):
    ordered_by: ClassVar[str] = "member_id"
    username_key: str
    member_id: str


UsernameEvent = UsernameClaimed | UsernameReleased
MemberEvent = MemberRegistered | ProfileChanged | MemberErased
