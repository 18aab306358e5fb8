"""An account: registered once, changed often, perhaps erased; and the name that only it goes by.

The name is a stream of its own, so that two members who want it meet there.
"""

from datetime import datetime
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.shared.decider import Decider
from domain.shared.personal import Personal
from domain.social.member import commands, events
from domain.social.member.commands import MemberCommand, UsernameCommand
from domain.social.member.events import MemberEvent, UsernameEvent
from domain.social.member.rejections import MemberIdTaken, MemberUnknown, UsernameTaken
from domain.social.member.values import (
    check_avatar_url,
    check_bio,
    check_display_name,
    check_email,
    check_username,
)


class Member(Struct, frozen=True):
    """`username_key` is empty until the member has registered."""

    username_key: str = ""
    erased: bool = False

    @property
    def exists(self) -> bool:
        return bool(self.username_key) and not self.erased


class Username(Struct, frozen=True):
    """`member_id` is who goes by this name; empty where nobody does."""

    member_id: str = ""


def require_member(member_id: str, member: Member) -> None:
    """Raises `MemberUnknown` where there is none, or none any more."""
    if not member.exists:
        raise MemberUnknown(member_id)


def decide(command: MemberCommand, member: Member, now: datetime) -> list[MemberEvent]:
    match command:
        case commands.RegisterMember():
            return register(command, member, now)
        case commands.ChangeProfile():
            require_member(command.member_id, member)
            return change_profile(command)
        case commands.EraseMember():
            return erase(command, member)
        case _:
            assert_never(command)


def register(command: commands.RegisterMember, member: Member, now: datetime) -> list[MemberEvent]:
    check_username(command.username)
    check_display_name(command.display_name)
    check_bio(command.bio)
    check_email(command.email)
    if member.username_key:
        raise MemberIdTaken(command.member_id)
    return [
        events.MemberRegistered(
            member_id=command.member_id,
            username_key=command.username_key,
            username=Personal(command.username),
            display_name=Personal(command.display_name),
            bio=Personal(command.bio),
            email=Personal(command.email),
            created_at=now,
        )
    ]


def change_profile(command: commands.ChangeProfile) -> list[MemberEvent]:
    if command.display_name is not None:
        check_display_name(command.display_name)
    if command.bio is not None:
        check_bio(command.bio)
    if command.avatar_url is not None:
        check_avatar_url(command.avatar_url)
    changed = {
        "display_name": command.display_name,
        "bio": command.bio,
        "avatar_url": command.avatar_url,
    }
    texts = {name: Personal(text) for name, text in changed.items() if text is not None}
    return [events.ProfileChanged(member_id=command.member_id, **texts)] if texts else []


def erase(command: commands.EraseMember, member: Member) -> list[MemberEvent]:
    if member.erased:
        return []
    require_member(command.member_id, member)
    return [events.MemberErased(member_id=command.member_id)]


def evolve(member: Member, event: MemberEvent) -> Member:
    match event:
        case events.MemberRegistered():
            return Member(username_key=event.username_key)
        case events.ProfileChanged():
            return member
        case events.MemberErased():
            return replace(member, erased=True)
        case _:
            assert_never(event)


def decide_username(
    command: UsernameCommand, username: Username, _now: datetime
) -> list[UsernameEvent]:
    match command:
        case commands.ClaimUsername():
            return claim(command, username)
        case commands.ReleaseUsername():
            return release(command, username)
        case _:
            assert_never(command)


def claim(command: commands.ClaimUsername, username: Username) -> list[UsernameEvent]:
    if username.member_id == command.member_id:
        return []
    if username.member_id:
        raise UsernameTaken
    return [events.UsernameClaimed(username_key=command.username_key, member_id=command.member_id)]


def release(command: commands.ReleaseUsername, username: Username) -> list[UsernameEvent]:
    if username.member_id != command.member_id:
        return []  # Released before, and perhaps claimed by somebody else since.
    return [events.UsernameReleased(username_key=command.username_key, member_id=command.member_id)]


def evolve_username(_username: Username, event: UsernameEvent) -> Username:
    match event:
        case events.UsernameClaimed():
            return Username(event.member_id)
        case events.UsernameReleased():
            return Username()
        case _:
            assert_never(event)


def member_stream(member_id: str) -> str:
    return f"member:{member_id}"


def username_stream(username_key: str) -> str:
    return f"username:{username_key}"


MEMBER = Decider(
    prefix="member",
    stream=lambda command: member_stream(command.member_id),
    initial=Member(),
    decide=decide,
    evolve=evolve,
)

USERNAME = Decider(
    prefix="username",
    stream=lambda command: username_stream(command.username_key),
    initial=Username(),
    decide=decide_username,
    evolve=evolve_username,
)
