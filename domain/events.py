"""Every event there is. Decoders are built from these, so an event left out cannot be read."""

from collections.abc import Callable, Mapping
from typing import Any

from domain.commerce.checkout.upcasts import CheckoutStartedV1, OldCheckoutEvent, checkout_started
from domain.commerce.events import CommerceEvent
from domain.commerce.order.upcasts import OldOrderEvent, OrderCreatedV1, order_created
from domain.commerce.product.upcasts import (
    OldProductEvent,
    ProductDescribedV1,
    ProductListedV1,
    product_described,
    product_listed,
)
from domain.commerce.shop.upcasts import OldShopEvent, ShopOpenedV1, shop_opened
from domain.shared.message import Event
from domain.social.engagement.upcasts import OldEngagementEvent, RepostRemovedV1, repost_removed
from domain.social.events import SocialEvent

AnyEvent = SocialEvent | CommerceEvent
"""What every aggregate is made of."""

OldEvent = OldEngagementEvent | OldShopEvent | OldProductEvent | OldOrderEvent | OldCheckoutEvent
"""What the log may hold besides, from earlier versions; nobody is handed one."""

UPCASTS: Mapping[type[Event], Callable[[Any], Event]] = {
    RepostRemovedV1: repost_removed,
    ShopOpenedV1: shop_opened,
    ProductListedV1: product_listed,
    ProductDescribedV1: product_described,
    OrderCreatedV1: order_created,
    CheckoutStartedV1: checkout_started,
}
"""From each old event to the next version of it, which may be old as well."""
