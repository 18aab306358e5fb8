"""Reading a request's body, up to a size, and only where all readers would read the same in it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import Receive

from infra.http.problems import malformed, too_large

BODY_BYTES_MAX = 1024 * 1024
DRAINED_BYTES_MAX = 32 * BODY_BYTES_MAX
"""A larger body than allowed is read and thrown away up to this size before its 413, so that its
sender, who does not look for an answer before all is sent, gets to see it."""


class ClientGone(Exception):
    """The client went away before its request had arrived. Nobody waits for an answer."""


async def read_body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """The whole body. Raises a 413 problem for one that is too large, without keeping it."""
    declared = headers.get(b"content-length")
    if declared is not None and int(declared) > DRAINED_BYTES_MAX:
        raise too_large(BODY_BYTES_MAX, close=True)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body") and len(body) <= BODY_BYTES_MAX:
        return body
    pieces = bytearray(body)
    size = len(body)
    while message.get("more_body") and size <= DRAINED_BYTES_MAX:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size <= BODY_BYTES_MAX:
            pieces += piece
    if size > BODY_BYTES_MAX:
        raise too_large(BODY_BYTES_MAX, close=size > DRAINED_BYTES_MAX)
    return bytes(pieces)


def require_members_once(body: bytes) -> None:
    """Raises a 400 problem where an object of a JSON document has a member twice: which of the two
    holds, each reader decides for itself. The body is known to be JSON."""
    # A document with one colon has one member at most, and most bodies are such.
    if body.count(b":") > 1:
        try:
            _MEMBERS.decode(body.decode())
        except RecursionError:
            raise malformed("The body is nested too deeply.") from None


def _once(members: Sequence[tuple[str, Any]]) -> None:
    if len({name for name, _ in members}) != len(members):
        # The name is left out: somebody's card number may stand anywhere.
        raise malformed("An object has a member twice.")


# Nothing but the names of members is of interest; numbers may be longer than Python would take.
_MEMBERS = json.JSONDecoder(object_pairs_hook=_once, parse_int=str, parse_float=str, strict=False)
