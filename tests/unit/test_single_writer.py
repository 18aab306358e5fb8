"""One writer's commands: decided one after another, appended in one go, proven by the log."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from domain.commerce.cart.commands import CheckOutCart, PutCartItem, RestoreCart
from domain.commerce.cart.decider import cart_stream
from domain.commerce.cart.events import CartItem
from domain.commerce.stock.commands import (
    CommitReservation,
    ReceiveStock,
    ReleaseReservation,
    ReserveStock,
)
from domain.commerce.stock.decider import stock_stream
from domain.commerce.stock.rejections import OutOfStock
from domain.deciders import DECIDERS
from domain.shared.money import Money
from domain.shared.rejection import Invalid
from infra.adapters.log.memory_event_log import MemoryEventLog
from infra.adapters.secrets.memory_keyring import MemoryKeyring
from infra.ports.log import LogUnavailable, Recorded, StoredAnswer
from infra.runtime.commands.single_writer import SingleWriter

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MUG = CartItem(product_id="mug", quantity=1, seen_price=Money("EUR", 1))


class WatchedLog(MemoryEventLog):
    def __init__(self) -> None:
        super().__init__()
        self.appends: list[int] = []
        self.loads: list[set[str]] = []
        self.down = False

    async def load_many(self, streams: Iterable[str]) -> Mapping[str, Sequence[Recorded]]:
        self.loads.append(set(streams))
        return await super().load_many(streams)

    async def append(
        self, events: Sequence[Recorded], answer: StoredAnswer | None = None
    ) -> Sequence[int]:
        await asyncio.sleep(0)
        if self.down:
            raise LogUnavailable("down")
        self.appends.append(len(events))
        return await super().append(events, answer)


@pytest.fixture
def log() -> WatchedLog:
    return WatchedLog()


def writer_on(log: WatchedLog) -> SingleWriter:
    return SingleWriter(log, MemoryKeyring(), DECIDERS, lambda: NOON)


def receive(quantity: int, reference: str = "d1") -> ReceiveStock:
    return ReceiveStock(product_id="mug", quantity=quantity, reference=reference)


def reserve(name: str, quantity: int = 1) -> ReserveStock:
    until = NOON + timedelta(minutes=10)
    return ReserveStock(product_id="mug", reservation_id=name, quantity=quantity, expires_at=until)


async def test_what_waits_is_appended_in_one_go(log: WatchedLog) -> None:
    writer = writer_on(log)
    await writer.execute(receive(100))
    log.appends.clear()
    await asyncio.gather(*(writer.execute(reserve(f"r{n}")) for n in range(50)))
    assert sum(log.appends) == 50
    assert len(log.appends) <= 2
    assert (await writer.state(stock_stream("mug"))).value.available == 50


async def test_exactly_as_many_are_sold_as_there_are(log: WatchedLog) -> None:
    writer = writer_on(log)
    await writer.execute(receive(10))
    found = await asyncio.gather(
        *(writer.execute(reserve(f"r{n}")) for n in range(100)), return_exceptions=True
    )
    assert sum(isinstance(one, OutOfStock) for one in found) == 90
    assert (await writer.state(stock_stream("mug"), fresh=True)).value.available == 0


async def test_a_refusal_on_what_is_only_remembered_is_not_believed(log: WatchedLog) -> None:
    writer, other = writer_on(log), writer_on(log)
    await writer.execute(receive(1))
    await writer.execute(reserve("r1"))
    await other.execute(receive(5, "d2"))
    await writer.execute(reserve("r2"))
    assert (await writer.state(stock_stream("mug"))).value.available == 4


async def test_somebody_else_who_wrote_is_noticed_and_all_is_decided_again(
    log: WatchedLog,
) -> None:
    writer, other = writer_on(log), writer_on(log)
    await writer.execute(receive(3))
    await other.execute(reserve("theirs", 2))
    found = await asyncio.gather(
        *(writer.execute(reserve(f"r{n}")) for n in range(2)), return_exceptions=True
    )
    assert sum(isinstance(one, OutOfStock) for one in found) == 1


async def test_commands_of_one_job_happen_together_or_not_at_all(log: WatchedLog) -> None:
    writer = writer_on(log)
    await writer.execute(receive(1))
    pot = ReceiveStock(product_id="pot", quantity=1, reference="d1")
    with pytest.raises(OutOfStock):
        await writer.execute(pot, reserve("r1", 2))
    assert await log.load(stock_stream("pot")) == []


async def test_doing_nothing_is_believed_only_where_the_log_says_so(log: WatchedLog) -> None:
    writer, api = writer_on(log), writer_on(log)

    async def check_out(checkout_id: str) -> None:
        await api.execute(
            PutCartItem(member_id="ann", item=MUG),
            CheckOutCart(member_id="ann", checkout_id=checkout_id, items=(MUG,)),
        )

    def restore(checkout_id: str) -> RestoreCart:
        return RestoreCart(member_id="ann", checkout_id=checkout_id, items=(MUG,))

    await check_out("c1")
    await writer.execute(restore("c1"))
    api = writer_on(log)
    await api.execute(CheckOutCart(member_id="ann", checkout_id="c2", items=(MUG,)))
    # What the writer remembers of this cart is from before it was checked out again.
    await writer.execute(restore("c2"))
    assert (await writer.state(cart_stream("ann"), fresh=True)).value.items == {"mug": MUG}
    assert (await writer.execute(restore("c2"))).events == ()


async def test_one_bad_command_does_not_fail_its_neighbours(log: WatchedLog) -> None:
    writer = writer_on(log)
    await writer.execute(receive(5))
    found = await asyncio.gather(
        writer.execute(reserve("r1")),
        writer.execute(receive(-1, "bad")),
        writer.execute(ReleaseReservation(product_id="mug", reservation_id="r1")),
        writer.execute(CommitReservation(product_id="mug", reservation_id="never")),
        return_exceptions=True,
    )
    assert isinstance(found[1], Invalid)
    assert isinstance(found[3], Exception)
    assert (await writer.state(stock_stream("mug"))).value.available == 5


async def test_a_log_that_is_away_fails_what_waits_and_is_asked_again_later(
    log: WatchedLog,
) -> None:
    writer = writer_on(log)
    await writer.execute(receive(5))
    log.down = True
    with pytest.raises(LogUnavailable):
        await writer.execute(reserve("r1"))
    log.down = False
    await writer.execute(reserve("r1"))
    assert (await writer.state(stock_stream("mug"))).value.available == 4
