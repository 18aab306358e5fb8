"""Appends commands to the log: what waits together is written together, on one connection.

A command is answered only once its outcome is certain. When the connection is lost after a batch
was sent, nobody knows whether it was committed, and the server may even be about to commit it. Such
commands are sent again: the log takes each (stream, version) once, so either the second writing is
the only one, or it is refused and the log shows whose events stand there.
"""

import asyncio
import contextlib
import select
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import structlog

from domain.shared.message import Event, tag_of
from infra.adapters.connections import bounded, connect
from infra.adapters.tables import binary_arrays
from infra.formats import codec
from infra.ports.log import KeyTaken, LogUnavailable, Recorded, StoredAnswer, StreamMoved

WAITING_MAX = 20_000
"""Commands that may wait; one more is refused."""

BATCH_EVENTS_MAX = 1_000
BATCH_BYTES_MAX = 8 * 1024 * 1024
HALVES_MIN = 32
"""Fewer commands than this are never split in two halves."""

WRITE_SECONDS = 15.0
PATIENCE_SECONDS = 5.0
"""How long a command that was never sent waits for the server to come back."""

DOUBT_PATIENCE_SECONDS = 30.0
"""How long a command that may have been written waits for certainty."""

BACKOFF_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

SESSION = {
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    # The server gives up before we do, so that a slow batch ends with a certain answer.
    "lock_timeout": "8s",
    "statement_timeout": "10s",
}

APPEND = """
    SELECT outcomes, positions
    FROM log.append(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)
"""

NO_ANSWERS: tuple[tuple[bytes, ...], ...] = ((),) * 6

WRITTEN, KEY_TAKEN = "W", "K"
"""Two of the outcomes that `log.append` answers; any other is that the stream has moved."""

VALUES_REFUSED = ("22", "23", "54")
"""Classes of SQLSTATEs that say that a command's values are at fault, and not the server."""

CONNECTION_ENDED = ("08", "57P")
"""Classes that come with the end of the connection, before or after a commit."""

log = structlog.get_logger()


class OutcomeUnknown(LogUnavailable):
    """The log stayed away for so long that nobody can say whether the command was written."""


class Unstorable(Exception):
    """PostgreSQL refuses these very values, and will do so whenever they are tried."""


class Command:
    """One command, encoded on arrival, while the server is busy with those before it.

    Each column holds the elements of the command's events, one after the other.
    """

    __slots__ = (
        "after_streams",
        "after_versions",
        "answer",
        "answer_columns",
        "done",
        "doubtful",
        "events",
        "since",
        "states",
        "streams",
        "topics",
        "versions",
    )

    def __init__(
        self,
        events: Sequence[Recorded],
        answer: StoredAnswer | None,
        done: asyncio.Future[Sequence[int]],
        since: float,
    ) -> None:
        self.events = events
        self.answer = answer
        self.done = done
        self.since = since
        self.doubtful = False
        before = continued(events)
        self.after_streams = [binary_arrays.text(stream) for stream, _ in before]
        self.after_versions = [binary_arrays.bigint(version) for _, version in before]
        self.answer_columns = None if answer is None else answer_columns(answer)
        if len(events) == 1:
            (recorded,) = events
            self.streams = binary_arrays.text(recorded.stream)
            self.versions = binary_arrays.bigint(recorded.version)
            self.topics = _topic(type(recorded.event))
            self.states = binary_arrays.bytea(codec.encode_state(recorded))
        else:
            self.streams = b"".join(binary_arrays.text(each.stream) for each in events)
            self.versions = b"".join(binary_arrays.bigint(each.version) for each in events)
            self.topics = b"".join(_topic(type(each.event)) for each in events)
            self.states = b"".join(binary_arrays.bytea(codec.encode_state(each)) for each in events)

    def succeed(self, positions: Sequence[int]) -> None:
        if not self.done.done():
            self.done.set_result(positions)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


def continued(events: Sequence[Recorded]) -> Sequence[tuple[str, int]]:
    """The events that must stand before these, one for each stream that is not new."""
    if len(events) == 1 and events[0].version == 1:
        return ()
    before: list[tuple[str, int]] = []
    newest: dict[str, int] = {}
    for recorded in events:
        stream, version = recorded.stream, recorded.version
        if stream not in newest:
            if version > 1:
                before.append((stream, version - 1))
        elif version != newest[stream] + 1:
            raise ValueError(f"versions of {stream} do not follow each other")
        newest[stream] = version
    return before


def answer_columns(answer: StoredAnswer) -> tuple[bytes, bytes, bytes, bytes, bytes, bytes]:
    return (
        binary_arrays.text(answer.member_id),
        binary_arrays.text(answer.key),
        binary_arrays.bytea(answer.body_hash),
        binary_arrays.integer(answer.status),
        binary_arrays.bytea(answer.body),
        binary_arrays.bigint(answer.position),
    )


