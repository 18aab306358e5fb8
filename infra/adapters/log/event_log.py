"""The event log in PostgreSQL: appended to by group commit, read over a small pool."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import msgspec

from infra.adapters.log.group_commit import GroupCommit
from infra.adapters.log.log_listener import HEAD, LogListener
from infra.adapters.pools import Pool
from infra.adapters.reads.together import Together
from infra.formats import codec
from infra.ports.log import Recorded, StoredAnswer

READERS_MAX = 4
READER_SETTINGS = {"default_transaction_read_only": "on"}

COLUMNS = "notification_id, originator_id, originator_version, state"
STREAMS = f"""
    SELECT {COLUMNS} FROM log.events WHERE originator_id = ANY(%s)
    ORDER BY originator_id, originator_version
"""  # noqa: S608
NEXT = f"""
    SELECT {COLUMNS} FROM log.events WHERE notification_id > %s
    ORDER BY notification_id LIMIT %s
"""  # noqa: S608
ANSWER = """
    SELECT member_id, key, body_hash, status, body, position FROM log.answers
    WHERE (member_id, key) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""


class UnreadableEvent(Exception):
    """A stored row that no decoder of this version understands: newer than we are, or damaged."""

    def __init__(self, line: codec.Line, reason: str) -> None:
        super().__init__(f"{line.stream} {line.version} at {line.position}: {reason}")
        self.line = line


class PostgresEventLog:
    """`infra.ports.log.EventLog` on PostgreSQL. Open it inside the event loop that uses it."""

    def __init__(self, postgres_url: str) -> None:
        self._pool = Pool(postgres_url, "plaza-log-reader", READERS_MAX, READER_SETTINGS)
        self._answers = Together(self._find_answers)
        self._listener = LogListener(postgres_url)
        self._writer = GroupCommit(postgres_url, written=self._listener.advance)

    @classmethod
    async def open(cls, postgres_url: str) -> Self:
        """Raises `LogUnavailable` when the server does not answer in time."""
        opened = cls(postgres_url)
        try:
            await opened._pool.open()
            await opened.head()
        except BaseException:
            # Also when cancelled: the pool's own tasks would go on for ever.
            await opened.close()
            raise
        opened._writer.start()
        return opened

    async def close(self) -> None:
        """Write what waits, then end every connection."""
        await self._writer.close()
        await self._listener.close()
        await self._pool.close()

    async def append(
        self, events: Sequence[Recorded], answer: StoredAnswer | None = None
    ) -> Sequence[int]:
        """See `EventLog.append`. Raises `Unstorable` for values that PostgreSQL cannot hold."""
        if not events and answer is None:
            return []
        return await self._writer.submit(events, answer)

    async def load(self, stream: str) -> Sequence[Recorded]:
        return (await self.load_many([stream])).get(stream, [])

    async def load_many(self, streams: Iterable[str]) -> Mapping[str, Sequence[Recorded]]:
        """See `EventLog.load_many`. Raises `UnreadableEvent`."""
        found: dict[str, list[Recorded]] = {}
        for line in await self._lines(STREAMS, [list(streams)]):
            found.setdefault(line.stream, []).append(_decoded(line))
        return found

    async def answer(self, member_id: str, key: str) -> StoredAnswer | None:
        return await self._answers.ask((member_id, key))

    async def _find_answers(
        self, asked: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], StoredAnswer]:
        members, keys = [member for member, _ in asked], [key for _, key in asked]
        return {
            (member_id, key): StoredAnswer(
                member_id=member_id,
                key=key,
                body_hash=body_hash,
                status=status,
                body=body,
                position=position,
            )
            for member_id, key, body_hash, status, body, position in await self._pool.rows(
                ANSWER, [members, keys]
            )
        }

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        """See `EventLog.read`. An unreadable event ends the run before it; it raises
        `UnreadableEvent` when it is the first, so that the reader can set it aside and go on
        after its position."""
        events: list[Recorded] = []
        for line in await self.read_lines(after, limit):
            try:
                events.append(_decoded(line))
            except UnreadableEvent:
                if not events:
                    raise
                break
        return events

    async def read_lines(self, after: int, limit: int) -> Sequence[codec.Line]:
        """The same rows as they are stored, readable or not."""
        return await self._lines(NEXT, [after, limit])

    async def head(self) -> int:
        rows = await self._pool.rows(HEAD, [])
        return int(rows[0][0])

    async def wait(self, after: int, seconds: float) -> bool:
        return await self._listener.wait(after, seconds)

    async def _lines(self, query: str, parameters: Sequence[Any]) -> Sequence[codec.Line]:
        return [codec.Line(*row) for row in await self._pool.rows(query, parameters)]


def _decoded(line: codec.Line) -> Recorded:
    try:
        return codec.decode_state(line.position, line.stream, line.version, line.state)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableEvent(line, str(error)) from error
