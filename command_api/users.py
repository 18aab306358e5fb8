"""Sign up, change one's profile, and erase one's account."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.routing import Route

from command_api.endpoint import Asked, Desk, Endpoint, Plan
from command_api.new_ids import new_id
from command_api.texts import (
    AnyPassword,
    Bio,
    DisplayName,
    Email,
    HttpsUrlOrEmpty,
    Password,
    Username,
)
from domain.social.member.commands import ChangeProfile, RegisterMember, erasure, registration
from domain.social.member.decider import Member, member_stream, username_stream
from domain.social.member.events import MemberRegistered
from domain.social.member.rejections import MemberUnknown, UsernameTaken
from infra.formats.codec import username_key
from infra.http.openapi import Operation
from infra.http.problems import Problem
from infra.http.rate_limits import Failures
from infra.ports.log import Clock, LogUnavailable, Recorded
from infra.ports.secrets import Credentials, Keyring, Passwords

TAG = "Accounts"


class Registration(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    username: Username
    password: Password
    display_name: DisplayName
    bio: Bio | None = None
    email: Email | None = None


class Registered(Struct, frozen=True, rename="camel"):
    user_id: str
    created_at: datetime


class User(Struct, frozen=True, rename="camel"):
    user_id: str
    username: str
    created_at: datetime


class ProfileChange(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What is left out, or null, stays as it is."""

    display_name: DisplayName | None = None
    bio: Bio | None = None
    avatar_url: HttpsUrlOrEmpty | None = None


class ChangedProfile(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What was changed."""

    user_id: str
    display_name: str | UnsetType = UNSET
    bio: str | UnsetType = UNSET
    avatar_url: str | UnsetType = UNSET


class Erasure(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    password: AnyPassword


class Erased(Struct, frozen=True, rename="camel"):
    user_id: str


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """What accounts need beside the log. `name_secret` keys the hashes of usernames."""

    keyring: Keyring
    credentials: Credentials
    passwords: Passwords
    failures: Failures
    name_secret: bytes
    clock: Clock


def routes(desk: Desk, accounts: Accounts) -> list[Route]:
    return [
        registering(desk, accounts).route(),
        changing_profile(desk).route(),
        erasing(desk, accounts).route(),
    ]


def registering(desk: Desk, accounts: Accounts) -> Endpoint:
    async def register(asked: Asked[Registration]) -> Plan:
        body = asked.body
        key = username_key(accounts.name_secret, body.username)
        # Looked at before the costly hash is made; the append is what proves that the name is free.
        if (await desk.executor.state(username_stream(key))).value.member_id:
            raise UsernameTaken
        member_id = new_id(accounts.clock)
        password_hash = await accounts.passwords.hash(body.password)
        await accounts.keyring.create(member_id)
        await accounts.credentials.put([member_id], password_hash)
        member = RegisterMember(
            member_id=member_id,
            username_key=key,
            username=body.username,
            display_name=body.display_name,
            bio=body.bio or "",
            email=body.email or "",
        )

        def facts(recorded: Sequence[Recorded]) -> Registered:
            event = recorded[-1].event
            assert isinstance(event, MemberRegistered)
            return Registered(member_id, event.created_at)

        async def take_back() -> None:
            await accounts.keyring.destroy(member_id)

        return Plan(facts, commands=registration(member), otherwise=take_back)

    def present(facts: bytes, body: Registration) -> bytes:
        # The name is personal, so it is not stored with the answer: whoever repeats the request
        # has sent it again.
        stored = msgspec.json.decode(facts, type=Registered)
        return msgspec.json.encode(User(stored.user_id, body.username, stored.created_at))

    operation = Operation(
        summary="Sign up",
        tag=TAG,
        body=Registration,
        body_example={
            "username": "ada",
            "password": "correct horse battery",
            "displayName": "Ada Lovelace",
        },
        answers={201: User},
        answer_example={
            "userId": "0d1kq3h8o2c7a",
            "username": "ada",
            "createdAt": "2026-01-02T03:04:05Z",
        },
        login="none",
    )
    return Endpoint(desk, "POST", "/api/users", register, operation=operation, present=present)


def changing_profile(desk: Desk) -> Endpoint:
    async def change(asked: Asked[ProfileChange]) -> Plan:
        body = asked.body
        command = ChangeProfile(
            member_id=asked.member_id,
            display_name=body.display_name,
            bio=body.bio,
            avatar_url=body.avatar_url,
        )
        return Plan(lambda _: ChangedProfile(asked.member_id), commands=(command,))

    def present(facts: bytes, body: ProfileChange) -> bytes:
        # The texts are personal, so only the id is stored with the answer.
        changed = {
            name: text for name, text in msgspec.structs.asdict(body).items() if text is not None
        }
        user_id = msgspec.json.decode(facts, type=ChangedProfile).user_id
        return msgspec.json.encode(ChangedProfile(user_id, **changed))

    operation = Operation(
        summary="Change one's profile",
        tag=TAG,
        body=ProfileChange,
        body_example={"displayName": "Ada", "bio": "Counts.", "avatarUrl": "https://x.test/a.png"},
        answers={200: ChangedProfile},
    )
    path = "/api/users/me"
    return Endpoint(desk, "PATCH", path, change, operation=operation, present=present)


def erasing(desk: Desk, accounts: Accounts) -> Endpoint:
    async def erase(asked: Asked[Erasure]) -> Plan:
        member_id = asked.member_id
        member: Member = (await desk.executor.state(member_stream(member_id))).value
        if not member.exists:
            raise MemberUnknown(member_id)
        accounts.failures.begin(member_id, asked.address)
        password_hash = await accounts.credentials.get(member_id)
        if not await accounts.passwords.verify(password_hash, asked.body.password):
            raise wrong_password()
        accounts.failures.clear(member_id, asked.address)

        async def forget() -> None:
            desk.authenticator.revocations.erase_members([member_id])
            # Where the vault is away just now, the process of erasures destroys the key.
            with contextlib.suppress(LogUnavailable):
                await accounts.keyring.destroy(member_id)

        commands = erasure(member_id, member.username_key)
        return Plan(lambda _: Erased(member_id), commands=commands, then=forget)

    operation = Operation(
        summary="Erase one's account, with everything it wrote",
        description="Its key is destroyed, and so every copy of what it wrote is unreadable.",
        tag=TAG,
        body=Erasure,
        answers={202: Erased},
        refusals=(403, 404),
    )
    return Endpoint(desk, "DELETE", "/api/users/me", erase, operation=operation)


def wrong_password() -> Problem:
    return Problem(403, "wrong-password", "That is not the password of this account")
