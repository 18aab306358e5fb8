"""What can be asked of an account, and of the name it goes by."""

from typing import ClassVar

from domain.shared.message import Command


class RegisterMember(Command, frozen=True, kw_only=True):
    creates: ClassVar[bool] = True
    member_id: str
    username_key: str
    username: str
    display_name: str
    bio: str = ""
    email: str = ""


class ChangeProfile(Command, frozen=True, kw_only=True):
    """A field that is None stays as it is."""

    member_id: str
    display_name: str | None = None
    bio: str | None = None
    avatar_url: str | None = None


class EraseMember(Command, frozen=True, kw_only=True):
    member_id: str


class ClaimUsername(Command, frozen=True, kw_only=True):
    creates: ClassVar[bool] = True
    username_key: str
    member_id: str


class ReleaseUsername(Command, frozen=True, kw_only=True):
    username_key: str
    member_id: str


MemberCommand = RegisterMember | ChangeProfile | EraseMember
UsernameCommand = ClaimUsername | ReleaseUsername


def registration(member: RegisterMember) -> tuple[Command, ...]:
    """What must be executed together, so that no two members go by one name."""
    return (
        ClaimUsername(username_key=member.username_key, member_id=member.member_id),
        member,
    )


def erasure(member_id: str, username_key: str) -> tuple[Command, ...]:
    """What must be executed together, so that an erased member's name is free again."""
    return (
        EraseMember(member_id=member_id),
        ReleaseUsername(username_key=username_key, member_id=member_id),
    )
