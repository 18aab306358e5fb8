"""The parameters that every list takes, read and checked."""

from collections.abc import Mapping
from typing import TypeVar

from infra.http.problems import Problem, invalid_parameter

LIMIT_DEFAULT = 20
LIMIT_MAX = 100
_LIMIT_DIGITS_MAX = 3

C = TypeVar("C", bound=str)


def limit_of(parameters: Mapping[str, str]) -> int:
    """`?limit=`, 20 where it is not given. Raises a 422 problem outside of 1 to 100."""
    text = parameters.get("limit")
    if text is None:
        return LIMIT_DEFAULT
    if not (text.isascii() and text.isdigit() and len(text) <= _LIMIT_DIGITS_MAX):
        raise bad_limit()
    limit = int(text)
    if not 1 <= limit <= LIMIT_MAX:
        raise bad_limit()
    return limit


def bad_limit() -> Problem:
    return invalid_parameter("limit", f"`limit` is a whole number from 1 to {LIMIT_MAX}.")


def choice_of(parameters: Mapping[str, str], name: str, allowed: tuple[C, ...]) -> C:
    """The value of a parameter with a fixed set of values; the first is the default."""
    value = parameters.get(name, allowed[0])
    for choice in allowed:
        if choice == value:
            return choice
    raise invalid_parameter(name, f"`{name}` is one of {', '.join(allowed)}.")
