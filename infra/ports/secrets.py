"""What is kept outside the log so that it can be destroyed: keys, credentials, passwords."""

from collections.abc import Iterable, Sequence
from typing import Protocol


class Keyring(Protocol):
    """A key per person, kept outside the log. Destroying it erases what it sealed, everywhere."""

    async def create(self, person_id: str) -> None:
        """Make a key for a new person. Harmless when repeated."""
        ...

    async def fetch(self, person_ids: Iterable[str]) -> None:
        """Bring these persons' keys into memory, so that `seal` and `open` find them."""
        ...

    def seal(self, person_id: str, text: str) -> bytes:
        """Encrypt; raises `KeyDestroyed` where there is no key (fetch it first)."""
        ...

    def open(self, person_id: str, sealed: bytes | None) -> str | None:
        """Decrypt; None where the key is gone or was not fetched, or `sealed` is None.

        What an old version stored in the clear takes a key to be shown as well, or nobody's name.
        """
        ...

    def forget(self, person_id: str) -> None:
        """Drop a key from memory, because it was destroyed elsewhere."""
        ...

    async def destroy(self, person_id: str) -> None:
        """Delete a person's key and credential for good."""
        ...


class KeyDestroyed(Exception):
    """There is no key for this person: never made, or destroyed."""


class Credentials(Protocol):
    """Password hashes, kept outside the log."""

    async def put(self, member_ids: Sequence[str], password_hash: str) -> None: ...
    async def get(self, member_id: str) -> str | None: ...


class Passwords(Protocol):
    """How passwords are turned into what `Credentials` keeps."""

    async def hash(self, password: str) -> str: ...

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether it is the password. Takes as long, and is False, where there is no hash."""
        ...

    def outdated(self, password_hash: str) -> bool:
        """Whether it was made with other parameters than those of today."""
        ...
