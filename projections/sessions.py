"""Sessions that were ended before their time: a token is good unless its session is here."""

from collections.abc import Sequence

from domain.shared.identifiers import known_id_number
from domain.social.session.events import SessionEnded
from infra.ports.log import Recorded
from infra.ports.tables import Change, Column, Insert, Table
from infra.runtime.projecting.projection import Projection

ENDED_SESSIONS = Table(
    name="ended_sessions",
    columns=(
        Column("session_id", "text"),
        Column("member_id", "bigint"),
        Column("expires_at", "timestamptz"),
    ),
    since="position",
    primary_key=("session_id",),
    indexes=("(position)",),
    touches=(("sessions", "session_id"),),
)


def fold(recorded: Recorded) -> Sequence[Change]:
    event: SessionEnded = recorded.event  # type: ignore[assignment]
    row = (event.session_id, known_id_number(event.member_id), event.expires_at)
    return (Insert(ENDED_SESSIONS, row),)


PROJECTION = Projection(
    name="sessions",
    version=1,
    handles=frozenset({SessionEnded}),
    tables=(ENDED_SESSIONS,),
    fold=fold,
)
