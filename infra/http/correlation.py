"""One id for all that a request sets off: taken from the request where it brings one, else made."""

import re
import secrets
from collections.abc import Iterable

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACE = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_NO_TRACE = b"0" * 32
SCOPE_KEY = "plaza.request_id"


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """`X-Request-Id`, else the trace id of `traceparent` (W3C), else a new one."""
    trace = None
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode()
        if name == b"traceparent":
            trace = _TRACE.fullmatch(value)
    if trace is not None and trace[1] != _NO_TRACE:
        return trace[1].decode()
    return secrets.token_hex(16)
