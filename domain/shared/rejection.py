"""How a business rule says no."""

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


class Invalid(Rejection):
    """A value is outside of what is allowed. `pointer` is a JSON pointer into the request."""

    pointer: str
    detail: str
