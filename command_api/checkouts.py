"""Check out one's cart, and come back from a redirect or a challenge.

Card data in clear is refused before anything else looks at a body, and is never repeated.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from command_api.endpoint import KEY, Asked, Desk, Endpoint, Handle, Plan
from command_api.market import Market
from command_api.texts import WITHOUT_NUL, WebUrl
from domain.commerce.cart.commands import CheckOutCart
from domain.commerce.cart.decider import Cart, cart_stream
from domain.commerce.cart.events import CartItem
from domain.commerce.cart.problems import Offer, problems
from domain.commerce.cart.rejections import CartEmpty, CartHasProblems
from domain.commerce.checkout.commands import StartCheckout, SubmitDetails
from domain.commerce.checkout.decider import PAYMENT_SECRETS
from domain.commerce.checkout.events import CheckoutOrder
from domain.commerce.order.events import OrderLine
from domain.commerce.product.decider import Product, product_stream
from domain.shared.message import Command
from infra.card_data import card_data_in, holds_card_number
from infra.http import idempotency
from infra.http.entrance import HEADERS_KEY
from infra.http.openapi import Operation
from infra.http.problems import invalid_field, invalid_header
from infra.runtime.commands.execute import Look

TAG = "Checkouts"
PATH = "/api/checkouts"
TOKEN_LENGTH_MAX = 10_000
DETAILS_MAX = 20
CLEAR = "Card data in clear is not accepted here."

Token = Annotated[str, Meta(min_length=1, max_length=TOKEN_LENGTH_MAX, pattern=WITHOUT_NUL)]
Encrypted = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=TOKEN_LENGTH_MAX,
        pattern=r"^[^\x00]*[^0-9/ \x00][^\x00]*$",
        description="what the provider's own form has encrypted; never the value itself",
    ),
]
Line = Annotated[str, Meta(min_length=1, max_length=200, pattern=WITHOUT_NUL)]


class Address(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    street: Line
    house_number_or_name: Line
    postal_code: Annotated[str, Meta(min_length=1, max_length=10, pattern=WITHOUT_NUL)]
    city: Line
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$", examples=["DE"])]
    state_or_province: (
        Annotated[str, Meta(min_length=1, max_length=3, pattern=WITHOUT_NUL)] | None
    ) = None


class PaymentMethod(
    Struct, frozen=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True
):
    """Adyen's encrypted or tokenised members, and no others."""

    type: Annotated[str, Meta(min_length=1, max_length=50, pattern="^[A-Za-z0-9_]+$")]
    holder_name: Annotated[str, Meta(max_length=100, pattern=WITHOUT_NUL)] | None = None
    brand: Annotated[str, Meta(max_length=50, pattern="^[A-Za-z0-9_]*$")] | None = None
    encrypted_card_number: Encrypted | None = None
    encrypted_expiry_month: Encrypted | None = None
    encrypted_expiry_year: Encrypted | None = None
    encrypted_security_code: Encrypted | None = None
    stored_payment_method_id: (
        Annotated[str, Meta(min_length=1, max_length=64, pattern=WITHOUT_NUL)] | None
    ) = None
    checkout_attempt_id: Token | None = None
    sdk_data: Token | None = None


