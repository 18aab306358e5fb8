"""Who is asking: signed tokens that every service checks by itself, and the set of those revoked.

A token is `session id | member id | expiry | MAC` in base64url. Nothing has to be looked up to
believe one; what must be known besides is which sessions ended early and which members are erased.
"""

import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import NamedTuple

from domain.shared.identifiers import id_number, id_text
from infra.http.problems import Problem, unauthenticated

ID_BYTES = 8
EXPIRY_BYTES = 5
MAC_BYTES = 16
PAYLOAD_BYTES = 2 * ID_BYTES + EXPIRY_BYTES
TOKEN_CHARACTERS_MAX = 64
KNOWN_MAX = 50_000


class Session(NamedTuple):
    """A log-in; `expires_at` in seconds since 1970."""

    session_id: str
    member_id: str
    expires_at: int


class Tokens:
    """Signs and reads session tokens with one secret that all processes share."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, session: Session) -> str:
        """The token of a session: always the same one, so that it never needs to be stored."""
        payload = (
            id_number(session.session_id).to_bytes(ID_BYTES, "big")
            + id_number(session.member_id).to_bytes(ID_BYTES, "big")
            + session.expires_at.to_bytes(EXPIRY_BYTES, "big")
        )
        return urlsafe_b64encode(payload + self._mac(payload)).rstrip(b"=").decode()

    def read(self, token: bytes) -> Session | None:
        """The session that a token was signed for; None if it was not signed by us."""
        if len(token) > TOKEN_CHARACTERS_MAX:
            return None
        try:
            raw = urlsafe_b64decode(token + b"=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            return None
        payload, mac = raw[:PAYLOAD_BYTES], raw[PAYLOAD_BYTES:]
        # base64 has several spellings of one value; only the one that was handed out is a token.
        if not hmac.compare_digest(mac, self._mac(payload)):
            return None
        if urlsafe_b64encode(raw).rstrip(b"=") != token:
            return None
        return Session(
            id_text(int.from_bytes(payload[:ID_BYTES], "big")),
            id_text(int.from_bytes(payload[ID_BYTES : 2 * ID_BYTES], "big")),
            int.from_bytes(payload[2 * ID_BYTES :], "big"),
        )

    def _mac(self, payload: bytes) -> bytes:
        return blake2b(payload, digest_size=MAC_BYTES, key=self._secret, person=b"token").digest()


class Revocations:
    """The sessions that ended before their time, and the members who are gone."""

    def __init__(self) -> None:
        self._ended: dict[str, int] = {}
        self._erased: set[str] = set()

    def end_sessions(self, sessions: Iterable[tuple[str, int]]) -> None:
        """Refuse these sessions (id, expiry in seconds since 1970) from now on."""
        self._ended.update(sessions)

    def erase_members(self, member_ids: Iterable[str]) -> None:
        self._erased.update(member_ids)

    def covers(self, session: Session) -> bool:
        return session.session_id in self._ended or session.member_id in self._erased

    def forget_expired(self, now: float) -> None:
        """Drop the ended sessions whose tokens would be refused by their expiry anyway."""
        self._ended = {name: expiry for name, expiry in self._ended.items() if expiry > now}


class Authenticator:
    """Checks `Authorization` headers; remembers the tokens it has verified.

    `now` gives seconds since 1970.
    """

    def __init__(self, tokens: Tokens, revocations: Revocations, now: Callable[[], float]) -> None:
        self.tokens = tokens
        self.revocations = revocations
        self._now = now
        self._known: dict[bytes, Session] = {}

    def authenticate(self, authorization: bytes | None) -> Session:
        """The session behind a header. Raises a 401 problem where there is none that holds."""
        session = self._known.get(authorization or b"")
        if session is None:
            session = self._verify(authorization)
        if session.expires_at <= self._now():
            raise unauthenticated("The session has expired.")
        if self.revocations.covers(session):
            raise unauthenticated("The session has ended.")
        return session

    def identify(self, authorization: bytes | None) -> Session | None:
        """The same where logging in is optional: None without a header, 401 for a bad one."""
        return None if authorization is None else self.authenticate(authorization)

    def _verify(self, authorization: bytes | None) -> Session:
        if authorization is None:
            raise unauthenticated("There is no Authorization header.")
        scheme, _, token = authorization.partition(b" ")
        session = self.tokens.read(token.strip()) if scheme.lower() == b"bearer" else None
        if session is None:
            raise bad_token()
        if len(self._known) >= KNOWN_MAX:
            # Dictionaries keep their order, so this forgets the one verified longest ago.
            del self._known[next(iter(self._known))]
        self._known[authorization] = session
        return session


def bad_token() -> Problem:
    return unauthenticated("The token is not one of ours.")


def header(scope_headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The value of an ASGI request's header, by its lower-case name."""
    for found, value in scope_headers:
        if found == name:
            return value
    return None
