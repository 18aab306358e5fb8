"""What people want: each product that a member put into the cart or ordered, at every position.

A product put in again counts from the last time. What is taken out was not wanted; what goes into
a checkout was.
"""

from collections.abc import Sequence
from typing import assert_never

from domain.commerce.cart.events import CartItemPut, CartItemRemoved
from domain.commerce.order.events import OrderCreated
from domain.shared.identifiers import id_number
from infra.ports.frames import COMMERCE_PARTITIONS
from infra.ports.log import Recorded
from infra.ports.tables import Change, Close, Column, Insert, RangeTable, Table
from infra.runtime.projecting.projection import Projection

Handled = CartItemPut | CartItemRemoved | OrderCreated

CARTED = RangeTable(
    name="carted",
    columns=(
        Column("member_id", "bigint"),
        Column("product_id", "bigint"),
        Column("at", "timestamptz"),
    ),
    primary_key=("member_id", "product_id", "since"),
    key=("member_id", "product_id"),
    indexes=("(at)",),
)

ORDERED = Table(
    name="ordered",
    columns=(
        Column("order_id", "bigint"),
        Column("member_id", "bigint"),
        Column("product_id", "bigint"),
        Column("at", "timestamptz"),
    ),
    primary_key=("order_id", "product_id"),
    indexes=("(at)",),
)


def fold(recorded: Recorded) -> Sequence[Change]:
    event: Handled = recorded.event  # type: ignore[assignment]
    match event:
        case CartItemPut():
            key = (id_number(event.member_id), id_number(event.item.product_id))
            return Close(CARTED, key), Insert(CARTED, (*key, recorded.recorded_at))
        case CartItemRemoved():
            return (Close(CARTED, (id_number(event.member_id), id_number(event.product_id))),)
        case OrderCreated():
            order_id, member_id = id_number(event.order_id), id_number(event.member_id)
            # A product may stand in several lines, where posts led to it; it is one wish.
            wanted = dict.fromkeys(id_number(line.product_id) for line in event.lines)
            return [
                Insert(ORDERED, (order_id, member_id, product_id, recorded.recorded_at))
                for product_id in wanted
            ]
        case _:
            assert_never(event)


PROJECTION = Projection(
    name="demand",
    version=1,
    handles=frozenset({CartItemPut, CartItemRemoved, OrderCreated}),
    tables=(CARTED, ORDERED),
    fold=fold,
    partitions=COMMERCE_PARTITIONS,
)
