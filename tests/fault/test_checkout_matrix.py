"""Each step of a checkout with each way to fail: every cell ends clean, and the books agree."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from domain.commerce.order.commands import CancelOrder
from tests.contract.provider import (
    Receiver,
    StandIn,
    card,
    receiving,
    start_stand_in,
)
from tests.fault.till import (
    WAIT_SECONDS,
    Till,
    authorises,
    captures,
    creates_orders,
    reserves,
)

AWAY_SECONDS, AWAY_SECONDS_OF_ALL_FAULTS = 1.5, 60.0
FAULTS = (
    "error",
    "time-out with the work done",
    "time-out without",
    "connection reset",
    "provider away",
    "crash before the call",
    "crash after the call",
    "crash before the append",
)
AT_THE_PROVIDER = {
    "error": "error",
    "time-out with the work done": "timeout_done",
    "time-out without": "timeout_not_done",
    "connection reset": "reset_done",
}
OPERATIONS = {"authorise": "payments", "capture": "captures"}
AT_THE_LOG = {"reserve": reserves, "create_order": creates_orders}
AT_THE_CALL = {"authorise": authorises, "capture": captures}


@pytest.fixture(scope="module")
def provider(
    tmp_path_factory: pytest.TempPathFactory, ledger_totals: Counter[str]
) -> Iterator[tuple[StandIn, Receiver]]:
    with receiving() as receiver:
        stand_in = start_stand_in(tmp_path_factory.mktemp("adyen"), receiver.url)
        yield stand_in, receiver
        ledger_totals.update(stand_in.books()["totals"])
        stand_in.server.stop()


@pytest.fixture
async def till(provider: tuple[StandIn, Receiver]) -> AsyncIterator[Till]:
    stand_in, receiver = provider
    stand_in.switch()
    receiver.envelopes.clear()
    async with Till.open(stand_in, receiver) as opened:
        yield opened


@pytest.fixture
def away_seconds(request: pytest.FixtureRequest) -> float:
    """How long the log or the provider is away: a minute, where there is time for it."""
    return AWAY_SECONDS_OF_ALL_FAULTS if request.config.getoption("--all-faults") else AWAY_SECONDS


def arrange(till: Till, step: str, fault: str, away_seconds: float) -> None:
    """Make this step fail in this way, once."""
    if step in AT_THE_LOG:
        till.fail_at_the_log(fault, AT_THE_LOG[step], away_seconds)
    elif fault in AT_THE_PROVIDER:
        switched = {"kind": AT_THE_PROVIDER[fault], "count": 1, "seconds": 1.0}
        till.stand_in.switch(operations=[{"operation": OPERATIONS[step], **switched}])
    elif fault == "provider away":
        switched = {"kind": "reset_not_done", "seconds": 1.0}
        till.stand_in.switch(operations=[{"operation": OPERATIONS[step], **switched}])
        asyncio.get_running_loop().call_later(away_seconds, till.stand_in.switch)
    else:
        till.fail_at_the_call(fault, AT_THE_CALL[step])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", ["reserve", "authorise", "create_order", "capture"])
async def test_a_step_that_fails_in_passing_ends_in_one_sale(
    till: Till, step: str, fault: str, away_seconds: float
) -> None:
    product = await till.product()
    arrange(till, step, fault, away_seconds)
    checkout_id = await till.buy(product)
    assert await till.finished(checkout_id, away_seconds + WAIT_SECONDS) == "confirmed"
    if fault.startswith("crash"):
        assert till.crashes == 1
    (payment,) = till.paid(checkout_id)
    assert [m["kind"] for m in payment["movements"]] == ["capture"]
    await till.check(product, {checkout_id: "confirmed"})


REFUSALS: dict[str, tuple[dict[str, str], str]] = {
    "authorise": (card(name="DECLINED"), "payment_refused"),
    "capture": (card(name="CAPTURE_REFUSED"), "capture_failed"),
    "capture after its success": (card(name="CAPTURE_FAILED"), ""),
}


@pytest.mark.parametrize("crash", ["none", "crash before the call", "crash after the call"])
@pytest.mark.parametrize("step", ["authorise", "capture"])
async def test_a_step_that_is_refused_is_undone_also_across_a_crash(
    till: Till, step: str, crash: str
) -> None:
    method, code = REFUSALS[step]
    product = await till.product()
    if crash != "none":
        till.fail_at_the_call(crash, AT_THE_CALL[step])
    checkout_id = await till.buy(product, 2, method)
    assert await till.finished(checkout_id) == "rejected"
    state = await till.state(f"checkout:{checkout_id}")
    assert state.failure.code == code
    await till.check(product, {checkout_id: "rejected"}, 2)


async def test_too_little_stock_rejects_and_asks_for_no_money(till: Till) -> None:
    product = await till.product(1)
    checkout_id = await till.buy(product, 2)
    assert await till.finished(checkout_id) == "rejected"
    assert till.paid(checkout_id) == []
    await till.check(product, {checkout_id: "rejected"}, 2, received=1)


async def test_the_provider_refusing_to_understand_is_a_no(till: Till) -> None:
    product = await till.product()
    till.stand_in.switch(operations=[{"operation": "payments", "kind": "refuse", "count": 1}])
    checkout_id = await till.buy(product)
    assert await till.finished(checkout_id) == "rejected"
    await till.check(product, {checkout_id: "rejected"})


async def test_a_cancel_that_is_not_answered_is_asked_again(till: Till) -> None:
    product = await till.product()
    faults: list[dict[str, Any]] = [
        {"operation": "cancels", "kind": kind, "count": 1, "seconds": 1.0}
        for kind in ("error", "timeout_done", "reset_not_done", "unavailable")
    ]
    till.stand_in.switch(operations=faults)
    checkout_id = await till.buy(product, 1, card(name="CAPTURE_REFUSED"))
    assert await till.finished(checkout_id) == "rejected"
    (payment,) = till.paid(checkout_id)
    assert payment["state"] == "cancelled"
    assert [m["kind"] for m in payment["movements"]].count("cancel") == 1
    await till.check(product, {checkout_id: "rejected"})


@pytest.mark.parametrize(
    "travel",
    [
        {"duplicate": 1.0},
        {"reorder": 1.0, "delay": [0.0, 0.4]},
        {"lose": 0.6},
        {"forge": 1.0, "per_envelope": 5},
        {"duplicate": 0.5, "reorder": 1.0, "delay": [0.0, 0.5], "lose": 0.3},
    ],
    ids=["doubled", "out of order", "lost", "after forged ones", "all at once"],
)
async def test_notifications_end_in_the_same_state_however_they_travel(
    till: Till, travel: dict[str, Any]
) -> None:
    product = await till.product()
    till.stand_in.switch(notifications=travel)
    names = ["Ann", "DECLINED", "CAPTURE_REFUSED", "CAPTURE_FAILED_ONCE", "Bob"]
    expected = ["confirmed", "rejected", "rejected", "confirmed", "confirmed"]
    started = [await till.buy(product, 1, card(name=name)) for name in names]
    found = {id_: await till.finished(id_) for id_ in started}
    await asyncio.sleep(1.5)
    found = {id_: await till.finished(id_) for id_ in started}
    assert list(found.values()) == expected
    await till.check(product, found)


async def test_money_that_moves_without_a_word_is_asked_for_again_and_never_believed(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processes.patience.SETTLE_SECONDS", 0.2)
    product = await till.product()
    till.stand_in.switch(notifications={"hold": True})
    checkout_id = await till.buy(product)
    order_id = (await till.state(f"checkout:{checkout_id}")).orders[0].order_id
    checkout = await till.without_a_word(f"checkout:{checkout_id}", 2)
    order = await till.state(f"order:{order_id}")
    assert (checkout.status, order.status, order.captured.value) == ("pending", "pending", 0)
    till.crash()
    await till.without_a_word(f"checkout:{checkout_id}", 3)
    till.stand_in.switch()
    assert await till.finished(checkout_id) == "confirmed"

    till.stand_in.switch(notifications={"hold": True})
    await till.execute(CancelOrder(order_id=order_id, member_id=order.member_id))
    order = await till.without_a_word(f"order:{order_id}", 2)
    assert (order.refunded.value, order.payment_status) == (0, "captured")
    till.stand_in.switch()
    await till.paid_back(order_id)
    (payment,) = till.paid(checkout_id)
    assert [m["kind"] for m in payment["movements"]] == ["capture", "refund"]


@pytest.mark.parametrize("hours", [-5, 5], ids=["back", "forward"])
async def test_a_clock_that_jumps_loses_and_doubles_nothing(
    till: Till, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """In the middle of what is asked again and again, long beyond the end of every hold."""
    monkeypatch.setattr("infra.runtime.reacting.timers.LOOK_SECONDS", 0.05)
    product = await till.product()
    till.stand_in.switch(operations=[{"operation": "any", "kind": "unavailable"}])
    names = ["Ann", "DECLINED", "CAPTURE_REFUSED", "CAPTURE_FAILED_ONCE"]
    started = [await till.buy(product, 1, card(name=name)) for name in names]
    await asyncio.sleep(0.5)
    till.clock_set_by = timedelta(hours=hours)
    till.stand_in.switch()
    await asyncio.sleep(0.1)
    till.clock_set_by = timedelta(hours=-hours)
    found = {id_: await till.finished(id_) for id_ in started}
    await asyncio.sleep(1.0)
    found = {id_: await till.finished(id_) for id_ in started}
    assert list(found.values()) == ["confirmed", "rejected", "rejected", "confirmed"]
    await till.check(product, found)


async def test_crashes_at_random_among_many_checkouts(till: Till) -> None:
    product = await till.product()
    till.stand_in.switch(
        operations=[
            {"operation": "any", "kind": kind, "probability": 0.05, "seconds": 0.6}
            for kind in ("error", "timeout_done", "reset_done", "reset_not_done", "unavailable")
        ],
        notifications={"duplicate": 0.2, "reorder": 0.5, "lose": 0.1},
    )
    names = ["Ann", "DECLINED", "CAPTURE_REFUSED", "CAPTURE_FAILED_ONCE"]
    started = [await till.buy(product, 1, card(name=names[n % 4])) for n in range(40)]
    for moment in range(6):
        await asyncio.sleep(0.15 + 0.1 * (moment % 3))
        till.crash()
    found = {id_: await till.finished(id_) for id_ in started}
    await asyncio.sleep(1.0)
    found = {id_: await till.finished(id_) for id_ in started}
    assert till.crashes == 6
    await till.check(product, found)
    for number, status in enumerate(found.values()):
        assert status == ("rejected" if number % 4 in {1, 2} else "confirmed")
