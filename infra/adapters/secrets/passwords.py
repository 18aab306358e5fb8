"""Password hashes by Argon2id, made in a few threads of their own: each costs 20 ms and 19 MiB."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# OWASP's first recommendation for Argon2id.
MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1
THREADS = 2

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Argon2Passwords:
    """`infra.ports.secrets.Passwords`. More requests than threads wait for their turn."""

    def __init__(self, threads: int = THREADS) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._threads = ThreadPoolExecutor(threads, "passwords")
        self._nobodys = self._hasher.hash("the password of nobody")

    async def hash(self, password: str) -> str:
        return await self._run(self._hasher.hash, password)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        matches = await self._run(self._matches, password_hash or self._nobodys, password)
        return matches and password_hash is not None

    def outdated(self, password_hash: str) -> bool:
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _matches(self, password_hash: str, password: str) -> bool:
        with contextlib.suppress(VerificationError, InvalidHashError):
            return self._hasher.verify(password_hash, password)
        return False

    async def _run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
