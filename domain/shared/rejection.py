"""How a business rule says no."""

from dataclasses import dataclass
from typing import ClassVar


class Rejection(Exception):
    """Nothing was recorded. The fields of a rejection say what the caller needs to know."""

    title: ClassVar[str]


class Conflict(Rejection):
    """The command makes sense, but not in the present state."""


class NotFound(Rejection):
    """The command names something that does not exist."""


class Forbidden(Rejection):
    """The caller may not do this."""


@dataclass(eq=False)
class Invalid(Rejection):
    """A value is outside of what is allowed, in whatever state.

    `pointer` is a JSON pointer into the request.
    """

    title = "A value is not allowed"
    pointer: str
    detail: str
