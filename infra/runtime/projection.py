"""What a read model is: a name, the events it looks at, its tables, and a pure fold."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import msgspec

from domain.social.member.events import MemberErased
from infra.codec import SOCIAL_PARTITIONS, open_event, person_of
from infra.ports import Keyring, Recorded
from infra.tables import AnyTable, Change

__all__ = ["Projection"]


async def nothing_to_prepare(_events: Sequence[Recorded]) -> None: ...


@dataclass(frozen=True)
class Projection:
    """One read model, folded event by event.

    `fold` is pure: it sees one event and its position and answers what that changes. Events of one
    ordering key come in order, others in any order. Raise `version` when the fold or the tables
    change: the tables are then built anew from the first event, beside those being served.

    `opens`: the fold reads personal texts, which the log holds sealed. Such a projection folds
    only after `with_texts`, and a text whose key is gone folds as erased. `prepare` is awaited
    with events before they are folded.
    """

    name: str
    version: int
    handles: frozenset[type]
    tables: tuple[AnyTable, ...]
    fold: Callable[[Recorded], Sequence[Change]]
    partitions: range = SOCIAL_PARTITIONS
    opens: bool = False
    prepare: Callable[[Sequence[Recorded]], Awaitable[None]] = nothing_to_prepare

    def folds(self, event: Any) -> bool:
        return type(event) in self.handles

    def with_texts(self, keyring: Keyring) -> "Projection":
        """The same projection, able to fold: its events are opened with these keys if it `opens`.

        Keys are fetched in `prepare`, and those of erased members forgotten there.
        """
        if not self.opens:
            return self
        change = self.fold

        @wraps(change)
        def fold(recorded: Recorded) -> Sequence[Change]:
            event = open_event(recorded.event, keyring)
            return change(msgspec.structs.replace(recorded, event=event))

        async def prepare(events: Sequence[Recorded]) -> None:
            handled = [recorded.event for recorded in events if self.folds(recorded.event)]
            people = {person for event in handled if (person := person_of(event)) is not None}
            await keyring.fetch(people)
            for event in handled:
                if isinstance(event, MemberErased):
                    keyring.forget(event.member_id)

        return replace(self, fold=fold, prepare=prepare)