class GroupCommit:
    """The one writer of a process. `submit` is called from the event loop that `run` runs on."""

    def __init__(self, postgres_url: str, written: Callable[[int], None]) -> None:
        self._url = postgres_url
        self._written = written
        self._waiting: deque[Command] = deque()
        self._filled = asyncio.Event()
        self._connection: psycopg.AsyncConnection | None = None
        self._failures = 0
        self._alone = 0
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="group-commit")

    def submit(
        self, events: Sequence[Recorded], answer: StoredAnswer | None
    ) -> asyncio.Future[Sequence[int]]:
        """Queue a command; its future has the positions, or raises what `EventLog.append` does."""
        if self._closing or len(self._waiting) >= WAITING_MAX:
            raise LogUnavailable("closing" if self._closing else "too many commands wait")
        loop = asyncio.get_running_loop()
        command = Command(events, answer, loop.create_future(), loop.time())
        self._waiting.append(command)
        self._filled.set()
        return command.done

    async def close(self) -> None:
        """Write what waits, as far as the server lets us in time, and stop."""
        self._closing = True
        self._filled.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=PATIENCE_SECONDS)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._disconnect()
        while self._waiting:
            self._give_up(self._waiting.popleft(), LogUnavailable("closed"))

    async def _run(self) -> None:
        while True:
            commands_max = WAITING_MAX
            if not self._waiting:
                if self._closing:
                    return
                self._filled.clear()
                await self._filled.wait()
                # Callers who were all answered together ask again together, and would take turns
                # with the server. Sending half of them first lets both work at the same time.
                commands_max = max(len(self._waiting) // 2, HALVES_MIN)
            if self._alone:
                self._alone -= 1
                commands_max = 1
            batch = self._take(commands_max)
            if not batch:
                continue
            try:
                await self._write(batch)
            except asyncio.CancelledError:
                self._abandon(batch, "closed")
                raise
            except Exception as error:
                # A fault of ours must not leave callers waiting, nor end the writer.
                log.exception("log.writer_failed")
                self._abandon(batch, repr(error))
                await self._disconnect()

    def _take(self, commands_max: int) -> list[Command]:
        """The next batch, in order of arrival, without those whose callers have gone away."""
        batch: list[Command] = []
        events = size = 0
        while (
            self._waiting
            and len(batch) < commands_max
            and events < BATCH_EVENTS_MAX
            and size < BATCH_BYTES_MAX
        ):
            command = self._waiting.popleft()
            # A caller who gave up on a doubtful command is gone too: nobody needs its outcome.
            if not command.done.done():
                batch.append(command)
                events += len(command.events)
                size += len(command.states)
        return batch

    async def _write(self, batch: list[Command]) -> None:
        try:
            connection = await self._connected()
        except (psycopg.Error, OSError) as error:
            self._put_back(batch)
            await self._back_off(error)
            return
        try:
            with bounded(connection, WRITE_SECONDS):
                outcomes, positions = await self._append(connection, batch)
                claims = [
                    command
                    for command, outcome in zip(batch, outcomes or "", strict=False)
                    if command.doubtful and outcome != WRITTEN
                ]
                found = await self._look_up(connection, claims) if claims else {}
        except (psycopg.Error, OSError) as error:
            await self._after_failure(connection, batch, error)
            return
        self._failures = 0
        self._answer(batch, outcomes, positions, found)

    async def _append(
        self, connection: psycopg.AsyncConnection, batch: Sequence[Command]
    ) -> tuple[str | None, list[int | None]]:
        cursor = await connection.execute(APPEND, _parameters(batch), prepare=True, binary=True)
        row = await cursor.fetchone()
        assert row is not None
        outcomes, positions = row
        return outcomes, positions

    def _answer(
        self,
        batch: Sequence[Command],
        outcomes: str | None,
        positions: Sequence[int | None],
        found: dict[int, Sequence[int]],
    ) -> None:
        first = head = 0
        for index, command in enumerate(batch):
            end = first + len(command.events)
            outcome = WRITTEN if outcomes is None else outcomes[index]
            ours: Sequence[Any] | None = (
                positions[first:end] if outcome == WRITTEN else found.get(id(command))
            )
            first = end
            if ours is not None:
                command.succeed(ours)
                head = max(head, ours[-1]) if ours else head
            elif outcome == KEY_TAKEN:
                command.fail(KeyTaken())
            else:
                command.fail(StreamMoved(command.events[0].stream))
        if head:
            self._written(head)

    async def _after_failure(
        self, connection: psycopg.AsyncConnection, batch: list[Command], error: Exception
    ) -> None:
        state = getattr(error, "sqlstate", None) or ""
        if connection.closed or not state or state.startswith(CONNECTION_ENDED):
            # The batch was sent and its answer lost: only the log knows what became of it.
            log.warning("log.outcome_unknown", commands=len(batch), error=_first_line(error))
            for command in batch:
                command.doubtful = True
            self._put_back(batch)
            await self._back_off(error)
        elif not state.startswith(VALUES_REFUSED):
            log.error("log.refused", commands=len(batch), sqlstate=state, error=str(error))
            for command in batch:
                if not command.doubtful:
                    command.fail(LogUnavailable(str(error)))
            self._put_back([command for command in batch if command.doubtful])
            await self._back_off(error)
        elif len(batch) == 1:
            batch[0].fail(Unstorable(str(error)))
        else:
            # One command's values were refused, and with them the batch: each goes alone.
            self._waiting.extendleft(reversed(batch))
            self._alone = len(batch)

    def _put_back(self, batch: Sequence[Command]) -> None:
        """Return a batch to the front of the queue, less those who have waited long enough."""
        now = asyncio.get_running_loop().time()
        self._waiting.extendleft(reversed(batch))
        still_waiting: deque[Command] = deque()
        for command in self._waiting:
            patience = DOUBT_PATIENCE_SECONDS if command.doubtful else PATIENCE_SECONDS
            if now - command.since < patience:
                still_waiting.append(command)
            else:
                self._give_up(command, LogUnavailable("the log does not answer"))
        self._waiting = still_waiting

    def _abandon(self, batch: Sequence[Command], reason: str) -> None:
        """Nobody will look after these any more, and they may have been sent."""
        for command in batch:
            command.fail(OutcomeUnknown(reason))

    def _give_up(self, command: Command, error: LogUnavailable) -> None:
        command.fail(OutcomeUnknown(str(error)) if command.doubtful else error)

    async def _connected(self) -> psycopg.AsyncConnection:
        if self._connection is not None and _has_ended(self._connection):
            await self._disconnect()
        if self._connection is None:
            self._connection = await connect(self._url, "plaza-log-writer", SESSION)
            binary_arrays.register(self._connection)
        return self._connection

    async def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await self._connection.close()
            self._connection = None

    async def _back_off(self, error: Exception) -> None:
        await self._disconnect()
        pause = BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)]
        self._failures += 1
        log.warning("log.unreachable", error=_first_line(error), retry_in_seconds=pause)
        await asyncio.sleep(pause)

    async def _look_up(
        self, connection: psycopg.AsyncConnection, claims: Sequence[Command]
    ) -> dict[int, Sequence[int]]:
        """Positions of those doubtful commands whose own events, or answer, stand in the log."""
        return {
            id(command): positions
            for command in claims
            if (positions := await _own_positions(connection, command)) is not None
        }


