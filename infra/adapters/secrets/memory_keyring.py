"""The keyring in memory, for tests: it seals by naming the key, and hides nothing from anybody."""

from collections.abc import Iterable
from itertools import count

from infra.formats.personal_values import IN_THE_CLEAR
from infra.ports.secrets import KeyDestroyed


class MemoryKeyring:
    def __init__(self) -> None:
        self._stored: dict[str, bytes] = {}
        self._fetched: dict[str, bytes] = {}
        self._numbers = count(1)

    async def create(self, person_id: str) -> None:
        self._stored.setdefault(person_id, b"key %d:" % next(self._numbers))

    async def fetch(self, person_ids: Iterable[str]) -> None:
        for person_id in person_ids:
            if person_id in self._stored:
                self._fetched[person_id] = self._stored[person_id]

    def seal(self, person_id: str, text: str) -> bytes:
        if person_id not in self._fetched:
            raise KeyDestroyed(person_id)
        return self._fetched[person_id] + text.encode()

    def open(self, person_id: str, sealed: bytes | None) -> str | None:
        key = self._fetched.get(person_id)
        if sealed is None:
            return None
        if sealed.startswith(IN_THE_CLEAR) and (key is not None or not person_id):
            return sealed.removeprefix(IN_THE_CLEAR).decode()
        if key is None or not sealed.startswith(key):
            return None
        return sealed.removeprefix(key).decode()

    def forget(self, person_id: str) -> None:
        self._fetched.pop(person_id, None)

    async def destroy(self, person_id: str) -> None:
        self._stored.pop(person_id, None)
        self.forget(person_id)
