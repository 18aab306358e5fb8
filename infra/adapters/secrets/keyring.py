"""Keys per person, password hashes and the services' secrets: all that must not be in the log.

Texts are sealed with AES-256-GCM under a random nonce, bound to the person's id, so that a sealed
text of one person does not open as another's.
"""

import secrets
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Self

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from infra.adapters.connections import CONNECT_SECONDS, bounded, connected
from infra.adapters.pools import Connection, Pool
from infra.formats.personal_values import IN_THE_CLEAR
from infra.ports.secrets import KeyDestroyed

KEY_BYTES = 32
NONCE_BYTES = 12
SECRET_BYTES = 32
CONNECTIONS_MAX = 2
CHUNK = 5_000
KEYS_IN_MEMORY_MAX = 200_000
CIPHERS_IN_MEMORY_MAX = 4_096
"""A cipher is eight times as large as its key, and three times as fast as making it again."""

CREATE = """
    INSERT INTO vault.person_keys (person_id, key)
    SELECT * FROM unnest(%s::text[], %s::bytea[]) ON CONFLICT DO NOTHING
"""
FETCH = "SELECT person_id, key FROM vault.person_keys WHERE person_id = ANY(%s)"
DESTROY = (
    "DELETE FROM vault.person_keys WHERE person_id = %s",
    "DELETE FROM vault.credentials WHERE member_id = %s",
    # Answers kept for idempotency may quote what the person wrote.
    "DELETE FROM log.answers WHERE member_id = %s",
)
# Deleted rows stay in their pages until these are cleaned.
CLEAN = "VACUUM (SKIP_LOCKED) vault.person_keys, vault.credentials, log.answers"

PUT_CREDENTIALS = """
    INSERT INTO vault.credentials (member_id, password_hash)
    SELECT unnest(%s::text[]), %s
    ON CONFLICT (member_id) DO UPDATE SET password_hash = excluded.password_hash
"""
GET_CREDENTIAL = "SELECT password_hash FROM vault.credentials WHERE member_id = %s"


class PostgresKeyring:
    """`infra.ports.secrets.Keyring` on `vault.person_keys`, with the keys last used in memory."""

    def __init__(self, postgres_url: str, keys_max: int = KEYS_IN_MEMORY_MAX) -> None:
        self._pool = Pool(postgres_url, "plaza-keyring", CONNECTIONS_MAX, {})
        self._keys_max = keys_max
        self._keys: OrderedDict[str, bytes] = OrderedDict()
        self._ciphers: dict[str, AESGCM] = {}
        self._gone: set[str] = set()

    @classmethod
    async def connect(cls, postgres_url: str, keys_max: int = KEYS_IN_MEMORY_MAX) -> Self:
        connected = cls(postgres_url, keys_max)
        await connected._pool.open()
        return connected

    async def close(self) -> None:
        await self._pool.close()

    async def create(self, person_id: str) -> None:
        await self.create_many([person_id])
        await self.fetch([person_id])

    async def create_many(self, person_ids: Iterable[str]) -> None:
        """Make keys for new persons, thousands at a time. Harmless when repeated."""
        for chunk in _chunks(person_ids):
            keys = [secrets.token_bytes(KEY_BYTES) for _ in chunk]
            await self._pool.rows(CREATE, [chunk, keys])

    async def fetch(self, person_ids: Iterable[str]) -> None:
        missing: list[str] = []
        for person_id in set(person_ids) - self._gone:
            if person_id in self._keys:
                self._keys.move_to_end(person_id)
            else:
                missing.append(person_id)
        for chunk in _chunks(missing):
            for person_id, key in await self._pool.rows(FETCH, [chunk]):
                self._remember(person_id, bytes(key))

    def knows(self, person_id: str) -> bool:
        """Whether there is a key of this person, as far as was fetched."""
        return person_id in self._keys

    def seal(self, person_id: str, text: str) -> bytes:
        cipher = self._cipher(person_id)
        if cipher is None:
            raise KeyDestroyed(person_id)
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + cipher.encrypt(nonce, text.encode(), person_id.encode())

    def open(self, person_id: str, sealed: bytes | None) -> str | None:
        if sealed is None:
            return None
        cipher = self._cipher(person_id)
        if sealed.startswith(IN_THE_CLEAR) and (cipher is not None or not person_id):
            return sealed.removeprefix(IN_THE_CLEAR).decode()
        if cipher is None:
            return None
        nonce, sealed_text = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, sealed_text, person_id.encode()).decode()
        except (InvalidTag, ValueError):
            # Sealed under a key that has been destroyed, or for somebody else: nobody can read it.
            return None

    def forget(self, person_id: str) -> None:
        # Remembered, so that a fetch that is under way does not bring the key back.
        self._gone.add(person_id)
        self._keys.pop(person_id, None)
        self._ciphers.pop(person_id, None)

    async def destroy(self, person_id: str) -> None:
        """See `Keyring.destroy`. Copies in the server's write-ahead log and in backups stay for as
        long as these are kept."""

        async def delete(connection: Connection) -> None:
            async with connection.transaction():
                for statement in DESTROY:
                    await connection.execute(statement, [person_id])

        await self._pool.run(delete)
        self.forget(person_id)
        await self._pool.rows(CLEAN)

    def _remember(self, person_id: str, key: bytes) -> None:
        if person_id not in self._gone:
            self._keys[person_id] = key
        while len(self._keys) > self._keys_max:
            oldest, _ = self._keys.popitem(last=False)
            self._ciphers.pop(oldest, None)

    def _cipher(self, person_id: str) -> AESGCM | None:
        cipher = self._ciphers.get(person_id)
        if cipher is None:
            key = self._keys.get(person_id)
            if key is None:
                return None
            cipher = self._ciphers[person_id] = AESGCM(key)
            if len(self._ciphers) > CIPHERS_IN_MEMORY_MAX:
                self._ciphers.pop(next(iter(self._ciphers)))
        return cipher


class PostgresCredentials:
    """`infra.ports.secrets.Credentials` on `vault.credentials`."""

    def __init__(self, postgres_url: str) -> None:
        self._pool = Pool(postgres_url, "plaza-credentials", CONNECTIONS_MAX, {})

    @classmethod
    async def connect(cls, postgres_url: str) -> Self:
        connected = cls(postgres_url)
        await connected._pool.open()
        return connected

    async def close(self) -> None:
        await self._pool.close()

    async def put(self, member_ids: Sequence[str], password_hash: str) -> None:
        await self._pool.rows(PUT_CREDENTIALS, [list(member_ids), password_hash])

    async def get(self, member_id: str) -> str | None:
        rows = await self._pool.rows(GET_CREDENTIAL, [member_id])
        return rows[0][0] if rows else None


async def secret(place: str | psycopg.AsyncConnection, name: str) -> bytes:
    """A secret that all processes share, made by whoever asks first.

    `place` is the URL of the database, or a connection to it.

    Raises `psycopg.Error` when the server cannot be asked.
    """
    if isinstance(place, str):
        async with connected(place, "plaza-secret") as connection:
            return await secret(connection, name)
    with bounded(place, CONNECT_SECONDS):
        await place.execute(
            "INSERT INTO vault.secrets (name, value) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [name, secrets.token_bytes(SECRET_BYTES)],
        )
        cursor = await place.execute("SELECT value FROM vault.secrets WHERE name = %s", [name])
        row = await cursor.fetchone()
    assert row is not None
    return bytes(row[0])


def _chunks(ids: Iterable[str]) -> list[list[str]]:
    every = list(ids)
    return [every[start : start + CHUNK] for start in range(0, len(every), CHUNK)]
