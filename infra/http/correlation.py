"""One id for all that a request sets off: taken from the request where it brings one, else made."""

import re
import secrets
from collections.abc import Mapping
from itertools import count

from infra.tracing import parent_of

_is_request_id = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}").fullmatch
SCOPE_KEY = "plaza.request_id"

# Unique without asking the kernel for chance at every request: this process, and a number. Both
# together are a trace id as W3C wants one.
_process = secrets.token_hex(10)
_numbers = count(1)


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The trace id of `traceparent` (W3C), else `X-Request-Id`, else a new one.

    Proxies give every request an id of their own: a trace that its caller began goes first. What
    is malformed counts as not given.
    """
    traceparent = headers.get(b"traceparent")
    if traceparent is not None and (parent := parent_of(traceparent)) is not None:
        return parent.trace_id
    given = headers.get(b"x-request-id")
    if given is not None and _is_request_id(given):
        return given.decode()
    return f"{_process}{next(_numbers):012x}"
