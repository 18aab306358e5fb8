"""Reading a request's body, up to a size."""

from collections.abc import Mapping

from starlette.types import Receive

from infra.http.problems import too_large

BODY_BYTES_MAX = 1024 * 1024
DRAINED_BYTES_MAX = 32 * BODY_BYTES_MAX
"""A body up to this size is read and thrown away after its 413, so that its sender, who does not
look for an answer before all is sent, gets to see it. Beyond, the connection is closed."""


class ClientGone(Exception):
    """The client went away before its request had arrived. Nobody waits for an answer."""


async def read_body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """The whole body. Raises a 413 problem for one that is too large, without reading it."""
    declared = headers.get(b"content-length")
    if declared is not None and int(declared) > BODY_BYTES_MAX:
        raise too_large(BODY_BYTES_MAX, close=int(declared) > DRAINED_BYTES_MAX)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return within(body)
    pieces = bytearray(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        pieces += message.get("body", b"")
        if len(pieces) > BODY_BYTES_MAX:
            raise too_large(BODY_BYTES_MAX, close=declared is None)
    return bytes(pieces)


def within(body: bytes) -> bytes:
    if len(body) > BODY_BYTES_MAX:
        raise too_large(BODY_BYTES_MAX, close=False)
    return body
