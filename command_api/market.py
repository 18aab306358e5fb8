"""What the endpoints that sell and buy share: ids, money, and what can be bought now."""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

import structlog
from msgspec import Meta, Struct

from domain.commerce.product.decider import Product, product_stream
from domain.commerce.product.rejections import ProductUnknown
from domain.commerce.shop.decider import shop_stream
from domain.commerce.shop.rejections import NotASeller
from domain.commerce.stock.decider import stock_stream
from domain.shared.identifiers import id_number, make_id
from domain.shared.money import VALUE_MAX, Money
from infra.ports.log import Clock
from infra.ports.payments import Notifications, PaymentSecrets
from infra.ports.reads import ReadsUnavailable
from infra.runtime.commands.execute import Look

log = structlog.get_logger(__name__)


class Availability(Protocol):
    """The read table of what can be bought. Raises `ReadsUnavailable`."""

    async def available(self, product_ids: Collection[int]) -> Mapping[int, int]: ...


@dataclass(frozen=True, kw_only=True)
class Market:
    """What the commerce half of the service stands on. `hold_seconds`: how long units are held."""

    secrets: PaymentSecrets
    notifications: Notifications
    availability: Availability
    hold_seconds: int
    clock: Clock

    def new_id(self) -> str:
        return make_id(int(self.clock().timestamp() * 1000), secrets.randbits(22))

    async def available(self, wanted: Mapping[str, int], look: Look) -> Mapping[str, int]:
        """Of each product, whether as many as are wanted can be bought: how many there are.

        The shelf itself decides in the end: this spares the buyer a checkout in vain.
        """
        numbers = {id_number(product_id): product_id for product_id in wanted}
        try:
            found = await self.availability.available(list(numbers))
        except ReadsUnavailable as error:
            log.warning("availability.unknown", error=str(error))
            return wanted
        units = {name: found.get(number, 0) for number, name in numbers.items()}
        for name, quantity in wanted.items():
            if units[name] < quantity:
                # The table may be behind: nobody is sent away before the shelf is looked at.
                units[name] = (await look(stock_stream(name))).value.available
        return units


class Price(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """An amount in minor units."""

    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$", examples=["EUR"])]
    value: Annotated[int, Meta(ge=1, le=VALUE_MAX, examples=[1999])]

    def money(self) -> Money:
        return Money(self.currency, self.value)


async def knows_product(look: Look, product_id: str) -> bool:
    """For posts, which may name what is no longer for sale, but nothing that never was."""
    return bool((await look(product_stream(product_id))).value.seller_id)


async def known_product(look: Look, product_id: str) -> Product:
    """Raises `ProductUnknown`."""
    product: Product = (await look(product_stream(product_id))).value
    if not product.seller_id:
        raise ProductUnknown(product_id)
    return product


async def shop_of(look: Look, member_id: str) -> str:
    """The shop of a seller. Raises `NotASeller`."""
    shop_id: str = (await look(shop_stream(member_id))).value.shop_id
    if not shop_id:
        raise NotASeller
    return shop_id
