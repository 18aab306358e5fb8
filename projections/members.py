"""Members and their profiles, as they were at every position. Personal texts stay sealed."""

from collections.abc import Sequence
from typing import assert_never, get_args

from domain.shared.identifiers import known_id_number
from domain.shared.personal import Personal
from domain.social.member import events
from infra.ports.log import Recorded
from infra.ports.tables import Blank, Change, Column, Insert, RangeTable, Revise
from infra.runtime.projecting.projection import Projection

Handled = events.MemberRegistered | events.ProfileChanged | events.MemberErased

PERSONAL = ("username_key", "username", "display_name", "bio", "avatar_url")

MEMBERS = RangeTable(
    name="members",
    columns=(
        Column("member_id", "bigint"),
        Column("username_key", "text", nullable=True),
        Column("username", "bytea", nullable=True),
        Column("display_name", "bytea", nullable=True),
        Column("bio", "bytea", nullable=True),
        Column("avatar_url", "bytea", nullable=True),
        Column("is_verified", "boolean"),
        Column("created_at", "timestamptz"),
        Column("erased", "boolean"),
    ),
    primary_key=("member_id", "since"),
    key=("member_id",),
    revisable=True,
    indexes=("(username_key, since DESC)", "(member_id) WHERE erased"),
    touches=(("members", "member_id"),),
)


def fold(recorded: Recorded) -> Sequence[Change]:
    event: Handled = recorded.event  # type: ignore[assignment]
    member_id = known_id_number(event.member_id)
    match event:
        case events.MemberRegistered():
            row = (
                member_id,
                event.username_key,
                event.username.sealed,
                event.display_name.sealed,
                event.bio.sealed,
                None,
                False,
                event.created_at,
                False,
            )
            return (Insert(MEMBERS, row),)
        case events.ProfileChanged():
            given = {
                "display_name": event.display_name,
                "bio": event.bio,
                "avatar_url": event.avatar_url,
            }
            columns = {name: sealed(value) for name, value in given.items() if value is not None}
            return (Revise(MEMBERS, (member_id,), columns),)
        case events.MemberErased():
            nothing = dict.fromkeys(PERSONAL)
            return (
                Revise(MEMBERS, (member_id,), {**nothing, "erased": True}),
                Blank(MEMBERS, (member_id,), PERSONAL),
            )
        case _:
            assert_never(event)


def sealed(value: Personal[str]) -> bytes | None:
    return value.sealed


PROJECTION = Projection(
    name="members",
    version=1,
    handles=frozenset(get_args(Handled)),
    tables=(MEMBERS,),
    fold=fold,
)
