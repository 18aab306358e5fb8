"""What can go wrong for a verb that asks the log something, told in words."""

import contextlib
from collections.abc import Iterator

from infra.command_line.verb import Failure
from infra.ports.log import LogUnavailable


@contextlib.contextmanager
def told_in_words(*nothing_found: type[Exception]) -> Iterator[None]:
    """Raises `Failure` in place of these and of `LogUnavailable`."""
    try:
        yield
    except nothing_found as problem:
        raise Failure(str(problem)) from None
    except LogUnavailable as problem:
        raise Failure(f"the log cannot be reached: {problem}") from problem
