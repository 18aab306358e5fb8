"""What a read model is: a name, the events it looks at, its tables, and a pure fold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from infra.codec import SOCIAL_PARTITIONS
from infra.ports import Recorded
from infra.tables import AnyTable, Change

__all__ = ["Projection"]


@dataclass(frozen=True)
class Projection:
    """One read model, folded event by event.

    `fold` is pure: it sees one event and its position and answers what that changes. Events of one
    ordering key come in order, others in any order. Raise `version` when the fold or the tables
    change: the tables are then built anew from the first event, beside those being served.
    """

    name: str
    version: int
    handles: frozenset[type]
    tables: tuple[AnyTable, ...]
    fold: Callable[[Recorded], Sequence[Change]]
    partitions: range = SOCIAL_PARTITIONS

    def folds(self, event: Any) -> bool:
        return type(event) in self.handles
