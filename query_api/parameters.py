"""The query parameters that several pages take, as the contract describes them."""

from typing import Annotated

from msgspec import Meta

from infra.http.lists import LIMIT_DEFAULT, LIMIT_MAX
from infra.http.openapi import Parameter

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
