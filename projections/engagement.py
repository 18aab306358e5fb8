"""Who likes and who reposted which post, at every position, and how many do."""

from collections.abc import Sequence
from typing import assert_never, get_args

from domain.shared.identifiers import known_id_number
from domain.social.engagement import events
from infra.ports.log import Recorded
from infra.ports.tables import Add, Change, Close, Column, CountTable, Insert, RangeTable
from infra.runtime.projecting.projection import Projection

Handled = events.EngagementEvent


def engagements(name: str) -> RangeTable:
    return RangeTable(
        name=name,
        columns=(Column("post_id", "bigint"), Column("member_id", "bigint")),
        primary_key=("post_id", "member_id", "since"),
        key=("post_id", "member_id"),
        indexes=("(member_id, since DESC)",),
        touches=(("relations", "member_id"),),
    )


LIKES = engagements("likes")
REPOSTS = engagements("reposts")

ENGAGEMENT_COUNTS = CountTable(
    name="engagement_counts",
    key="post_id",
    counts=("likes", "reposts"),
    touches=(("posts", "post_id"),),
)

LIKE_MORE, LIKE_LESS = (1, 0), (-1, 0)
REPOST_MORE, REPOST_LESS = (0, 1), (0, -1)


def fold(recorded: Recorded) -> Sequence[Change]:
    event: Handled = recorded.event  # type: ignore[assignment]
    post_id = known_id_number(event.post_id)
    key = (post_id, known_id_number(event.member_id))
    match event:
        case events.PostLiked():
            return Insert(LIKES, key), Add(ENGAGEMENT_COUNTS, post_id, LIKE_MORE)
        case events.PostUnliked():
            return Close(LIKES, key), Add(ENGAGEMENT_COUNTS, post_id, LIKE_LESS)
        case events.PostReposted():
            return Insert(REPOSTS, key), Add(ENGAGEMENT_COUNTS, post_id, REPOST_MORE)
        case events.RepostRemoved():
            return Close(REPOSTS, key), Add(ENGAGEMENT_COUNTS, post_id, REPOST_LESS)
        case _:
            assert_never(event)


PROJECTION = Projection(
    name="engagement",
    version=1,
    handles=frozenset(get_args(Handled)),
    tables=(LIKES, REPOSTS, ENGAGEMENT_COUNTS),
    fold=fold,
)
