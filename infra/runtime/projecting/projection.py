"""What a read model is: a name, the events it looks at, its tables, and a pure fold."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from domain.shared.personal import Personal
from domain.social.member.events import MemberErased
from infra.formats.codec import people_of
from infra.ports.frames import SOCIAL_PARTITIONS
from infra.ports.log import Recorded
from infra.ports.secrets import Keyring
from infra.ports.tables import AnyTable, Change

__all__ = ["Projection", "TextOf", "TextsSealed"]

Fold = Callable[[Recorded], Sequence[Change]]
TextOf = Callable[[str, Personal[str]], str | None]
"""What a personal text of a person says; None once the person's key is gone."""


class TextsSealed(Exception):
    """The projection reads personal texts, and has not been given the keys."""


async def nothing_to_prepare(_events: Sequence[Recorded]) -> None: ...


def without_keys(recorded: Recorded) -> Sequence[Change]:
    raise TextsSealed(recorded.stream)


@dataclass(frozen=True)
class Projection:
    """One read model, folded event by event.

    `fold` is pure: it sees one event and its position and answers what that changes. Events of one
    ordering key come in order, others in any order. Raise `version` when the fold or the tables
    change: the tables are then built anew from the first event, beside those being served.

    A projection that reads personal texts, which the log holds sealed, has `fold_texts` instead,
    and folds only after `with_texts`. `prepare` is awaited with events before they are folded.
    """

    name: str
    version: int
    handles: frozenset[type]
    tables: tuple[AnyTable, ...]
    fold: Fold = without_keys
    partitions: range = SOCIAL_PARTITIONS
    fold_texts: Callable[[TextOf, Recorded], Sequence[Change]] | None = None
    prepare: Callable[[Sequence[Recorded]], Awaitable[None]] = nothing_to_prepare

    def folds(self, event: Any) -> bool:
        return type(event) in self.handles

    def with_texts(self, keyring: Keyring) -> "Projection":
        """The same projection, able to fold: it reads texts with these keys, if it reads any.

        Keys are fetched in `prepare`, and those of erased members forgotten there.
        """
        if self.fold_texts is None:
            return self

        def text_of(person_id: str, text: Personal[str]) -> str | None:
            return text.value if text.sealed is None else keyring.open(person_id, text.sealed)

        async def prepare(events: Sequence[Recorded]) -> None:
            handled = [recorded.event for recorded in events if self.folds(recorded.event)]
            await keyring.fetch(people_of(handled))
            for event in handled:
                if isinstance(event, MemberErased):
                    keyring.forget(event.member_id)

        return replace(self, fold=partial(self.fold_texts, text_of), prepare=prepare)
