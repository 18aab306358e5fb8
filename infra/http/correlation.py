"""One id for all that a request sets off: taken from the request where it brings one, else made."""

import re
import secrets
from collections.abc import Mapping
from itertools import count

_is_request_id = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}").fullmatch
_is_traceparent = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
_NO_TRACE = b"0" * 32
SCOPE_KEY = "plaza.request_id"

# Unique without asking the kernel for chance at every request: this process, and a number.
_process = secrets.token_hex(10)
_numbers = count(1)


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """`X-Request-Id`, else the trace id of `traceparent` (W3C), else a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _is_request_id(given):
        return given.decode()
    parent = headers.get(b"traceparent")
    if parent is not None and (trace := _is_traceparent(parent)) and trace[1] != _NO_TRACE:
        return trace[1].decode()
    return f"{_process}{next(_numbers):012x}"
