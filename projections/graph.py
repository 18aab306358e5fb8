"""Who follows, blocks and mutes whom, at every position, and how many follow and are followed."""

from collections.abc import Sequence
from typing import assert_never, get_args

from domain.shared.identifiers import known_id_number
from domain.social.relation import events
from infra.ports.log import Recorded
from infra.ports.tables import Add, Change, Close, Column, CountTable, Insert, RangeTable
from infra.runtime.projecting.projection import Projection

Handled = events.RelationEvent

FOLLOWS = RangeTable(
    name="follows",
    columns=(Column("follower_id", "bigint"), Column("followee_id", "bigint")),
    primary_key=("follower_id", "followee_id", "since"),
    key=("follower_id", "followee_id"),
    indexes=("(followee_id, since DESC)", "(follower_id, since DESC)"),
    touches=(("relations", "follower_id"),),
)

HIDES = RangeTable(
    name="hides",
    columns=(
        Column("viewer_id", "bigint"),
        Column("target_id", "bigint"),
        Column("kind", "text"),
    ),
    primary_key=("viewer_id", "target_id", "kind", "since"),
    key=("viewer_id", "target_id", "kind"),
    indexes=("(target_id) WHERE kind = 'block'",),
    touches=(("relations", "viewer_id"), ("relations", "target_id")),
)

MEMBER_COUNTS = CountTable(
    name="member_counts",
    key="member_id",
    counts=("followers", "following"),
    touches=(("members", "member_id"),),
)

FOLLOWER_MORE, FOLLOWER_LESS = (1, 0), (-1, 0)
FOLLOWEE_MORE, FOLLOWEE_LESS = (0, 1), (0, -1)


def fold(recorded: Recorded) -> Sequence[Change]:
    event: Handled = recorded.event  # type: ignore[assignment]
    match event:
        case events.Followed():
            follower, followee = (
                known_id_number(event.follower_id),
                known_id_number(event.followee_id),
            )
            return (
                Insert(FOLLOWS, (follower, followee)),
                Add(MEMBER_COUNTS, followee, FOLLOWER_MORE),
                Add(MEMBER_COUNTS, follower, FOLLOWEE_MORE),
            )
        case events.Unfollowed():
            follower, followee = (
                known_id_number(event.follower_id),
                known_id_number(event.followee_id),
            )
            return (
                Close(FOLLOWS, (follower, followee)),
                Add(MEMBER_COUNTS, followee, FOLLOWER_LESS),
                Add(MEMBER_COUNTS, follower, FOLLOWEE_LESS),
            )
        case events.Blocked():
            return (Insert(HIDES, hide(event.blocker_id, event.blocked_id, "block")),)
        case events.Unblocked():
            return (Close(HIDES, hide(event.blocker_id, event.blocked_id, "block")),)
        case events.Muted():
            return (Insert(HIDES, hide(event.muter_id, event.muted_id, "mute")),)
        case events.Unmuted():
            return (Close(HIDES, hide(event.muter_id, event.muted_id, "mute")),)
        case _:
            assert_never(event)


def hide(viewer_id: str, target_id: str, kind: str) -> tuple[int, int, str]:
    return known_id_number(viewer_id), known_id_number(target_id), kind


PROJECTION = Projection(
    name="graph",
    version=1,
    handles=frozenset(get_args(Handled)),
    tables=(FOLLOWS, HIDES, MEMBER_COUNTS),
    fold=fold,
)
