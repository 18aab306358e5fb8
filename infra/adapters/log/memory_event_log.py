"""The event log in memory: what every adapter of `EventLog` must do, in the fewest lines."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import structs

from infra.ports.log import KeyTaken, Recorded, StoredAnswer, StreamMoved


class MemoryEventLog:
    def __init__(self) -> None:
        self._events: list[Recorded] = []
        self._streams: defaultdict[str, list[Recorded]] = defaultdict(list)
        self._answers: dict[tuple[str, str], StoredAnswer] = {}
        self._appended = asyncio.Event()

    async def load(self, stream: str) -> Sequence[Recorded]:
        return list(self._streams.get(stream, ()))

    async def load_many(self, streams: Iterable[str]) -> Mapping[str, Sequence[Recorded]]:
        return {
            stream: list(self._streams[stream]) for stream in streams if stream in self._streams
        }

    async def append(
        self, events: Sequence[Recorded], answer: StoredAnswer | None = None
    ) -> Sequence[int]:
        if answer is not None and (answer.member_id, answer.key) in self._answers:
            raise KeyTaken
        self._require_next(events)
        placed = [
            structs.replace(one, position=position)
            for position, one in enumerate(events, start=len(self._events) + 1)
        ]
        for one in placed:
            self._events.append(one)
            self._streams[one.stream].append(one)
        if answer is not None:
            position = placed[-1].position if placed else answer.position
            kept = structs.replace(answer, position=position)
            self._answers[answer.member_id, answer.key] = kept
        if placed:
            self._appended.set()
            self._appended = asyncio.Event()
        return [one.position for one in placed]

    def _require_next(self, events: Sequence[Recorded]) -> None:
        versions: dict[str, int] = {}
        for one in events:
            known = versions.get(one.stream, len(self._streams.get(one.stream, ())))
            if one.version != known + 1:
                raise StreamMoved(one.stream)
            versions[one.stream] = one.version

    async def answer(self, member_id: str, key: str) -> StoredAnswer | None:
        return self._answers.get((member_id, key))

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        return self._events[after : after + limit]

    async def head(self) -> int:
        return len(self._events)

    async def wait(self, after: int, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while len(self._events) <= after:
                    await self._appended.wait()
        except TimeoutError:
            return False
        return True
