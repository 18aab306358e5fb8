"""A shopper's journeys over both services, the processes and the stand-in: real servers."""

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from domain.shared.identifiers import id_number
from infra.servers.adyen_stand_in.notifications import envelope, signed
from tests.contract.provider import ACCOUNT, StandIn, card
from tests.fault.system import System
from tests.journey import from_post_to_return
from tests.market import Market, Member

HOLD_SECONDS = 4


@pytest.fixture(scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    folder = tmp_path_factory.mktemp("buying")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    started = System(folder, settings={"PLAZA_RESERVATION_SECONDS": str(HOLD_SECONDS)})
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def market(system: System) -> AsyncIterator[Market]:
    async with Market.open(system.command_url, system.query_url) as opened:
        yield opened


@pytest.fixture(scope="module")
async def provider(system: System) -> StandIn:
    rows = msgspec.json.decode(await system.plaza("config", "--json"))
    (url,) = [row["value"] for row in rows if row["name"] == "PLAZA_ADYEN_BASE_URL"]
    return StandIn(None, url)  # type: ignore[arg-type]


def hmac_key(system: System) -> str:
    kept = msgspec.json.decode((system.folder / "adyen-keys.json").read_bytes())
    return str(kept["adyen_hmac_key"])


def paid(provider: StandIn, checkout_id: str) -> list[dict[str, Any]]:
    return [p for p in provider.books()["payments"] if p["reference"] == checkout_id]


async def until(holds: Callable[[], Awaitable[object]], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.02)


async def until_asked(provider: StandIn, checkout_id: str) -> dict[str, Any]:
    """The provider's payment, once there is one."""

    async def there() -> object:
        return paid(provider, checkout_id)

    await until(there)
    return paid(provider, checkout_id)[0]


async def test_from_a_product_in_a_post_to_a_returned_order(market: Market) -> None:
    await from_post_to_return(market)


async def test_a_post_names_no_product_that_there_is_not(market: Market) -> None:
    member = await market.member()
    asked = {"content": "Look", "productIds": ["0" * 13]}
    refused = await member.try_("POST", "/api/posts", asked)
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (404, "/productIds/0")


async def test_orders_and_carts_of_others_do_not_exist(market: Market) -> None:
    seller, buyer, eve = await market.seller(), await market.member(), await market.member()
    done = await buyer.bought(await seller.list_product())
    for path in (f"/api/checkouts/{done['checkoutId']}", f"/api/orders/{done['orderIds'][0]}"):
        assert (await eve.look(path, buyer.position)).status == 404
    assert (await eve.try_("POST", f"/api/orders/{done['orderIds'][0]}/cancel")).status == 404


async def test_one_order_a_shop_and_one_payment_for_all(market: Market, provider: StandIn) -> None:
    one, other, buyer = await market.seller(), await market.seller(), await market.member()
    first, second = await one.list_product(price=100), await other.list_product(price=250)
    await buyer.put(first, 2)
    await buyer.put(second, 1)
    started = await buyer.buy()
    assert len(started["orderIds"]) == 2
    assert (await buyer.finished(started["checkoutId"]))["status"] == "confirmed"
    pages = [await buyer.see(f"/api/orders/{id_}") for id_ in started["orderIds"]]
    assert sorted(page["total"]["value"] for page in pages) == [200, 250]
    (payment,) = paid(provider, started["checkoutId"])
    assert payment["value"] == 450
    assert [(m["kind"], m["value"]) for m in payment["movements"]] == [("capture", 450)]


@pytest.mark.parametrize("name", ["DECLINED", "NOT_ENOUGH_BALANCE", "ERROR"])
async def test_a_refused_payment_gives_units_and_cart_back(market: Market, name: str) -> None:
    seller, buyer = await market.seller(), await market.member()
    product = await seller.list_product(units=5)
    done = await buyer.bought(product, 2, name)
    assert (done["status"], done["failure"]["code"]) == ("rejected", "payment_refused")
    assert {step["name"]: step["status"] for step in done["steps"]} == {
        "reserve": "undone",
        "authorise": "failed",
    }
    assert (await buyer.look(f"/api/orders/{done['orderIds'][0]}")).status == 404
    assert [(i["productId"], i["quantity"]) for i in (await buyer.see("/api/cart"))["items"]] == [
        (product, 2)
    ]
    assert (await buyer.see(f"/api/products/{product}"))["available"] == 5


async def test_problems_of_a_cart_keep_it_from_being_bought(market: Market) -> None:
    seller, buyer = await market.seller(), await market.member()
    mug, pot, pan = [await seller.list_product(units=3) for _ in range(3)]
    for product, quantity in ((mug, 1), (pot, 9), (pan, 1)):
        await buyer.put(product, quantity)
    dearer = {"currency": "EUR", "value": 2500}
    await seller.do("PATCH", f"/api/products/{mug}", {"price": dearer})
    await seller.do("PATCH", f"/api/products/{pan}", {"forSale": False})
    cart = await buyer.see("/api/cart", seller.position)
    assert [[p["code"] for p in i["problems"]] for i in cart["items"]] == [
        ["price_changed"],
        ["insufficient_stock"],
        ["unavailable"],
    ]
    refused = await buyer.try_to_buy()
    assert refused.status == 409
    assert {(p["productId"], p["code"]) for p in refused.body["problems"]} == {
        (mug, "price_changed"),
        (pot, "insufficient_stock"),
        (pan, "unavailable"),
    }
    await buyer.put(mug, 1)
    await buyer.put(pot, 3)
    await buyer.do("DELETE", f"/api/cart/items/{pan}")
    done = await buyer.finished((await buyer.buy())["checkoutId"])
    assert done["status"] == "confirmed"


async def test_a_price_change_reaches_every_page_and_no_post(market: Market) -> None:
    seller, buyer = await market.seller(), await market.member()
    product = await seller.list_product(price=1000)
    asked = {"content": "Look", "productIds": [product]}
    post = (await seller.do("POST", "/api/posts", asked)).body["postId"]
    assert (await buyer.see(f"/api/posts/{post}", seller.position))["products"][0]["price"] == {
        "currency": "EUR",
        "value": 1000,
    }
    before = seller.position
    cheaper = {"currency": "EUR", "value": 900}
    await seller.do("PATCH", f"/api/products/{product}", {"price": cheaper})

    async def shown_cheaper() -> bool:
        return bool((await buyer.see(f"/api/posts/{post}"))["products"][0]["price"] == cheaper)

    await until(shown_cheaper)
    assert (await buyer.see(f"/api/products/{product}", seller.position))["price"] == cheaper
    then = await buyer.see(f"/api/products/{product}?asOf={before}")
    assert then["price"] == {"currency": "EUR", "value": 1000}


async def test_a_redirect_and_back(market: Market) -> None:
    seller, buyer = await market.seller(), await market.member()
    await buyer.put(await seller.list_product())
    back = "https://shop.example/back"
    started = await buyer.buy(card("4212345678901237"), returnUrl=back)
    checkout_id = started["checkoutId"]
    waiting = await buyer.until(checkout_id, {"awaiting_action"})
    assert waiting["action"]["type"] == "redirect"
    token = waiting["action"]["url"].partition("/redirect/")[2].partition("?")[0]
    path = f"/api/checkouts/{checkout_id}/payment-details"
    details = {"details": {"redirectResult": f"{token}.approved"}}
    assert (await buyer.do("POST", path, details)).status == 202
    assert (await buyer.finished(checkout_id))["status"] == "confirmed"
    again = await buyer.try_("POST", path, details)
    assert again.status == 409


async def test_a_challenge_that_is_not_passed(market: Market) -> None:
    seller, buyer = await market.seller(), await market.member()
    await buyer.put(await seller.list_product())
    checkout_id = (await buyer.buy(card("4917610000000000")))["checkoutId"]
    path = f"/api/checkouts/{checkout_id}/payment-details"
    for word in ("fingerprint", "refused"):
        waiting = await buyer.until(checkout_id, {"awaiting_action"})
        token = waiting["action"]["token"]
        await buyer.do("POST", path, {"details": {"threeDSResult": f"{token}.{word}"}})
    done = await buyer.finished(checkout_id)
    assert (done["status"], done["failure"]["code"]) == ("rejected", "payment_refused")


async def test_a_buyer_who_never_comes_back_holds_nothing_for_long(
    market: Market, provider: StandIn
) -> None:
    seller, buyer = await market.seller(), await market.member()
    product = await seller.list_product(units=1)
    await buyer.put(product)
    checkout_id = (await buyer.buy(card("4212345678901237")))["checkoutId"]
    await buyer.until(checkout_id, {"awaiting_action"})
    began = time.monotonic()
    assert (await buyer.see(f"/api/products/{product}"))["available"] == 0

    async def given_back() -> bool:
        return bool((await buyer.see(f"/api/products/{product}", "0"))["available"])

    await until(given_back)
    assert time.monotonic() - began > HOLD_SECONDS - 1.0
    done = await buyer.finished(checkout_id)
    assert (done["status"], done["failure"]["code"]) == ("cancelled", "expired")
    # The bank says yes all the same, after everybody has gone home: the money is given free.
    (payment,) = paid(provider, checkout_id)
    provider.ask(f"/admin/payments/{payment['psp_reference']}/authorise", b"")

    async def cancelled() -> bool:
        return bool(paid(provider, checkout_id)[0]["state"] == "cancelled")

    await until(cancelled)
    assert (await buyer.see(f"/api/products/{product}"))["available"] == 1


async def test_a_payment_that_succeeds_after_the_hold_takes_the_units_again(
    market: Market, provider: StandIn
) -> None:
    seller, buyer = await market.seller(), await market.member()
    product = await seller.list_product(units=1)
    await buyer.put(product)
    checkout_id = (await buyer.buy(card(name="PENDING")))["checkoutId"]
    payment = await until_asked(provider, checkout_id)
    await asyncio.sleep(HOLD_SECONDS + 1)
    assert (await buyer.see(f"/api/products/{product}"))["available"] == 1
    provider.ask(f"/admin/payments/{payment['psp_reference']}/authorise", b"")
    assert (await buyer.finished(checkout_id))["status"] == "confirmed"
    assert (await buyer.see(f"/api/products/{product}"))["available"] == 0


async def test_a_payment_that_succeeds_after_the_units_are_gone_is_cancelled(
    market: Market, provider: StandIn
) -> None:
    seller, buyer, faster = await market.seller(), await market.member(), await market.member()
    product = await seller.list_product(units=1)
    await buyer.put(product)
    checkout_id = (await buyer.buy(card(name="PENDING")))["checkoutId"]
    payment = await until_asked(provider, checkout_id)
    await asyncio.sleep(HOLD_SECONDS + 1)
    assert (await faster.bought(product))["status"] == "confirmed"
    provider.ask(f"/admin/payments/{payment['psp_reference']}/authorise", b"")
    done = await buyer.finished(checkout_id)
    assert (done["status"], done["failure"]["code"]) == ("rejected", "insufficient_stock")
    assert paid(provider, checkout_id)[0]["state"] == "cancelled"


async def test_a_capture_that_fails_once_is_captured_under_a_new_key(
    market: Market, provider: StandIn
) -> None:
    seller, buyer = await market.seller(), await market.member()
    done = await buyer.bought(await seller.list_product(price=700), 1, "CAPTURE_FAILED_ONCE")
    (order_id,) = done["orderIds"]
    deadline = time.monotonic() + 20
    while len(paid(provider, done["checkoutId"])[0]["movements"]) < 2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    order = await buyer.order_until(order_id, lambda page: page["payment"]["captured"]["value"])
    assert (order["status"], order["payment"]["status"]) == ("confirmed", "captured")
    movements = paid(provider, done["checkoutId"])[0]["movements"]
    assert [(m["kind"], m["failed"]) for m in movements] == [("capture", True), ("capture", False)]


async def test_a_capture_that_always_fails_ends_without_money_and_with_the_units_back(
    market: Market, provider: StandIn
) -> None:
    seller, buyer = await market.seller(), await market.member()
    product = await seller.list_product(units=4)
    done = await buyer.bought(product, 2, "CAPTURE_REFUSED")
    assert (done["status"], done["failure"]["code"]) == ("rejected", "capture_failed")
    assert (await buyer.see(f"/api/products/{product}"))["available"] == 4
    (payment,) = paid(provider, done["checkoutId"])
    assert payment["state"] == "cancelled"
    assert (await buyer.see(f"/api/orders/{done['orderIds'][0]}"))["status"] == "rejected"


async def test_a_cancelled_order_is_refunded_and_restocked(
    market: Market, provider: StandIn
) -> None:
    seller, buyer = await market.seller(), await market.member()
    product = await seller.list_product(units=2)
    done = await buyer.bought(product, 2)
    (order_id,) = done["orderIds"]
    await buyer.do("POST", f"/api/orders/{order_id}/cancel")
    order = await buyer.order_until(order_id, lambda page: page["payment"]["status"] == "refunded")
    assert order["status"] == "cancelled"
    assert (await buyer.see(f"/api/products/{product}"))["available"] == 2
    (payment,) = paid(provider, done["checkoutId"])
    assert [m["kind"] for m in payment["movements"]] == ["capture", "refund"]


async def test_a_refund_that_fails_later_is_on_the_operators_list(
    market: Market, system: System
) -> None:
    seller, buyer = await market.seller(), await market.member()
    done = await buyer.bought(await seller.list_product(), 1, "REFUND_FAILED")
    (order_id,) = done["orderIds"]
    await buyer.do("POST", f"/api/orders/{order_id}/cancel")
    order = await buyer.order_until(
        order_id, lambda page: page["payment"]["status"] == "refund_failed"
    )
    assert order["status"] == "cancelled"
    listed = msgspec.json.decode(await system.plaza("checkouts", "list", "--problem", "--json"))
    assert {
        "checkoutId": done["checkoutId"],
        "orderId": order_id,
        "problem": "refund_failed",
    } in listed


async def test_a_checkout_is_told_as_a_timeline(market: Market, system: System) -> None:
    seller, buyer = await market.seller(), await market.member()
    done = await buyer.bought(await seller.list_product())
    printed = await system.plaza("checkouts", "show", done["checkoutId"], "--json")
    told = msgspec.json.decode(printed)
    assert (told["status"], told["waitsFor"]) == ("confirmed", [])
    positions = [entry["position"] for entry in told["timeline"]]
    assert positions == sorted(positions)
    kinds = [entry["type"] for entry in told["timeline"]]
    wanted = [
        "checkout.started.v2",
        "stock.reserved.v1",
        "checkout.reserved.v1",
        "checkout.provider_asked.v1",
        "checkout.authorised.v1",
        "stock.reservation_committed.v1",
        "order.created.v2",
        "checkout.orders_created.v1",
        "checkout.captured.v1",
        "order.confirmed.v1",
        "checkout.confirmed.v1",
    ]
    assert [kind for kind in dict.fromkeys(kinds) if kind in wanted] == wanted
    assert "payment.notified.v1" in kinds
    words = await system.plaza("checkouts", "show", done["checkoutId"])
    assert f"{done['checkoutId']}:authorise:1" in words
    assert "waits for nothing" in words
    await system.plaza("checkouts", "show", "0" * 13, expected=1)


async def test_the_same_key_buys_once(market: Market, provider: StandIn) -> None:
    seller, buyer = await market.seller(), await market.member()
    await buyer.put(await seller.list_product(), 1)
    answers = await asyncio.gather(*(buyer.try_to_buy(key="once") for _ in range(100)))
    assert {answer.status for answer in answers} <= {202, 409}
    said = [answer.body for answer in answers if answer.status == 202]
    (checkout_id,) = {body["checkoutId"] for body in said}
    assert (await buyer.finished(checkout_id))["status"] == "confirmed"
    repeated = await buyer.try_to_buy(key="once")
    assert repeated.body == said[0]
    (payment,) = paid(provider, checkout_id)
    assert [m["kind"] for m in payment["movements"]] == ["capture"]
    assert len((await buyer.see("/api/orders"))["orders"]) == 1


async def test_the_same_key_buys_once_whatever_restarts_meanwhile(
    market: Market, provider: StandIn, system: System
) -> None:
    seller, buyer = await market.seller(), await market.member()
    await buyer.put(await seller.list_product(), 1)

    async def insist() -> Any:
        while True:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                answer = await buyer.try_to_buy(key="once")
                if answer.status == 202:
                    return answer.body
                assert answer.status in {409, 503}, answer
            await asyncio.sleep(0.05)

    asking = [asyncio.create_task(insist()) for _ in range(100)]
    for name in ("command-api", "commerce-worker"):
        await asyncio.sleep(0.05)
        system.kill(name)
    (said, *others) = await asyncio.gather(*asking)
    assert others == [said] * 99
    assert (await buyer.finished(said["checkoutId"], 60))["status"] == "confirmed"
    (payment,) = paid(provider, said["checkoutId"])
    assert [m["kind"] for m in payment["movements"]] == ["capture"]
    assert len((await buyer.see("/api/orders"))["orders"]) == 1


async def test_ten_units_make_exactly_ten_sales(market: Market) -> None:
    seller = await market.seller()
    product = await seller.list_product(units=10)
    buyers = await asyncio.gather(*(market.member() for _ in range(40)))

    async def rush(buyer: Member) -> Any:
        await buyer.put(product)
        answer = await buyer.try_to_buy()
        if answer.status == 409:
            return answer.body
        return await buyer.finished(answer.body["checkoutId"], 60)

    found = await asyncio.gather(*(rush(buyer) for buyer in buyers))
    confirmed = [one for one in found if one["status"] == "confirmed"]
    assert len(confirmed) == 10
    for one in found:
        if one["status"] == "rejected":
            assert one["failure"]["code"] == "insufficient_stock"
    page = await seller.see(f"/api/products/{product}", buyers[0].position)
    assert page["available"] == 0


async def test_card_data_in_clear_is_refused_and_nowhere_kept(
    market: Market, system: System
) -> None:
    seller, buyer = await market.seller(), await market.member()
    await buyer.put(await seller.list_product(), 1)
    number = "4999999999999996"
    bodies: list[Any] = [
        {"paymentMethod": {"type": "scheme", "number": number}},
        {"paymentMethod": {"type": "scheme", "encryptedCardNumber": number}},
        {"paymentMethod": {"type": "scheme", number: "x"}},
        {
            "shippingAddress": {
                "street": f"card {number[:4]} {number[4:8]} {number[8:12]} {number[12:]}"
            }
        },
        {number: 1},
    ]
    for body in bodies:
        answer = await buyer.try_to_buy(**body)
        assert answer.status == 422, answer
        assert number not in str(answer.body)
    raw = await buyer.try_(
        "POST", "/api/checkouts", f'{{"a": {number}'.encode(), Idempotency_Key="r"
    )
    assert raw.status == 422
    assert number not in str(raw.body)
    keyed = await buyer.try_to_buy(key=number)
    assert keyed.status == 422
    done = await buyer.finished((await buyer.buy(card("4111111111111111")))["checkoutId"])
    assert done["status"] == "confirmed"
    await asyncio.sleep(0.5)
    for secret in (number, "4111111111111111"):
        found = await asyncio.to_thread(
            subprocess.run,
            ["grep", "-rlaF", secret, str(system.folder / "logs"), str(system.folder / "postgres")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.stdout == ""


async def test_buying_needs_a_key_and_a_log_in(market: Market) -> None:
    buyer = await market.member()
    missing = await buyer.try_("POST", "/api/checkouts", buyer.payment())
    assert (missing.status, missing.body["errors"][0]["header"]) == (422, "Idempotency-Key")
    url = f"{market.commands}/api/checkouts"
    assert (await market.ask("POST", url, buyer.payment())).status == 401
    empty = await buyer.try_to_buy()
    assert (empty.status, empty.body["type"]) == (409, "/problems/cart-empty")


async def test_webhooks_are_believed_by_their_signature_only(
    market: Market, system: System
) -> None:
    url = f"{market.commands}/api/webhooks/adyen"
    item = {
        "amount": {"currency": "EUR", "value": 1},
        "eventCode": "SOMETHING_NEW",
        "eventDate": "2026-01-01T00:00:00Z",
        "merchantAccountCode": ACCOUNT,
        "merchantReference": "nobody",
        "pspReference": "WEBHOOKTEST",
        "success": "true",
    }
    good = signed(item, hmac_key(system))
    accepted = await market.ask("POST", url, envelope([good, good]))
    assert (accepted.status, accepted.body) == (200, b"[accepted]")
    again = await market.ask("POST", url, envelope([good]))
    assert again.status == 200
    for bad in (item, signed(item, "00" * 32), {**good, "success": "false"}):
        assert (await market.ask("POST", url, envelope([good, bad]))).status == 401
    assert (await market.ask("POST", url, b"{")).status == 400
    assert (await market.ask("POST", url, b"{}")).status == 400
    tail = await system.plaza("log", "tail", "--types", "payment.notified.v1")
    assert sum("WEBHOOKTEST" in line for line in tail.splitlines()) == 1


async def test_stock_is_received_once_a_reference(market: Market) -> None:
    seller, other = await market.seller(), await market.seller()
    product = await seller.list_product(units=0)
    assert await seller.stock(product, 5, "d1") == {"onHand": 5, "available": 5}
    assert await seller.stock(product, 5, "d1") == {"onHand": 5, "available": 5}
    path = f"/api/products/{product}/stock"
    theirs = await other.try_("POST", path, {"quantity": 1, "reference": "x"})
    assert theirs.status == 403
    buyer = await market.member()
    listing = {
        "title": "t",
        "description": "",
        "category": "c",
        "price": {"currency": "EUR", "value": 1},
    }
    assert (await buyer.try_("POST", "/api/products", listing)).status == 403
    unknown = "0" * 13
    assert (await seller.try_("PATCH", f"/api/products/{unknown}", {})).status == 404
    assert id_number(product) > 0


async def test_products_are_listed_and_filtered_page_by_page(market: Market) -> None:
    seller = await market.seller()
    category = f"Things {seller.id}"
    made = [
        await seller.list_product(price=100 * n, units=n % 2, category=category)
        for n in range(1, 8)
    ]
    query = f"/api/products?category={category}"
    page = await seller.see(f"{query}&limit=3")
    found = [p["productId"] for p in page["products"]]
    while page["hasMore"]:
        page = await seller.see(f"{query}&limit=3&cursor={page['nextCursor']}")
        found += [p["productId"] for p in page["products"]]
    assert found == made[::-1]
    cheap = await seller.see(f"{query}&minPrice=200&maxPrice=400")
    assert [p["price"]["value"] for p in cheap["products"]] == [400, 300, 200]
    there = await seller.see(f"{query}&available=true")
    assert {p["available"] for p in there["products"]} == {1}
    for wrong in (f"{query}&minPrice=x", f"{query}%00", f"{query}{'x' * 300}"):
        assert (await seller.look(wrong)).status == 422
    assert (await seller.look(f"{query}&cursor=abc")).status == 422


async def test_a_catalogue_is_imported_once(market: Market, system: System, tmp_path: Path) -> None:
    file = tmp_path / "catalogue.json"
    rows = [
        {"Id": 7, "Name": "Boots", "Description": "Warm.", "Type": "Shoes", "Price": 109.99,
         "Brand": "Day Bird"},
        {"title": "Rope", "description": "Long.", "category": "Climbing", "seller": "gravity",
         "price": {"currency": "USD", "value": 500}, "colours": ["red", "blue"]},
        {"title": "No price"},
    ]  # fmt: skip
    file.write_bytes(msgspec.json.encode(rows))
    words = ("import", "products", str(file), "--stock", "3", "--json")
    first = msgspec.json.decode(await system.plaza(*words))
    assert (first["products"], first["badLines"], first["members"]) == (2, 1, 2)
    assert first["bad"][0]["line"] == 3
    second = msgspec.json.decode(await system.plaza(*words))
    assert (second["products"], second["unchanged"]) == (0, 2)
    buyer = await market.member()

    async def shown() -> list[Any]:
        pages = [await buyer.see(f"/api/products?category={c}") for c in ("Shoes", "Climbing")]
        return [product for page in pages for product in page["products"]]

    await until(lambda: enough(shown, 2))
    boots, rope = await shown()
    assert boots["price"] == {"currency": "EUR", "value": 10999}
    assert (boots["available"], boots["attributes"]) == (3, {"Id": 7})
    assert boots["seller"]["name"] == "Day Bird"
    assert rope["price"] == {"currency": "USD", "value": 500}
    assert rope["attributes"] == {"colours": '["red","blue"]'}


async def enough(shown: Callable[[], Awaitable[list[Any]]], number: int) -> bool:
    found = await shown()
    return len(found) == number and all(product["available"] for product in found)


@pytest.fixture(scope="module")
async def reader(system: System) -> dict[str, str]:
    """The headers of somebody who is logged in."""
    async with Market.open(system.command_url, system.query_url) as opened:
        return {"Authorization": f"Bearer {(await opened.member()).token}"}


@pytest.fixture(scope="module")
def contract(system: System) -> Any:
    found = schemathesis.openapi.from_url(f"{system.query_url}/openapi.json")
    return found.include(path_regex="^/api/(products|cart|checkouts|orders)")


async def test_pages_are_answered_as_documented(contract: Any, reader: dict[str, str]) -> None:
    operations = [found.ok() for found in contract.get_all_operations()]
    assert {f"{one.method.upper()} {one.path}" for one in operations} == {
        "GET /api/products",
        "GET /api/products/{productId}",
        "GET /api/cart",
        "GET /api/checkouts/{checkoutId}",
        "GET /api/orders",
        "GET /api/orders/{orderId}",
    }
    for operation in operations:
        ask_whatever_is_allowed(operation, reader)


def ask_whatever_is_allowed(operation: Any, headers: dict[str, str]) -> None:
    @settings(
        max_examples=10,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy())
    def ask(case: Any) -> None:
        # What was not handed out is refused, and no schema can say what that is.
        case.headers.pop("Log-Position", None)
        for name in ("cursor", "asOf"):
            case.query.pop(name, None)
        case.call_and_validate(headers=headers)

    ask()


WRITTEN: dict[str, Any] = {
    "title": "Quinquereme of Nineveh",
    "description": "Rowing home to haven in sunny Palestine.",
    "mediaUrls": ["https://example.org/quinquereme-of-nineveh.jpg"],
    "attributes": {"cargo": "ivory and apes and peacocks"},
}
SAID = ["Quinquereme", "Rowing home", "quinquereme-of-nineveh", "ivory and apes", "Dirty coaster"]


async def test_an_erased_sellers_words_are_gone_and_the_buyers_order_stays(
    market: Market, system: System, tmp_path: Path
) -> None:
    seller, buyer = await market.member("s"), await market.member()
    asked = {"name": "Dirty coaster", "country": "GB"}
    seller.shop_id = (await seller.do("POST", "/api/shops", asked)).body["shopId"]
    sold, withdrawn = [await seller.list_product(**WRITTEN) for _ in range(2)]
    await seller.do("PATCH", f"/api/products/{withdrawn}", {"forSale": False})
    posted = {"content": "Look", "mediaUrls": WRITTEN["mediaUrls"], "productIds": [withdrawn]}
    await seller.do("POST", "/api/posts", posted)
    shown = await buyer.do("POST", "/api/posts", {"content": "x", "productIds": [withdrawn]})
    order = (await buyer.bought(sold, 2))["orderIds"][0]
    await buyer.put(sold)
    page = await buyer.see(f"/api/products/{sold}", seller.position)
    assert {name: page[name] for name in WRITTEN} == WRITTEN
    assert page["seller"] == {"shopId": seller.shop_id, "name": "Dirty coaster"}
    before = await buyer.see(f"/api/orders/{order}")
    assert before["items"][0]["title"] == WRITTEN["title"]
    post = f"/api/posts/{shown.body['postId']}"
    assert (await buyer.see(post))["products"][0]["title"] == WRITTEN["title"]
    then, texts = seller.position, tmp_path / "texts.json"
    await system.plaza("erasure", "texts", seller.id, "--out", str(texts))
    assert all(said in texts.read_text() for said in SAID)
    exported, backup = tmp_path / "export", tmp_path / "backup"
    tail = await system.plaza("log", "tail")
    assert all(said in tail for said in SAID)

    await seller.do("DELETE", "/api/users/me", {"password": "correct horse"})

    async def gone() -> bool:
        paths = (
            f"/api/products/{one}{at}" for one in (sold, withdrawn) for at in ("", f"?asOf={then}")
        )
        return {(await buyer.look(path)).status for path in paths} == {404}

    await until(gone)

    async def settled() -> bool:
        (line,) = (await buyer.see("/api/cart"))["items"]
        products = (await buyer.see(post))["products"]
        codes = [problem["code"] for problem in line["problems"]]
        return (line["title"], products, codes) == (None, [], ["unavailable"])

    await until(settled)
    after = await buyer.see(f"/api/orders/{order}")
    assert after == {**before, "items": [{**before["items"][0], "title": None}]}
    listed = await buyer.see(f"/api/products?shopId={seller.shop_id}")
    assert listed["products"] == []
    then_listed = await buyer.see(f"/api/products?shopId={seller.shop_id}&asOf={then}")
    assert then_listed["products"] == []
    found = await buyer.see("/api/search?q=quinquereme&type=products")
    assert found["results"] == []
    assert (await buyer.see("/api/typeahead?q=quinq"))["products"] == []
    tail = await system.plaza("log", "tail")
    assert not [said for said in SAID if said in tail]
    await system.plaza("export", "events", "--out", str(exported), "--typed")
    await system.plaza("backup", str(backup))
    words = ("erasure", "prove", seller.id, "--texts", str(texts), "--json")
    told = await system.plaza(*words, "--folder", str(exported), "--folder", str(backup))
    report = msgspec.json.decode(told)["report"]
    assert report["proven"], [one for one in report["searched"] if one["found"] or one["problem"]]


async def test_the_read_tables_are_what_the_log_says_after_all_this(system: System) -> None:
    rows = msgspec.json.decode(await system.plaza("projections", "verify", "--json"))
    found = {row["name"]: row for row in rows}
    for name in ("products", "availability", "carts", "checkouts", "orders", "work"):
        assert found[name]["different"] == 0, found[name]
        assert found[name]["documents"] > 0
