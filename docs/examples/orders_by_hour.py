"""How many orders were made in each hour, of how many units, and how many came from a post.

plaza replay --projection docs/examples/orders_by_hour.py:ORDERS --out orders.jsonl
"""

from collections.abc import Sequence

from domain.commerce.order.events import OrderCreated
from infra.ports.frames import COMMERCE_PARTITIONS
from infra.ports.log import Recorded
from infra.ports.tables import Add, Change, CountTable
from infra.runtime.projecting.projection import Projection

BY_HOUR = CountTable(name="orders_by_hour", key="hour", counts=("orders", "units", "from_posts"))


def fold(recorded: Recorded) -> Sequence[Change]:
    created = recorded.event
    assert isinstance(created, OrderCreated)
    hour = int(f"{recorded.recorded_at:%Y%m%d%H}")
    units = sum(line.quantity for line in created.lines)
    from_post = any(line.source_post_id is not None for line in created.lines)
    return (Add(BY_HOUR, hour, (1, units, int(from_post))),)


ORDERS = Projection(
    name="orders_by_hour",
    version=1,
    handles=frozenset({OrderCreated}),
    tables=(BY_HOUR,),
    fold=fold,
    partitions=COMMERCE_PARTITIONS,
)
