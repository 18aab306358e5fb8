"""What every service answers about itself: health, metrics, its contract, and a page to read it."""

from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.http import metrics, openapi
from infra.http.metrics import RequestMetrics
from infra.http.openapi import Operation, described
from infra.http.problems import unavailable

TAG = "Service"
DOCS_PAGE = files("infra.http").joinpath("docs.html").read_bytes()

Ready = Callable[[], Awaitable[str | None]]
"""Answers None when the service can do its work, else what is missing."""


class Health(Struct, frozen=True):
    status: str


OK = b'{"status":"ok"}'


class About(Struct, frozen=True):
    """What the contract says of the service as a whole."""

    title: str
    version: str
    description: str


def routes(
    about: About,
    *,
    others: Sequence[Route],
    metrics_kept: RequestMetrics,
    ready: Ready,
) -> list[Route]:
    """`/health/live`, `/health/ready`, `/metrics`, `/openapi.json` and `/docs`.

    `others` are the service's own routes, which the contract describes together with these.
    """

    @described(Operation(summary="The process runs", tag=TAG, answers={200: Health}, login="none"))
    async def live(_request: Request) -> Response:
        return Response(OK, media_type="application/json")

    @described(
        Operation(
            summary="The service can do its work",
            tag=TAG,
            answers={200: Health},
            refusals=(503,),
            login="none",
        )
    )
    async def readiness(_request: Request) -> Response:
        missing = await ready()
        if missing is not None:
            raise unavailable(missing)
        return Response(OK, media_type="application/json")

    @described(
        Operation(
            summary="Metrics in Prometheus's text format",
            tag=TAG,
            answers={200: None},
            login="none",
            media_type="text/plain",
        )
    )
    async def measured(_request: Request) -> Response:
        return Response(await metrics_kept.text(), headers={"content-type": metrics.MEDIA_TYPE})

    async def contract(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    async def docs(_request: Request) -> Response:
        return Response(DOCS_PAGE, media_type="text/html")

    own = [
        Route("/health/live", live),
        Route("/health/ready", readiness),
        Route("/metrics", measured),
        Route("/openapi.json", contract, include_in_schema=False),
        Route("/docs", docs, include_in_schema=False),
    ]
    document = openapi.document(about.title, about.version, [*others, *own], about.description)
    return own
