"""What an operator does with dead letters, assembled."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.adapters.tables.postgres_projections import PostgresProjections
from infra.composition.operations.search_keeper import SearchKeeper
from infra.composition.services import commerce_worker
from infra.composition.services.projection_worker import erasing
from infra.composition.services.tasks import COMMERCE_PROCESSES, SOCIAL_PROCESSES
from infra.composition.settings import Settings
from infra.formats.codec import Line, decode_lines, person_of
from infra.formats.event_shapes import data_of
from infra.ports.tables import DeadLetter
from infra.runtime.event_documents import document
from infra.runtime.projecting.dead_letters import DeadLetters, Outcome, require_set_aside
from infra.runtime.reacting.react import ProcessRunner
from projections import COMMERCE, SOCIAL
from projections.search import SEARCH


@dataclass(frozen=True)
class Opened:
    letters: DeadLetters
    keyring: PostgresKeyring
    settings: Settings

    async def list(self) -> list[dict[str, Any]]:
        return [summary(letter) for letter in await self.letters.list()]

    async def show(self, letter_id: int) -> dict[str, Any]:
        """The letter with the event it holds, where that can be read."""
        letter = await self.letters.show(letter_id)
        line = Line(letter.position, letter.stream, letter.version, letter.state)
        events, _ = decode_lines([line])
        event: dict[str, Any] | None = None
        if events:
            person = person_of(events[0].event)
            await self.keyring.fetch([person] if person else [])
            event = document(events[0], self.keyring)
        return {**summary(letter), "event": event, "trace": letter.trace}

    async def retry(self, letter_id: int) -> dict[str, Any]:
        letter = await self.letters.show(letter_id)
        if letter.projection in SEARCH:
            require_set_aside(letter)
            error = await self._keeper(letter).retry(letter.key)
            return outcome(Outcome(letter.key, not error, bool(error), error))
        if letter.projection not in {*SOCIAL_PROCESSES, *COMMERCE_PROCESSES}:
            return outcome(await self.letters.retry(letter_id))
        require_set_aside(letter)
        async with self._process(letter.projection) as process:
            row = Line(letter.position, letter.stream, letter.version, letter.state)
            error = await process.retry(row)
        return outcome(Outcome(letter.key, not error, bool(error), error))

    async def discard(self, letter_id: int, why: str) -> dict[str, Any]:
        letter = await self.letters.show(letter_id)
        if letter.projection in SEARCH:
            require_set_aside(letter)
            await self._keeper(letter).discard(letter_id, why)
            return outcome(Outcome(letter.key, 0, 0))
        if letter.projection not in {*SOCIAL_PROCESSES, *COMMERCE_PROCESSES}:
            return outcome(await self.letters.discard(letter_id, why))
        require_set_aside(letter)
        async with self._process(letter.projection) as process:
            await process.discard(letter.position, why)
        return outcome(Outcome(letter.key, 0, 0))

    def _keeper(self, letter: DeadLetter) -> SearchKeeper:
        return SearchKeeper(self.settings, SEARCH[letter.projection])

    @contextlib.asynccontextmanager
    async def _process(self, name: str) -> AsyncIterator[ProcessRunner]:
        if name in COMMERCE_PROCESSES:
            opened = commerce_worker.opened(self.settings, [name], resume=False)
            async with opened as (buying, (runner,), _):
                yield runner
                await buying.sagas.rest()
            return
        async with contextlib.AsyncExitStack() as stack:
            log = await PostgresEventLog.open(self.settings.postgres_url)
            stack.push_async_callback(log.close)
            yield await erasing(self.settings, log, stack)


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Opened]:
    async with contextlib.AsyncExitStack() as stack:
        keyring = await PostgresKeyring.connect(settings.postgres_url)
        stack.push_async_callback(keyring.close)
        projections = [projection.with_texts(keyring) for projection in (*SOCIAL, *COMMERCE)]
        store = PostgresProjections(settings.postgres_url, projections)
        stack.push_async_callback(store.close)
        yield Opened(DeadLetters(projections, store), keyring, settings)


def summary(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "projection": letter.projection,
        "key": letter.key,
        "partition": letter.partition,
        "position": letter.position,
        "stream": letter.stream,
        "type": letter.tag or None,
        "error": letter.error,
        "attempts": letter.attempts,
        "status": letter.status,
        "why": letter.why or None,
        "parkedAt": data_of(letter.parked_at),
        "settledAt": data_of(letter.settled_at),
    }


def outcome(found: Outcome) -> dict[str, Any]:
    return {
        "key": found.key,
        "applied": found.applied,
        "remaining": found.remaining,
        "error": data_of(found.error or None),
    }
