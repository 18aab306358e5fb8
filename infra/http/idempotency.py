"""A command may be sent twice under one `Idempotency-Key`, and is carried out once.

Keys belong to a member; before there is a log-in all share one space, so there they must be chosen
at random. Bodies are compared by a keyed hash, since they can hold passwords.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b

from infra.http.authentication import header
from infra.http.problems import Problem, invalid_header

HEADER = b"idempotency-key"
ANYBODY = "anybody"
KEY_LENGTH_MAX = 128
is_key = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?").fullmatch


def key_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key of an ASGI request, None where it brings none. Raises a 422 problem for a bad one."""
    value = header(headers, HEADER)
    if value is None:
        return None
    if not is_key(value):
        raise invalid_header("Idempotency-Key", "A key is 1 to 128 printable ASCII characters.")
    return value.decode()


def body_hash(secret: bytes, method: str, path: str, body: bytes) -> bytes:
    """What tells two requests under one key apart: what is asked for, and the body."""
    digest = blake2b(digest_size=16, key=secret, person=b"idempotency")
    digest.update(f"{method} {path}\0".encode())
    digest.update(body)
    return digest.digest()


class InFlight:
    """The keys whose first request this process is still working on."""

    def __init__(self) -> None:
        self._keys: set[tuple[str, str]] = set()

    @contextmanager
    def hold(self, owner: str, key: str) -> Iterator[None]:
        """Raises a 409 problem while another request holds the same key."""
        name = (owner, key)
        if name in self._keys:
            raise in_flight()
        self._keys.add(name)
        try:
            yield
        finally:
            self._keys.discard(name)


def in_flight() -> Problem:
    detail = "The first request with this Idempotency-Key has not been answered yet."
    headers = {"Retry-After": "1"}
    return Problem(409, "request-in-flight", "The request is in flight", detail, headers=headers)


def key_reused() -> Problem:
    """The key has been used for something else."""
    return invalid_header("Idempotency-Key", "This key was used with another request.")
