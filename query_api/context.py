"""What every page is given, and what every request to one starts with."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request

from domain.shared.identifiers import id_number
from infra.http.authentication import Authenticator, header
from infra.http.consistency import Applied, required_position
from infra.http.cursors import Cursors
from infra.http.problems import Problem, invalid_parameter, not_found
from infra.ports import Clock, Keyring
from infra.reads import Reads
from query_api.items import Items, NoProducts, ProductCards
from query_api.stages import Stages
from query_api.viewers import NOBODY, Viewer, Viewers

POSITION_DIGITS_MAX = 18
_OFFSET = re.compile(r" (\d\d:\d\d)$")
_Moment = Annotated[datetime, Meta(tz=True)]

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Context:
    """The parts that pages are made with.

    `newest` answers the newest position that the read tables have heard of. `username_key` is
    how a user name is looked up.
    """

    reads: Reads
    items: Items
    viewers: Viewers
    keyring: Keyring
    authenticator: Authenticator
    applied: Applied
    cursors: Cursors
    clock: Clock
    newest: Callable[[], Awaitable[int]]
    username_key: Callable[[str], str]
    stages: Stages
    products: ProductCards = field(default_factory=NoProducts)

    async def reader(self, headers: Headers) -> Viewer:
        """Who asks, with or without a session, once what they must not miss is applied."""
        authorization = header(headers, b"authorization")
        session = self.authenticator.identify(authorization)
        if await self.caught_up(required_position(headers)):
            session = self.authenticator.identify(authorization)
        return NOBODY if session is None else await self.viewers.get(session.member_id)

    async def caught_up(self, position: int) -> bool:
        """Wait for what the caller must not miss; answers whether that took any waiting, in which
        the session may have ended."""
        if position <= self.applied.position:
            return False
        await self.applied.require(position)
        return True

    async def as_of(self, parameters: Mapping[str, str]) -> int | None:
        """The position that `asOf` names, once everything up to it is applied.

        Raises a 422 problem for one that is not understood or lies in the future.
        """
        text = parameters.get("asOf")
        if text is None:
            return None
        if text.isascii() and text.isdigit() and len(text) <= POSITION_DIGITS_MAX:
            position = int(text)
            if position > self.applied.position and position > await self.reads.head():
                raise bad_moment("The log has not reached this position yet.")
        else:
            moment = moment_of(text)
            if moment > self.clock():
                raise bad_moment("This moment has not come yet.")
            position = await self.reads.position_at(moment)
        await self.applied.require(position)
        return position


def moment_of(text: str) -> datetime:
    """An RFC 3339 moment. A `+` that nobody escaped arrives as a space."""
    try:
        moment = msgspec.convert(_OFFSET.sub(r"+\1", text), _Moment)
        return moment.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError, ValueError):
        raise bad_moment("`asOf` is a position or an RFC 3339 moment with its offset.") from None


def bad_moment(detail: str) -> Problem:
    return invalid_parameter("asOf", detail)


def post_number(request: Request) -> int:
    return _number(request.path_params["post_id"], "post")


def _number(text: str, what: str) -> int:
    try:
        return id_number(text)
    except ValueError:
        raise not_found(what) from None


def member_number(text: str) -> int:
    return _number(text, "user")
