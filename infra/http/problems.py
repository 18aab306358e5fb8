"""Every refusal leaves as an RFC 9457 problem document.

Handlers raise: a `Problem`, a rejection of the domain, or what decoding a body raises. `problem_of`
turns any of them into a `Problem`; what it does not know is a fault of ours: a 500 without details.
"""

import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.exceptions import HTTPException
from starlette.responses import Response

from domain.shared.rejection import Conflict, Forbidden, Invalid, NotFound, Rejection
from infra.ports.log import LogUnavailable, StreamMoved
from infra.ports.reads import ReadsUnavailable
from infra.ports.secrets import KeyDestroyed

MEDIA_TYPE = "application/problem+json"
UNAVAILABLE_RETRY_SECONDS = 1
LOG_AWAY = (
    "The event log cannot be reached. Ask again: with an Idempotency-Key nothing is done twice."
)


class FieldError(Struct, frozen=True, rename="camel"):
    """One thing that is wrong with a request: `pointer` into its body, or the query parameter."""

    detail: str
    pointer: str | UnsetType = UNSET
    parameter: str | UnsetType = UNSET
    header: str | UnsetType = UNSET


class ProblemDocument(Struct, frozen=True, rename="camel"):
    """What every refusal looks like; some types have members of their own besides."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | UnsetType = UNSET


class Problem(Exception):
    """A refusal on its way out. `kind` is the last part of its type; `members` are its own."""

    def __init__(  # noqa: PLR0913
        self,
        status: int,
        kind: str,
        title: str,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{status} {kind}")
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail or title
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.members = dict(members or {})

    def body(self) -> bytes:
        document = {
            "type": f"/problems/{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = self.errors
        return msgspec.json.encode(self.members | document)

    def response(self) -> Response:
        return Response(self.body(), self.status, self.headers, MEDIA_TYPE)


def invalid(*errors: FieldError) -> Problem:
    detail = "; ".join(error.detail for error in errors)
    return Problem(422, "invalid-request", "The request is not valid", detail, errors=errors)


def invalid_field(pointer: str, detail: str) -> Problem:
    """A value in the body is outside of what is allowed."""
    return invalid(FieldError(detail, pointer=pointer))


def invalid_parameter(name: str, detail: str) -> Problem:
    """A value in the query string is outside of what is allowed."""
    return invalid(FieldError(detail, parameter=name))


def invalid_header(name: str, detail: str) -> Problem:
    return invalid(FieldError(detail, header=name))


def malformed(detail: str) -> Problem:
    return Problem(400, "malformed-request", "The request is not JSON", detail)


def unaddressed() -> Problem:
    return Problem(
        400, "malformed-request", "The request is not HTTP", "It has to name its host, and once."
    )


def too_large(bytes_max: int, *, close: bool) -> Problem:
    """`close`: the connection cannot serve another request, since the rest is not read."""
    detail = f"A body may have {bytes_max} bytes at most."
    headers = {"Connection": "close"} if close else {}
    return Problem(413, "too-large", "The request is too large", detail, headers=headers)


def unauthenticated(detail: str) -> Problem:
    headers = {"WWW-Authenticate": 'Bearer realm="plaza"'}
    return Problem(401, "unauthenticated", "Log in first", detail, headers=headers)


def not_found(what: str = "what was asked for") -> Problem:
    return Problem(404, "not-found", "Not found", f"There is no {what} here.")


def unavailable(detail: str, seconds: int = UNAVAILABLE_RETRY_SECONDS) -> Problem:
    headers = {"Retry-After": str(seconds)}
    return Problem(503, "unavailable", "Not available at the moment", detail, headers=headers)


def internal() -> Problem:
    return Problem(500, "internal", "Something broke on our side", "It has been recorded.")


STATUS: dict[type[Rejection], int] = {Conflict: 409, NotFound: 404, Forbidden: 403, Invalid: 422}


def problem_of(error: Exception) -> Problem:  # noqa: PLR0911
    """The problem document for any exception; `internal()` for one that nobody foresaw."""
    match error:
        case Problem():
            return error
        case Invalid():
            return invalid_field(error.pointer, error.detail)
        case Rejection():
            return _rejected(error)
        case msgspec.ValidationError():
            return _invalid(error)
        case StreamMoved():
            return unavailable("Too many changes at once. Try again.")
        case LogUnavailable():
            return unavailable(LOG_AWAY)
        case ReadsUnavailable():
            return unavailable("The read tables cannot be reached. Try again.")
        case KeyDestroyed():
            return unauthenticated("The account has been erased.")
        case HTTPException():
            return _of_status(error.status_code, error.headers)
        case _:
            return internal()


def _rejected(error: Rejection) -> Problem:
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    members = {_camel(name): value for name, value in vars(error).items() if name != "detail"}
    detail = str(vars(error).get("detail", ""))
    return Problem(status, _kebab(type(error).__name__), error.title, detail, members=members)


def _of_status(status: int, headers: Mapping[str, str] | None = None) -> Problem:
    phrase = HTTPStatus(status).phrase
    detail = {
        404: "There is nothing at this address.",
        405: "This address does not take that method; `Allow` names those it takes.",
    }.get(status, phrase)
    kind = phrase.lower().replace(" ", "-")
    return Problem(status, kind, phrase, detail, headers=headers)


# msgspec ends its message with the JSON path at fault: "... - at `$.quantity`", and names a member
# that is missing or unknown in the message itself. Which value of a mapping it was, it does not
# tell, and says `$.attributes[...]`: then the mapping is what we point at.
_MEMBER = re.compile(r"(?:missing required|unknown) field `([^`]*)`")


def _invalid(error: msgspec.ValidationError) -> Problem:
    detail, _, path = str(error).partition(" - at `")
    known, mapping, _ = path.rstrip("`").partition("[...]")
    parts = re.findall(r"\.([^.\[]+)|\[(\d+)\]", known)
    pointer = "".join(f"/{escape(name or index)}" for name, index in parts)
    if not mapping and (member := _MEMBER.search(detail)):
        pointer += f"/{escape(member[1])}"
    return invalid_field(pointer, detail)


def escape(part: str) -> str:
    """A member's name as a part of a JSON pointer (RFC 6901)."""
    return part.replace("~", "~0").replace("/", "~1")


def undecodable(body: bytes, error: Exception) -> Problem:
    """The problem with a body that a decoder refused: which field, if it is one field's value.

    A decoder refuses a value as soon as it sees it, also in a body that is not JSON further on.
    """
    try:
        msgspec.json.decode(body)
    except UnicodeDecodeError:
        return malformed("The body is not UTF-8.")
    except RecursionError:
        return malformed("The body is nested too deeply.")
    except msgspec.DecodeError as fault:
        if (pointer := _lone_surrogate(body)) is not None:
            return invalid_field(pointer, "A lone surrogate is not text.")
        return malformed(str(fault) if body else "There is no body.")
    return problem_of(error)


def _lone_surrogate(body: bytes) -> str | None:
    """Where in a JSON document a lone surrogate stands; msgspec says only that there is one."""
    try:
        return _surrogate_in(json.loads(body), "")
    except (ValueError, RecursionError):
        return None


def _surrogate_in(value: Any, pointer: str) -> str | None:
    if isinstance(value, str):
        return pointer if any("\ud800" <= letter <= "\udfff" for letter in value) else None
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, inner in pairs:
        found = _surrogate_in(inner, f"{pointer}/{escape(str(key))}")
        if found is not None:
            return found
    return None


def _kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
