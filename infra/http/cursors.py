"""Cursors: where the next page starts, signed and bound to the list it was handed out for."""

import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import blake2b

from infra.http.problems import Problem, invalid_parameter

MAC_BYTES = 8
CHARACTERS_MAX = 4096


class Cursors:
    """Hands out cursors, and takes back none but those.

    `listing` names the list together with everything a page of it depends on, such as
    `followers 4kp…` or `feed 4kp… latest`: a cursor of one list is refused by every other.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def seal(self, listing: str, payload: bytes) -> str:
        return urlsafe_b64encode(payload + self._mac(listing, payload)).rstrip(b"=").decode()

    def sealer(self, listing: str) -> Callable[[bytes], bytes]:
        """What seals many cursors of one list, at less cost for each."""
        begun = blake2b(
            listing.encode() + b"\0", digest_size=MAC_BYTES, key=self._secret, person=b"cursor"
        )

        def seal(payload: bytes) -> bytes:
            mac = begun.copy()
            mac.update(payload)
            return urlsafe_b64encode(payload + mac.digest()).rstrip(b"=")

        return seal

    def open(self, listing: str, cursor: str) -> bytes:
        """The payload of a cursor. Raises a 422 problem for one that this list did not hand out."""
        if len(cursor) > CHARACTERS_MAX or not cursor.isascii():
            raise unknown_cursor()
        text = cursor.encode()
        try:
            raw = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            raise unknown_cursor() from None
        payload, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(listing, payload)):
            raise unknown_cursor()
        if urlsafe_b64encode(raw).rstrip(b"=") != text:
            raise unknown_cursor()
        return payload

    def _mac(self, listing: str, payload: bytes) -> bytes:
        signed = listing.encode() + b"\0" + payload
        return blake2b(signed, digest_size=MAC_BYTES, key=self._secret, person=b"cursor").digest()


def unknown_cursor() -> Problem:
    return invalid_parameter("cursor", "This cursor was not handed out for this list.")
