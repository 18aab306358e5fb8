"""The parameter `asOf`: a position of the log, or a moment that names one.

Both halves' pages understand it in the same way, so that one value is the same past everywhere.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from infra.http.consistency import Applied
from infra.http.problems import Problem, invalid_parameter
from infra.ports.log import Clock

NAME = "asOf"
POSITION_DIGITS_MAX = 18
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
"""Before every log: earlier moments are this one, so that one can count back from all of them."""
_OFFSET = re.compile(r" (\d\d:\d\d)$")
_Moment = Annotated[datetime, Meta(tz=True)]


class Moments(Protocol):
    """What is asked of read tables. Raises `ReadsUnavailable`."""

    async def position_at(self, moment: datetime) -> int: ...

    async def head(self) -> int: ...


async def position_asked(
    parameters: Mapping[str, str], moments: Moments, applied: Applied, clock: Clock
) -> int | None:
    """The position that `asOf` names, once everything up to it is applied; None without one.

    Raises a 422 problem for one that is not understood or lies in the future.
    """
    text = parameters.get(NAME)
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) <= POSITION_DIGITS_MAX:
        position = int(text)
        if position > applied.position and position > await moments.head():
            raise bad_moment("The log has not reached this position yet.")
    else:
        moment = moment_of(text)
        if moment > clock():
            raise bad_moment("This moment has not come yet.")
        position = await moments.position_at(moment)
    await applied.require(position)
    return position


def moment_of(text: str) -> datetime:
    """An RFC 3339 moment. A `+` that nobody escaped arrives as a space."""
    try:
        moment = msgspec.convert(_OFFSET.sub(r"+\1", text), _Moment)
        return max(moment.astimezone(UTC), BEGINNING)
    except (msgspec.ValidationError, OverflowError, ValueError):
        raise bad_moment("`asOf` is a position or an RFC 3339 moment with its offset.") from None


def bad_moment(detail: str) -> Problem:
    return invalid_parameter(NAME, detail)