async def _own_positions(
    connection: psycopg.AsyncConnection, command: Command
) -> Sequence[int] | None:
    if not command.events:
        return [] if await _own_answer(connection, command.answer) else None
    positions: list[int] = []
    for recorded in command.events:
        cursor = await connection.execute(
            "SELECT notification_id FROM log.events"
            " WHERE originator_id = %s AND originator_version = %s AND state = %s",
            [recorded.stream, recorded.version, codec.encode_state(recorded)],
        )
        row = await cursor.fetchone()
        if row is None:
            return None
        positions.append(row[0])
    return positions


async def _own_answer(connection: psycopg.AsyncConnection, answer: StoredAnswer | None) -> bool:
    assert answer is not None
    cursor = await connection.execute(
        "SELECT FROM log.answers WHERE member_id = %s AND key = %s AND body_hash = %s"
        " AND status = %s AND body = %s",
        [answer.member_id, answer.key, answer.body_hash, answer.status, answer.body],
    )
    return await cursor.fetchone() is not None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _has_ended(connection: psycopg.AsyncConnection) -> bool:
    """Whether an idle connection is of no use: the server says something only to end it.

    Noticed before anything is sent, the end leaves no doubt about the next batch.
    """
    if connection.closed:
        return True
    socket = select.poll()
    socket.register(connection.fileno(), select.POLLIN)
    return bool(socket.poll(0))


def _parameters(batch: Sequence[Command]) -> list[bytes]:
    total = 0
    ends: list[bytes] = []
    afters: list[bytes] = []
    answers: list[bytes] = []
    for number, command in enumerate(batch, start=1):
        total += len(command.events)
        ends.append(binary_arrays.integer(total))
        if command.after_streams:
            afters += [binary_arrays.integer(number)] * len(command.after_streams)
        if command.answer is not None:
            answers.append(binary_arrays.integer(number))
    columns = zip(*(one.answer_columns for one in batch if one.answer_columns), strict=True)
    members, keys, hashes, statuses, bodies, positions = tuple(columns) or NO_ANSWERS
    return [
        binary_arrays.integers(ends),
        binary_arrays.texts([command.streams for command in batch], total),
        binary_arrays.bigints([command.versions for command in batch], total),
        binary_arrays.texts([command.topics for command in batch], total),
        binary_arrays.byteas([command.states for command in batch], total),
        binary_arrays.integers(afters),
        binary_arrays.texts([each for command in batch for each in command.after_streams]),
        binary_arrays.bigints([each for command in batch for each in command.after_versions]),
        binary_arrays.integers(answers),
        binary_arrays.texts(members),
        binary_arrays.texts(keys),
        binary_arrays.byteas(hashes),
        binary_arrays.integers(statuses),
        binary_arrays.byteas(bodies),
        binary_arrays.bigints(positions),
    ]


_topics: dict[type[Event], bytes] = {}


def _topic(event_class: type[Event]) -> bytes:
    found = _topics.get(event_class)
    if found is None:
        found = _topics[event_class] = binary_arrays.text(tag_of(event_class))
    return found
