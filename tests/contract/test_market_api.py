"""What a client that sells and buys may rely on: the contract, refusals, and what is kept where."""

import asyncio
import itertools
from collections.abc import Collection, Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from command_api.market import Market
from infra.adapters.payments.adyen_webhooks import AdyenNotifications
from infra.http.idempotency import KEY_LENGTH_MAX, is_key
from infra.http.openapi import undescribed
from infra.http.rate_limits import Limit
from tests.contract.command_service import NOON, Member, Service, assert_problem, pointers
from tests.contract.provider import HMAC_KEY, card
from tests.fault.till import MemorySecrets
from tests.market import ADDRESS

COMMANDS = {
    "POST /api/shops",
    "POST /api/products",
    "PATCH /api/products/{productId}",
    "POST /api/products/{productId}/stock",
    "PUT /api/cart/items/{productId}",
    "DELETE /api/cart/items/{productId}",
    "POST /api/checkouts",
    "POST /api/checkouts/{checkoutId}/payment-details",
    "POST /api/orders/{orderId}/cancel",
    "POST /api/orders/{orderId}/returns",
    "POST /api/orders/{orderId}/shipments",
    "POST /api/orders/{orderId}/delivery",
    "POST /api/webhooks/adyen",
}
LISTING = {
    "title": "Mug",
    "description": "Holds tea.",
    "category": "Kitchen",
    "price": {"currency": "EUR", "value": 1999},
}
BUYING = {"paymentMethod": card(), "shippingAddress": ADDRESS}

Case = schemathesis.Case[Any]


class NothingKnown:
    """A read table that is always behind."""

    async def available(self, product_ids: Collection[int]) -> Mapping[int, int]:
        del product_ids
        return {}


def market_service(limits: Mapping[str, Limit] | None = None) -> tuple[Service, MemorySecrets]:
    secrets = MemorySecrets()
    market = Market(
        secrets=secrets,
        notifications=AdyenNotifications(HMAC_KEY),
        availability=NothingKnown(),
        hold_seconds=600,
        clock=lambda: NOON,
    )
    return Service(limits=limits, market=market), secrets


SERVICE, _ = market_service()
MEMBER = asyncio.run(SERVICE.sign_up("ada"))
numbers = itertools.count()
commands = schemathesis.openapi.from_asgi("/openapi.json", SERVICE.app).include(
    path_regex="/api/(shops|products|cart|checkouts|orders|webhooks)"
)


@pytest.mark.thorough
@commands.parametrize()
@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_commands_are_answered_as_documented(case: Case) -> None:
    key = case.headers.get("Idempotency-Key")
    if isinstance(key, str) and is_key(key.encode(errors="replace")):
        case.headers["Idempotency-Key"] = f"{next(numbers)}-{key}"[:KEY_LENGTH_MAX].strip()
    case.call_and_validate(headers={"Authorization": f"Bearer {MEMBER.token}"})


def test_every_command_of_the_market_is_in_the_contract_and_describes_itself() -> None:
    paths = asyncio.run(SERVICE.client.get("/openapi.json")).json()["paths"]
    found = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert found >= COMMANDS
    assert undescribed(SERVICE.app.routes) == []


@pytest.fixture
async def seller() -> Member:
    service, _ = market_service()
    seller = await service.sign_up()
    answer = await seller.send("POST", "/api/shops", json={"name": "Mugs", "country": "DE"})
    assert answer.status_code == 201
    return seller


async def product_of(seller: Member, units: int = 5) -> str:
    answer = await seller.send("POST", "/api/products", json=LISTING)
    product_id = str(answer.json()["productId"])
    stock = {"quantity": units, "reference": "d1"}
    received = await seller.send("POST", f"/api/products/{product_id}/stock", json=stock)
    assert received.json() == {"onHand": units, "available": units}
    return product_id


async def test_a_member_has_one_shop(seller: Member) -> None:
    again = await seller.send("POST", "/api/shops", json={"name": "More", "country": "DE"})
    assert_problem(again, 409, "shop-already-open")


async def test_only_sellers_list_products(seller: Member) -> None:
    other = await seller.service.sign_up()
    refused = await other.send("POST", "/api/products", json=LISTING)
    assert_problem(refused, 403, "not-a-seller")
    product = await product_of(seller)
    changed = await other.send("PATCH", f"/api/products/{product}", json={"title": "Mine"})
    assert_problem(changed, 403, "not-the-seller")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("title", ""),
        ("title", "x" * 201),
        ("title", "\0"),
        ("category", 7),
        ("price", {"currency": "EUR", "value": 0}),
        ("price", {"currency": "euro", "value": 1}),
        ("mediaUrls", ["http://example.org/insecure.jpg"]),
        ("attributes", {"a": [1]}),
        ("unknown", 1),
    ],
)
async def test_a_bad_product_is_refused_with_a_pointer(
    seller: Member, member: str, value: Any
) -> None:
    refused = await seller.send("POST", "/api/products", json={**LISTING, member: value})
    assert_problem(refused, 422, "invalid-request")
    assert pointers(refused)[0].startswith(f"/{member}")


