"""API.md's buying as one journey: from a product in a post to an order that is all sent back."""

from typing import Any

from tests.market import Market


async def from_post_to_return(market: Market) -> Any:
    """Answers the checkout of it, as its page last said."""
    seller, buyer = await market.seller(), await market.member()
    product = await seller.list_product(price=1999, units=10)
    asked = {"content": "My new mug!", "productIds": [product]}
    post = (await seller.do("POST", "/api/posts", asked)).body["postId"]
    await buyer.do("POST", f"/api/users/{seller.id}/follow")
    shown = (await buyer.see("/api/feed?mode=latest"))["posts"][0]
    price = {"currency": "EUR", "value": 1999}
    assert shown["products"] == [
        {"productId": product, "title": "Mug", "price": price, "available": 10}
    ]

    await buyer.put(product, 3, sourcePostId=post)
    cart = await buyer.see("/api/cart")
    assert [(i["productId"], i["quantity"], i["problems"]) for i in cart["items"]] == [
        (product, 3, [])
    ]
    assert cart["total"] == {"currency": "EUR", "value": 5997}

    started = await buyer.buy()
    assert started["status"] == "pending"
    (order_id,) = started["orderIds"]
    assert (await buyer.see("/api/cart"))["items"] == []
    done = await buyer.finished(started["checkoutId"])
    assert done["status"] == "confirmed"
    assert [(step["name"], step["status"]) for step in done["steps"]] == [
        (name, "done") for name in ("reserve", "authorise", "create_order", "capture", "confirm")
    ]

    order = await buyer.see(f"/api/orders/{order_id}")
    assert (order["status"], order["shopId"]) == ("confirmed", seller.shop_id)
    assert order["items"] == [
        {
            "productId": product,
            "title": "Mug",
            "quantity": 3,
            "price": price,
            "sourcePostId": post,
        }
    ]
    assert order["payment"] == {
        "status": "captured",
        "authorised": {"currency": "EUR", "value": 5997},
        "captured": {"currency": "EUR", "value": 5997},
        "refunded": {"currency": "EUR", "value": 0},
    }
    assert (await buyer.see(f"/api/products/{product}"))["available"] == 7

    shipping = {"carrier": "DHL", "trackingNumber": "1Z"}
    await seller.do("POST", f"/api/orders/{order_id}/shipments", shipping)
    late = await buyer.try_("POST", f"/api/orders/{order_id}/cancel")
    assert (late.status, late.body["orderStatus"]) == (409, "shipped")
    await seller.do("POST", f"/api/orders/{order_id}/delivery")
    for units in (4, 100):
        many = {"items": [{"productId": product, "quantity": units}], "reason": "more"}
        refused = await buyer.try_("POST", f"/api/orders/{order_id}/returns", many)
        assert (refused.status, refused.body["returnable"]) == (409, 3)
    items = [{"productId": product, "quantity": 1}]
    await buyer.do("POST", f"/api/orders/{order_id}/returns", {"items": items, "reason": "blue"})

    def refunded(page: Any) -> bool:
        return bool(page["payment"]["refunded"]["value"] == 1999)

    order = await buyer.order_until(order_id, refunded)
    assert (order["status"], order["payment"]["status"]) == ("delivered", "captured")
    assert (await buyer.see(f"/api/products/{product}"))["available"] == 8
    rest = [{"productId": product, "quantity": 2}]
    await buyer.do("POST", f"/api/orders/{order_id}/returns", {"items": rest, "reason": "moved"})
    order = await buyer.order_until(order_id, lambda page: page["payment"]["status"] == "refunded")
    assert order["status"] == "returned"
    assert [entry["status"] for entry in order["history"]] == [
        "pending",
        "confirmed",
        "shipped",
        "delivered",
        "returned",
    ]
    assert [o["orderId"] for o in (await buyer.see("/api/orders"))["orders"]] == [order_id]
    sold = await seller.see("/api/orders?role=seller", buyer.position)
    assert [o["orderId"] for o in sold["orders"]] == [order_id]
    return done
