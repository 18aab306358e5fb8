"""`infra.payments.PaymentSecrets` on `vault.payment_secrets`, sealed under a services' secret."""

import secrets as randomness
from datetime import datetime
from typing import Self

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from infra.adapters.pools import Pool
from infra.payments import Details

NONCE_BYTES = 12
PAYMENTS_KEY = "payments"
"""The name of the services' secret whose value is the key."""

CONNECTIONS_MAX = 4

PUT = """
    INSERT INTO vault.payment_secrets (checkout_id, name, sealed) VALUES (%s, %s, %s)
    ON CONFLICT (checkout_id, name) DO UPDATE SET sealed = excluded.sealed, stored_at = now()
"""
GET = "SELECT sealed FROM vault.payment_secrets WHERE checkout_id = %s AND name = %s"
FORGET = "DELETE FROM vault.payment_secrets WHERE checkout_id = %s"
FORGET_OLDER = "DELETE FROM vault.payment_secrets WHERE stored_at < %s"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Details).decode


class PostgresPaymentSecrets:
    def __init__(self, postgres_url: str, key: bytes) -> None:
        """`key` has 32 bytes and is the same in every process."""
        self._pool = Pool(postgres_url, "plaza-payment-secrets", CONNECTIONS_MAX, {})
        self._cipher = AESGCM(key)

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
        await self._pool.rows(PUT, [checkout_id, name, sealed])

    async def get(self, checkout_id: str, name: str) -> Details | None:
        rows = await self._pool.rows(GET, [checkout_id, name])
        if not rows:
            return None
        sealed = bytes(rows[0][0])
        nonce, text = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return _decode(self._cipher.decrypt(nonce, text, place(checkout_id, name)))
        except InvalidTag:
            return None  # Sealed under a secret that was lost: nobody can read it.

    async def forget(self, checkout_id: str) -> None:
        await self._pool.rows(FORGET, [checkout_id])

    async def forget_older(self, before: datetime) -> None:
        await self._pool.rows(FORGET_OLDER, [before])


def place(checkout_id: str, name: str) -> bytes:
    return f"{checkout_id}/{name}".encode()
