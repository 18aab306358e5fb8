"""`ports.payments.PaymentSecrets` on `vault.payment_secrets`, sealed under a services' secret."""

import secrets as randomness
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from infra.adapters.pools import Pool
from infra.adapters.reads.together import Together
from infra.ports.payments import Details

NONCE_BYTES = 12
PAYMENTS_KEY = "payments"
"""The name of the services' secret whose value is the key."""

CONNECTIONS_MAX = 4

PUT = """
    INSERT INTO vault.payment_secrets (checkout_id, name, sealed)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::bytea[])
    ON CONFLICT (checkout_id, name) DO UPDATE SET sealed = excluded.sealed, stored_at = now()
"""
GET = """
    SELECT checkout_id, name, sealed FROM vault.payment_secrets
    WHERE (checkout_id, name) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""
FORGET = "DELETE FROM vault.payment_secrets WHERE checkout_id = ANY(%s)"
FORGET_OLDER = "DELETE FROM vault.payment_secrets WHERE stored_at < %s"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Details).decode


class PostgresPaymentSecrets:
    """Secrets of payments, each sealed for its place: moved to another one it does not open."""

    def __init__(self, postgres_url: str, key: bytes) -> None:
        """`key` has 32 bytes and is the same in every process."""
        self._pool = Pool(postgres_url, "plaza-payment-secrets", CONNECTIONS_MAX, {})
        self._cipher = AESGCM(key)
        self._puts = Together(self._put_all)
        self._gets = Together(self._get_all)
        self._forgets = Together(self._forget_all)

    @classmethod
    async def connect(cls, postgres_url: str, key: bytes) -> Self:
        connected = cls(postgres_url, key)
        await connected._pool.open()
        return connected

    async def close(self) -> None:
        await self._pool.close()

    async def put(self, checkout_id: str, name: str, secrets: Details) -> None:
        nonce = randomness.token_bytes(NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, _encode(secrets), place(checkout_id, name))
        await self._puts.ask((checkout_id, name, sealed))

    async def _put_all(self, rows: Sequence[tuple[str, str, bytes]]) -> Mapping[Any, None]:
        # Of what is put twice at one moment, the last stands.
        last = {(checkout_id, name): sealed for checkout_id, name, sealed in rows}
        ids, names = [id_ for id_, _ in last], [name for _, name in last]
        await self._pool.rows(PUT, [ids, names, list(last.values())])
        return {}

    async def get(self, checkout_id: str, name: str) -> Details | None:
        sealed = await self._gets.ask((checkout_id, name))
        if sealed is None:
            return None
        nonce, text = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return _decode(self._cipher.decrypt(nonce, text, place(checkout_id, name)))
        except InvalidTag:
            return None  # Sealed under a secret that was lost: nobody can read it.

    async def _get_all(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], bytes]:
        rows = await self._pool.rows(GET, [[id_ for id_, _ in keys], [name for _, name in keys]])
        return {(checkout_id, name): bytes(sealed) for checkout_id, name, sealed in rows}

    async def forget(self, checkout_id: str) -> None:
        await self._forgets.ask(checkout_id)

    async def _forget_all(self, checkout_ids: Sequence[str]) -> Mapping[str, None]:
        await self._pool.rows(FORGET, [list(checkout_ids)])
        return {}

    async def forget_older(self, before: datetime) -> None:
        await self._pool.rows(FORGET_OLDER, [before])


def place(checkout_id: str, name: str) -> bytes:
    return f"{checkout_id}/{name}".encode()
