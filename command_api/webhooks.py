"""What the payment provider tells us: stored, then acknowledged; what follows comes later."""

from typing import Annotated, Any

from msgspec import Meta, Struct, field
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from command_api.endpoint import Desk
from command_api.market import Market
from domain.commerce.payment.commands import RecordNotification
from infra.http.bodies import read_body
from infra.http.correlation import SCOPE_KEY
from infra.http.entrance import HEADERS_KEY
from infra.http.openapi import Operation
from infra.http.problems import malformed, unauthenticated
from infra.ports.payments import NotificationMalformed, NotificationUnsigned
from infra.runtime.commands.execute import Context

PATH = "/api/webhooks/adyen"
ACCEPTED = b"[accepted]"
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(ACCEPTED))]


class Wrapper(Struct):
    notification_request_item: dict[str, Any] = field(name="NotificationRequestItem")


class Envelope(Struct, rename="camel"):
    """As the provider documents it. What is signed is checked on the items as they came."""

    notification_items: Annotated[list[Wrapper], Meta(min_length=1, max_length=1000)]


class Webhook:
    """An ASGI application. All items of an envelope are stored, or none."""

    operation = Operation(
        summary="Notifications of the payment provider",
        description="Every item must carry the provider's signature. Answered with `[accepted]` "
        "once all are stored; those that came before change nothing.",
        tag="Payments",
        body=Envelope,
        answers={200: None},
        refusals=(400, 401, 413, 503),
        login="none",
        media_type="text/plain",
    )

    def __init__(self, desk: Desk, market: Market) -> None:
        self._execute = desk.executor.execute
        self._read = market.notifications.read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(scope[HEADERS_KEY], receive)
        try:
            items = self._read(body)
        except NotificationMalformed:
            raise malformed("This is no envelope of notifications.") from None
        except NotificationUnsigned:
            raise unauthenticated("An item is not signed as it should be.") from None
        # One envelope may say the same twice.
        distinct = {(i.psp_reference, i.event_code, i.success): i for i in items}
        await self._execute(
            *(RecordNotification(notification=item) for item in distinct.values()),
            context=Context(correlation_id=scope[SCOPE_KEY], causation_id=scope[SCOPE_KEY]),
        )
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": ACCEPTED})


def routes(desk: Desk, market: Market) -> list[Route]:
    return [Route(PATH, Webhook(desk, market), methods=["POST"])]
