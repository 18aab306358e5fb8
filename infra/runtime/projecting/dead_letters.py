"""What operators do with events that could not be folded: look, try again, give up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace
from structlog.stdlib import get_logger

from infra.formats.codec import Line, decode_lines
from infra.ports.tables import DeadLetter, TableStore, TableTransaction
from infra.runtime.projecting.project import attempt, described
from infra.runtime.projecting.projection import Projection

log = get_logger(__name__)


class NoSuchLetter(Exception):
    """There is no letter of this number."""


class NotSetAside(Exception):
    """The letter was retried or discarded before."""


def require_set_aside(letter: DeadLetter) -> None:
    """Raises `NotSetAside`."""
    if letter.status not in ("parked", "waiting"):
        raise NotSetAside(f"letter {letter.id} is {letter.status}")


@dataclass(frozen=True)
class Outcome:
    """What became of a key: how many of its letters were applied, and how many are still aside."""

    key: str
    applied: int
    remaining: int
    error: str = ""


class DeadLetters:
    """The letters of the projections of one store."""

    def __init__(self, projections: Sequence[Projection], store: TableStore) -> None:
        self._projections: Mapping[str, Projection] = {p.name: p for p in projections}
        self._store = store

    async def list(self) -> Sequence[DeadLetter]:
        """All letters, oldest first. Raises `StoreUnavailable`, as all methods do."""
        return await self._store.dead_letters()

    async def show(self, letter_id: int) -> DeadLetter:
        """Raises `NoSuchLetter`."""
        letter = await self._store.dead_letter(letter_id)
        if letter is None:
            raise NoSuchLetter(str(letter_id))
        return letter

    async def retry(self, letter_id: int) -> Outcome:
        """Apply all letters of this one's key, in order, until one fails again.

        Raises `NoSuchLetter` and `NotSetAside`.
        """
        letter = await self._set_aside(letter_id)
        async with self._store.transaction([letter.projection], [letter.partition]) as transaction:
            return await self._release(transaction, letter)

    async def discard(self, letter_id: int, why: str) -> Outcome:
        """Give one event up for good, and apply those of its key that waited.

        Raises `NoSuchLetter` and `NotSetAside`.
        """
        letter = await self._set_aside(letter_id)
        async with self._store.transaction([letter.projection], [letter.partition]) as transaction:
            await transaction.settle(replace(letter, status="discarded", why=why))
            return await self._release(transaction, letter)

    async def _set_aside(self, letter_id: int) -> DeadLetter:
        letter = await self.show(letter_id)
        require_set_aside(letter)
        return letter

    async def _release(self, transaction: TableTransaction, chosen: DeadLetter) -> Outcome:
        projection = self._projections[chosen.projection]
        letters = await transaction.letters(chosen.projection, chosen.key)
        for done, letter in enumerate(letters):
            error = await self._apply(transaction, projection, letter)
            if error is not None:
                failed = replace(
                    letter, status="parked", error=described(error), attempts=letter.attempts + 1
                )
                await transaction.settle(failed)
                return Outcome(chosen.key, done, len(letters) - done, failed.error)
            await transaction.settle(
                replace(letter, status="retried", attempts=letter.attempts + 1)
            )
        return Outcome(chosen.key, len(letters), 0)

    async def _apply(
        self, transaction: TableTransaction, projection: Projection, letter: DeadLetter
    ) -> Exception | None:
        line = Line(letter.position, letter.stream, letter.version, letter.state)
        events, unreadable = decode_lines((line,))
        if unreadable:
            return ValueError(unreadable[0].error)
        if not projection.folds(events[0].event):
            return None
        await projection.prepare(events)
        return await attempt(projection, events, transaction)
