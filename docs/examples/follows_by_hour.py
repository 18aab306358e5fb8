"""How many follows began and ended in each hour, from nothing but events.

plaza replay --projection docs/examples/follows_by_hour.py:FOLLOWS --out follows.jsonl
"""

from collections.abc import Sequence

from domain.social.relation.events import Followed, Unfollowed
from infra.ports.log import Recorded
from infra.ports.tables import Add, Change, CountTable
from infra.runtime.projecting.projection import Projection

BY_HOUR = CountTable(name="follows_by_hour", key="hour", counts=("began", "ended"))


def fold(recorded: Recorded) -> Sequence[Change]:
    hour = int(f"{recorded.recorded_at:%Y%m%d%H}")
    began = isinstance(recorded.event, Followed)
    return (Add(BY_HOUR, hour, (1, 0) if began else (0, 1)),)


FOLLOWS = Projection(
    name="follows_by_hour",
    version=1,
    handles=frozenset({Followed, Unfollowed}),
    tables=(BY_HOUR,),
    fold=fold,
)
