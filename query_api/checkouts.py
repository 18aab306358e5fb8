"""Where one's checkout stands, step by step."""

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.shared.identifiers import id_number, id_text
from infra.http.openapi import Operation, Parameter, described
from infra.http.problems import not_found
from query_api.market import Market, answer, id_in_path
from query_api.parameters import LOG_POSITION
from query_api.shapes.commerce import CheckoutPage, Failure, Step

TAG = "Checkouts"


def routes(market: Market) -> list[Route]:
    @described(
        Operation(
            summary="A checkout of one's own",
            tag=TAG,
            answers={200: CheckoutPage},
            parameters=[
                Parameter("checkoutId", str, "The checkout's id.", where="path"),
                LOG_POSITION,
            ],
            refusals=(401, 404, 422, 503),
        )
    )
    async def checkout(request: Request) -> Response:
        member_id = await market.member(request.scope["headers"])
        number = id_in_path(request, "checkoutId", "checkout")
        found = await market.reads.checkout(number)
        if found is None or found[0].member_id != id_number(member_id):
            raise not_found("checkout")
        row, moments = found
        # A step is where it was last: one that was asked twice stands here once.
        steps = {moment.name: Step(*moment) for moment in moments}
        failure = None
        if row.failure_code is not None:
            failure = Failure(row.failure_code, row.failure_detail or "")
        return answer(
            CheckoutPage(
                checkout_id=id_text(row.checkout_id),
                status=row.status,
                order_ids=list(row.order_ids),
                steps=list(steps.values()),
                action=msgspec.json.decode(row.action) if row.action else UNSET,
                failure=failure or UNSET,
            )
        )

    return [Route("/api/checkouts/{checkoutId}", checkout)]
