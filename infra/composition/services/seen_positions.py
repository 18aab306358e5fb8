"""When a query service could show what: remembered for a while, for `plaza trace`."""

import time
from collections.abc import Callable, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.http.problems import invalid_parameter
from infra.ports.frames import COMMERCE_PARTITIONS, SOCIAL_PARTITIONS
from infra.runtime.projecting.applied_history import AppliedHistory

PAGES = "pages"
PATH = "/applied"
DIGITS_MAX = 19


class SeenPositions:
    """Pages of a half wait for all of its projections together, so one position says it all."""

    def __init__(self) -> None:
        self._history = AppliedHistory()

    def following(self, partitions: range, advance: Callable[[int], None]) -> Callable[[int], None]:
        """The same function, which also remembers when it was told."""
        first, reached = partitions.start, self._history.reached

        def told(position: int) -> None:
            advance(position)
            reached(PAGES, first, position, time.time())

        return told

    def route(self) -> Route:
        """`GET /applied?partition=P&position=N`, as workers answer it; for operators."""

        async def when(request: Request) -> Response:
            partition, position = (
                whole(request.query_params, name) for name in ("partition", "position")
            )
            half = COMMERCE_PARTITIONS if partition in COMMERCE_PARTITIONS else SOCIAL_PARTITIONS
            found = self._history.when(half.start, position)
            return Response(msgspec.json.encode(found), media_type="application/json")

        return Route(PATH, when, include_in_schema=False)


def whole(parameters: Mapping[str, str], name: str) -> int:
    text = parameters.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
        raise invalid_parameter(name, f"`{name}` is a whole number.")
    return int(text)