class Buying(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    payment_method: PaymentMethod
    shipping_address: Address
    return_url: WebUrl | None = None


class Returning(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    details: Annotated[dict[str, Token], Meta(min_length=1, max_length=DETAILS_MAX)]


class Started(Struct, frozen=True, rename="camel"):
    checkout_id: str
    order_ids: list[str]
    status: str = "pending"
    action: dict[str, Any] | UnsetType = UNSET


class Resumed(Struct, frozen=True, rename="camel"):
    checkout_id: str
    status: str = "pending"


class CardSafe(Endpoint):
    """An endpoint whose bodies come near to card data."""

    key_required = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = scope[HEADERS_KEY].get(idempotency.HEADER)
        if key is not None and holds_card_number(key.decode("latin-1")):
            raise invalid_header("Idempotency-Key", CLEAR)
        if key is None and self.key_required:
            await self._desk.session_of(scope[HEADERS_KEY].get(b"authorization"))
            raise invalid_header("Idempotency-Key", "Buying needs one, so that it is done once.")
        await super().__call__(scope, receive, send)

    def _read(self, raw: bytes) -> Any:
        refuse_card_data(raw)
        return super()._read(raw)


class KeyedCardSafe(CardSafe):
    key_required = True

    def __init__(self, desk: Desk, method: str, path: str, handle: Handle, **more: Any) -> None:
        super().__init__(desk, method, path, handle, **more)
        others = [one for one in self.operation.parameters if one.name != KEY.name]
        required = replace(KEY, required=True)
        self.operation = replace(self.operation, parameters=(*others, required))


def refuse_card_data(raw: bytes) -> None:
    """Raises a 422 problem that names where card data stands, and does not repeat it."""
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if holds_card_number(raw.decode("latin-1")):
            raise invalid_field("", CLEAR) from None
        return
    if (pointer := card_data_in(document)) is not None:
        raise invalid_field(pointer, CLEAR)


def routes(desk: Desk, market: Market) -> list[Route]:
    return [buying(desk, market).route(), returning(desk, market).route()]


def buying(desk: Desk, market: Market) -> Endpoint:
    async def check_out(asked: Asked[Buying]) -> Plan:
        body, checkout_id = asked.body, market.new_id()
        order_ids: dict[str, str] = {}

        async def prepare(look: Look) -> Sequence[Command]:
            cart: Cart = (await look(cart_stream(asked.member_id))).value
            items = tuple(cart.items.values())
            if not items:
                raise CartEmpty
            products: Mapping[str, Product] = {
                item.product_id: (await look(product_stream(item.product_id))).value
                for item in items
            }
            wanted = {item.product_id: item.quantity for item in items}
            require_no_problems(items, products, await market.available(wanted, look))
            orders = by_shop(items, products, market, order_ids)
            await market.secrets.put(checkout_id, PAYMENT_SECRETS, entrusted(body))
            return (
                StartCheckout(
                    checkout_id=checkout_id,
                    member_id=asked.member_id,
                    orders=orders,
                    shipping_address=msgspec.json.encode(body.shipping_address).decode(),
                    hold_seconds=market.hold_seconds,
                ),
                CheckOutCart(member_id=asked.member_id, checkout_id=checkout_id, items=items),
            )

        async def forget() -> None:
            await market.secrets.forget(checkout_id)

        return Plan(
            lambda _: Started(checkout_id, list(order_ids.values())),
            prepare=prepare,
            otherwise=forget,
        )

    operation = Operation(
        summary="Buy what is in one's cart",
        description="Answered as soon as it is recorded; how it goes on is told by the checkout's "
        "page. There is one order a shop. `Idempotency-Key` is required.",
        tag=TAG,
        body=Buying,
        body_example={
            "paymentMethod": {
                "type": "scheme",
                "holderName": "Ada Lovelace",
                "encryptedCardNumber": "test_4111111111111111",
                "encryptedExpiryMonth": "test_03",
                "encryptedExpiryYear": "test_2030",
                "encryptedSecurityCode": "test_737",
            },
            "shippingAddress": {
                "street": "Square",
                "houseNumberOrName": "1",
                "postalCode": "10115",
                "city": "Berlin",
                "country": "DE",
            },
        },
        answers={202: Started},
        answer_example={
            "checkoutId": "0d1kq3h8o2c7a",
            "orderIds": ["0d1kq3h8o2c7b"],
            "status": "pending",
        },
    )
    return KeyedCardSafe(desk, "POST", PATH, check_out, operation=operation)


def require_no_problems(
    items: Sequence[CartItem], products: Mapping[str, Product], available: Mapping[str, int]
) -> None:
    found = []
    for item in items:
        product = products[item.product_id]
        offer = None
        if product.price is not None:
            units = available[item.product_id]
            offer = Offer(product.price, units, for_sale=product.for_sale)
        found += [
            {"productId": item.product_id, **msgspec.to_builtins(problem)}
            for problem in problems(item, offer)
        ]
    if found:
        raise CartHasProblems(found)


def by_shop(
    items: Sequence[CartItem],
    products: Mapping[str, Product],
    market: Market,
    order_ids: dict[str, str],
) -> tuple[CheckoutOrder, ...]:
    """One order a shop. `order_ids` keeps what a shop's order is called when this is repeated."""
    lines: defaultdict[str, list[OrderLine]] = defaultdict(list)
    sellers: dict[str, str] = {}
    for item in items:
        product = products[item.product_id]
        sellers[product.shop_id] = product.seller_id
        lines[product.shop_id].append(
            OrderLine(
                product_id=item.product_id,
                quantity=item.quantity,
                price=item.seen_price,
                source_post_id=item.source_post_id,
            )
        )
    for gone in order_ids.keys() - lines.keys():
        del order_ids[gone]
    for shop_id in lines:
        order_ids.setdefault(shop_id, market.new_id())
    return tuple(
        CheckoutOrder(
            order_id=order_ids[shop_id],
            shop_id=shop_id,
            seller_id=sellers[shop_id],
            lines=tuple(of_shop),
        )
        for shop_id, of_shop in lines.items()
    )


def entrusted(body: Buying) -> dict[str, Any]:
    """What the provider is told by us word for word, and nobody else."""
    told: dict[str, Any] = {
        "paymentMethod": msgspec.to_builtins(body.payment_method),
        "deliveryAddress": msgspec.to_builtins(body.shipping_address),
    }
    if body.return_url is not None:
        told["returnUrl"] = body.return_url
    return told


def returning(desk: Desk, market: Market) -> Endpoint:
    async def submit(asked: Asked[Returning]) -> Plan:
        checkout_id = asked.id_in_path("checkoutId")
        name = f"details-{market.new_id()}"
        command = SubmitDetails(checkout_id=checkout_id, member_id=asked.member_id, secrets=name)

        async def prepare(_look: Look) -> Sequence[Command]:
            await market.secrets.put(checkout_id, name, {"details": asked.body.details})
            return (command,)

        return Plan(lambda _: Resumed(checkout_id), prepare=prepare)

    operation = Operation(
        summary="Go on with a checkout after a redirect or a challenge",
        description="`details` are those that the payment provider handed over.",
        tag=TAG,
        body=Returning,
        body_example={"details": {"redirectResult": "eyJ0cmFuc1N0YXR1cyI6IlkifQ=="}},
        answers={202: Resumed},
        refusals=(404,),
    )
    return CardSafe(
        desk, "POST", f"{PATH}/{{checkoutId}}/payment-details", submit, operation=operation
    )
