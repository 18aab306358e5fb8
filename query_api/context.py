"""What every page is given, and what every request to one starts with."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request

from domain.shared.identifiers import id_number
from infra.http.authentication import Authenticator, header
from infra.http.consistency import Applied, required_position
from infra.http.cursors import Cursors
from infra.http.problems import not_found
from infra.ports.log import Clock
from infra.ports.reads import Reads
from infra.ports.secrets import Keyring
from query_api.as_of import position_asked
from query_api.timelines.items import Items, NoProducts, ProductCards
from query_api.timelines.stages import Stages
from query_api.timelines.viewers import NOBODY, Viewer, Viewers

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
        """See `query_api.as_of.position_asked`."""
        return await position_asked(parameters, self.reads, self.applied, self.clock)


def post_number(request: Request) -> int:
    return _number(request.path_params["postId"], "post")


def _number(text: str, what: str) -> int:
    try:
        return id_number(text)
    except ValueError:
        raise not_found(what) from None


def member_number(text: str) -> int:
    return _number(text, "user")
