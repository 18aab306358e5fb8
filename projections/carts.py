"""What is in each member's cart, and at what price they saw it."""

from collections.abc import Sequence
from typing import assert_never, get_args

from domain.commerce.cart import events
from domain.shared.identifiers import id_number
from infra.ports.frames import COMMERCE_PARTITIONS
from infra.ports.log import Recorded
from infra.ports.tables import Change, Close, Column, Insert, RangeTable
from infra.runtime.projecting.projection import Projection

Handled = events.CartEvent

CART_LINES = RangeTable(
    name="cart_lines",
    columns=(
        Column("member_id", "bigint"),
        Column("product_id", "bigint"),
        Column("quantity", "bigint"),
        Column("seen_currency", "text"),
        Column("seen_price", "bigint"),
        Column("source_post_id", "text", nullable=True),
    ),
    primary_key=("member_id", "product_id", "since"),
    key=("member_id", "product_id"),
)


def fold(recorded: Recorded) -> Sequence[Change]:
    event: Handled = recorded.event  # type: ignore[assignment]
    member_id = id_number(event.member_id)
    match event:
        case events.CartItemPut():
            return put(member_id, event.item)
        case events.CartItemRemoved():
            return (Close(CART_LINES, (member_id, id_number(event.product_id))),)
        case events.CartCheckedOut():
            return [Close(CART_LINES, (member_id, id_number(id_))) for id_ in event.product_ids]
        case events.CartRestored():
            return [change for item in event.items for change in put(member_id, item)]
        case _:
            assert_never(event)


def put(member_id: int, item: events.CartItem) -> Sequence[Change]:
    key = (member_id, id_number(item.product_id))
    price = item.seen_price
    row = (*key, item.quantity, price.currency, price.value, item.source_post_id)
    return Close(CART_LINES, key), Insert(CART_LINES, row)


PROJECTION = Projection(
    name="carts",
    version=1,
    handles=frozenset(get_args(Handled)),
    tables=(CART_LINES,),
    fold=fold,
    partitions=COMMERCE_PARTITIONS,
)