async def test_a_cart_names_the_post_where_a_product_was_met(seller: Member) -> None:
    product, post = await product_of(seller), await seller.post()
    path = f"/api/cart/items/{product}"
    put = await seller.send("PUT", path, json={"quantity": 1, "sourcePostId": post})
    assert put.status_code == 200
    # What was read a moment ago may have been deleted since.
    await seller.send("DELETE", f"/api/posts/{post}")
    again = await seller.send("PUT", path, json={"quantity": 2, "sourcePostId": post})
    assert again.status_code == 200
    before = await seller.service.events()
    for unknown in ("0" * 13, product, "nope", ""):
        refused = await seller.send("PUT", path, json={"quantity": 1, "sourcePostId": unknown})
        assert_problem(refused, 404, "not-found")
        assert pointers(refused) == ["/sourcePostId"]
    assert await seller.service.events() == before


async def test_what_is_no_id_cannot_be_sent_back(seller: Member) -> None:
    body = {"items": [{"productId": "nope", "quantity": 1}], "reason": "broken"}
    refused = await seller.send("POST", f"/api/orders/{'0' * 13}/returns", json=body)
    assert_problem(refused, 404, "not-found")
    assert pointers(refused) == ["/items/0/productId"]


async def test_a_stale_table_sends_no_buyer_away(seller: Member) -> None:
    buyer = await seller.service.sign_up()
    product = await product_of(seller)
    await buyer.send("PUT", f"/api/cart/items/{product}", json={"quantity": 5})
    answer = await buyer.send("POST", "/api/checkouts", key="k1", json=BUYING)
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] == "pending"
    assert len(answer.json()["orderIds"]) == 1


async def test_more_than_there_is_can_be_put_but_not_bought(seller: Member) -> None:
    buyer = await seller.service.sign_up()
    product = await product_of(seller)
    put = await buyer.send("PUT", f"/api/cart/items/{product}", json={"quantity": 6})
    assert put.json() == {"productId": product, "quantity": 6}
    refused = await buyer.send("POST", "/api/checkouts", key="k1", json=BUYING)
    problem = assert_problem(refused, 409, "cart-has-problems")
    assert problem["problems"] == [
        {"productId": product, "code": "insufficient_stock", "available": 5}
    ]


@pytest.mark.parametrize("address", ["https://a.example/back?of=1", "http://localhost:3000/back"])
async def test_a_buyer_comes_back_to_any_web_address(seller: Member, address: str) -> None:
    product = await product_of(seller)
    await seller.send("PUT", f"/api/cart/items/{product}", json={"quantity": 1})
    body = {**BUYING, "returnUrl": address}
    answer = await seller.send("POST", "/api/checkouts", key="k1", json=body)
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("address", ["javascript:alert(1)", "/back", "ftp://a.example", "http://"])
async def test_what_is_no_web_address_leads_nobody_back(seller: Member, address: str) -> None:
    body = {**BUYING, "returnUrl": address}
    refused = await seller.send("POST", "/api/checkouts", key="k1", json=body)
    assert_problem(refused, 422, "invalid-request")
    assert pointers(refused) == ["/returnUrl"]


async def test_details_hold_no_nul(seller: Member) -> None:
    path = "/api/checkouts/0000000000000/payment-details"
    refused = await seller.send("POST", path, json={"details": {"redirectResult": "a\0"}})
    assert_problem(refused, 422, "invalid-request")
    assert pointers(refused) == ["/details"]


async def test_a_purchase_too_many_is_too_many() -> None:
    service, _ = market_service({"POST /api/checkouts": Limit(per_minute=1, burst=3)})
    buyer = await service.sign_up()
    found = [
        (await buyer.send("POST", "/api/checkouts", key=f"k{n}", json=BUYING)).status_code
        for n in range(4)
    ]
    assert found == [409, 409, 409, 429]


async def test_what_is_entrusted_is_kept_in_the_vault_and_not_in_the_log() -> None:
    service, secrets = market_service()
    seller = await service.sign_up()
    await seller.send("POST", "/api/shops", json={"name": "Mugs", "country": "DE"})
    product = await product_of(seller)
    await seller.send("PUT", f"/api/cart/items/{product}", json={"quantity": 1})
    answer = await seller.send("POST", "/api/checkouts", key="k1", json=BUYING)
    assert list(secrets.kept) == [(answer.json()["checkoutId"], "payment")]
    logged = repr(await service.log.read(0, 1000))
    assert "4111111111111111" not in logged
    assert "encryptedCardNumber" not in logged


async def test_a_checkout_that_is_refused_leaves_nothing_in_the_vault() -> None:
    service, secrets = market_service()
    buyer = await service.sign_up()
    refused = await buyer.send("POST", "/api/checkouts", key="k1", json=BUYING)
    assert_problem(refused, 409, "cart-empty")
    assert secrets.kept == {}
