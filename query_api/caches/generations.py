"""A bounded dictionary that forgets what was not used for longest, at no cost to what is used."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Generations(Generic[K, V]):
    """Two dictionaries: what is used moves to the young one; when that is full it becomes the old
    one, and what the old one still held is forgotten. Finding something young is one look-up."""

    def __init__(self, entries_max: int) -> None:
        self._half = max(1, entries_max // 2)
        self.young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        found = self.young.get(key)
        if found is None and self._old:
            found = self._old.pop(key, None)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        if len(self.young) >= self._half and key not in self.young:
            self._old = self.young
            self.young = {}
        self.young[key] = value

    def drop(self, key: K) -> None:
        self.young.pop(key, None)
        self._old.pop(key, None)

    def clear(self) -> None:
        self.young = {}
        self._old = {}

    def __len__(self) -> int:
        return len(self.young) + len(self._old)
