"""The query parameters that several pages take, as the contract describes them."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from infra.http.lists import LIMIT_DEFAULT, LIMIT_MAX
from infra.http.openapi import Parameter
from infra.http.problems import invalid_parameter

TEXT_MAX = 300
Text = Annotated[str, Meta(max_length=TEXT_MAX, pattern=r"^[^\x00]*$")]

LIST_PARAMETERS = (
    Parameter(
        "limit",
        Annotated[int, Meta(ge=1, le=LIMIT_MAX)],
        f"How many at most; {LIMIT_DEFAULT} where it is not given.",
    ),
    Parameter("cursor", str, "`nextCursor` of the page before."),
)
AS_OF = Parameter(
    "asOf",
    str,
    "Answer as of this moment (RFC 3339) or log position.",
    example="2026-01-01T00:00:00Z",
)
LOG_POSITION = Parameter(
    "Log-Position",
    str,
    "Wait, up to two seconds, until what this position names can be seen.",
    where="header",
)


def text_of(parameters: Mapping[str, str], name: str) -> str | None:
    """A parameter that texts are compared with: none of these has a NUL, nor could be asked for."""
    text = parameters.get(name)
    if text is not None and len(text) > TEXT_MAX:
        raise invalid_parameter(name, f"`{name}` has {TEXT_MAX} characters at most.")
    if text is not None and "\0" in text:
        raise invalid_parameter(name, f"`{name}` has no NUL.")
    return text
