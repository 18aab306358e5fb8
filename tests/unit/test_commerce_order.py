"""The rules of an order, one sentence per test."""

from datetime import UTC, datetime
from functools import reduce

import pytest

from domain.commerce.order import commands, events
from domain.commerce.order.decider import ORDER
from domain.commerce.order.events import OrderLine, ReturnedItem
from domain.commerce.order.rejections import (
    MoreThanBought,
    NotTheBuyersOrder,
    NotTheSellersOrder,
    OrderNotReady,
    OrderUnknown,
)
from domain.commerce.order.state import Order
from domain.shared.money import Money
from domain.shared.personal import Personal
from tests.unit.spec import Spec

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
order = Spec(ORDER)

MUGS = OrderLine(product_id="mug", quantity=3, price=Money("EUR", 1000))
POT = OrderLine(product_id="pot", quantity=1, price=Money("EUR", 500))
CREATED = events.OrderCreated(
    order_id="o1",
    checkout_id="c1",
    member_id="ann",
    shop_id="s1",
    seller_id="sue",
    lines=(MUGS, POT),
    total=Money("EUR", 3500),
    psp_reference="PSP1",
)
CONFIRMED = events.OrderConfirmed(order_id="o1", member_id="ann", captured=Money("EUR", 3500))
SHIPPED = events.OrderShipped(order_id="o1", member_id="ann", carrier="DHL", tracking_number="1Z")
DELIVERED = events.OrderDelivered(order_id="o1", member_id="ann")
TWO_MUGS = ReturnedItem(product_id="mug", quantity=2)
RETURNED = events.ItemsReturned(
    order_id="o1",
    member_id="ann",
    return_id="r1",
    items=(TWO_MUGS,),
    reason=Personal("too blue"),
    refund=Money("EUR", 2000),
    complete=False,
)
CANCEL = commands.CancelOrder(order_id="o1", member_id="ann")


def cancelled(because_of: str, refund: Money | None) -> events.OrderCancelled:
    return events.OrderCancelled(
        order_id="o1", member_id="ann", because_of=because_of, refund=refund
    )


def state(*history: events.OrderEvent) -> Order:
    return reduce(ORDER.evolve, history, ORDER.initial)


def give_back(return_id: str, product_id: str, quantity: int) -> commands.ReturnItems:
    return commands.ReturnItems(
        order_id="o1",
        member_id="ann",
        return_id=return_id,
        items=(ReturnedItem(product_id=product_id, quantity=quantity),),
        reason="too blue",
    )


def test_an_order_is_made_once_with_the_sum_of_its_lines() -> None:
    create = commands.CreateOrder(
        order_id="o1",
        checkout_id="c1",
        member_id="ann",
        shop_id="s1",
        seller_id="sue",
        lines=(MUGS, POT),
        psp_reference="PSP1",
    )
    order.given().when(create, at=NOON).then(CREATED)
    order.given(CREATED).when(create, at=NOON).then_nothing()


def test_a_confirmed_order_is_captured() -> None:
    order.given(CREATED).when(commands.ConfirmOrder(order_id="o1"), at=NOON).then(CONFIRMED)
    assert state(CREATED).payment_status == "authorised"
    assert state(CREATED, CONFIRMED).payment_status == "captured"


def test_cancelling_before_shipment_refunds_everything() -> None:
    order.given(CREATED, CONFIRMED).when(CANCEL, at=NOON).then(
        cancelled("buyer", Money("EUR", 3500))
    )


def test_cancelling_restocks_every_line() -> None:
    due = state(CREATED, CONFIRMED, cancelled("buyer", Money("EUR", 3500))).restock_due
    assert due == {
        "o1:cancel": (
            ReturnedItem(product_id="mug", quantity=3),
            ReturnedItem(product_id="pot", quantity=1),
        )
    }


def test_a_cancelled_order_is_cancelled_once() -> None:
    history = (CREATED, CONFIRMED, cancelled("buyer", Money("EUR", 3500)))
    order.given(*history).when(CANCEL, at=NOON).then_nothing()


def test_cancelling_while_the_payment_is_on_its_way_waits_for_it() -> None:
    requested = events.CancelRequested(order_id="o1")
    order.given(CREATED).when(CANCEL, at=NOON).then(requested)
    order.given(CREATED, requested).when(commands.ConfirmOrder(order_id="o1"), at=NOON).then(
        CONFIRMED, cancelled("buyer", Money("EUR", 3500))
    )


def test_a_shipped_order_is_not_cancelled() -> None:
    order.given(CREATED, CONFIRMED, SHIPPED).when(CANCEL, at=NOON).then_rejected(
        OrderNotReady(order_id="o1", order_status="shipped")
    )


def test_an_order_of_others_is_unknown() -> None:
    theirs = commands.CancelOrder(order_id="o1", member_id="eve")
    order.given(CREATED).when(theirs, at=NOON).then_rejected(OrderUnknown("o1"))


def test_the_seller_does_not_cancel_for_the_buyer() -> None:
    theirs = commands.CancelOrder(order_id="o1", member_id="sue")
    order.given(CREATED).when(theirs, at=NOON).then_rejected(NotTheBuyersOrder("o1"))


def test_the_seller_ships_and_delivers() -> None:
    ship = commands.ShipOrder(order_id="o1", member_id="sue", carrier="DHL", tracking_number="1Z")
    deliver = commands.DeliverOrder(order_id="o1", member_id="sue")
    order.given(CREATED, CONFIRMED).when(ship, at=NOON).then(SHIPPED)
    order.given(CREATED, CONFIRMED, SHIPPED).when(deliver, at=NOON).then(DELIVERED)
    order.given(CREATED, CONFIRMED).when(deliver, at=NOON).then_rejected(
        OrderNotReady(order_id="o1", order_status="confirmed")
    )


def test_the_buyer_does_not_ship() -> None:
    ship = commands.ShipOrder(order_id="o1", member_id="ann", carrier="DHL", tracking_number="1Z")
    order.given(CREATED, CONFIRMED).when(ship, at=NOON).then_rejected(NotTheSellersOrder("o1"))


def test_a_return_refunds_what_was_paid_for_the_units() -> None:
    history = (CREATED, CONFIRMED, SHIPPED, DELIVERED)
    order.given(*history).when(give_back("r1", "mug", 2), at=NOON).then(RETURNED)


def test_units_are_returned_once() -> None:
    history = (CREATED, CONFIRMED, SHIPPED, DELIVERED, RETURNED)
    order.given(*history).when(give_back("r2", "mug", 2), at=NOON).then_rejected(
        MoreThanBought(product_id="mug", requested=2, returnable=1)
    )


def test_nothing_is_returned_before_it_is_delivered() -> None:
    order.given(CREATED, CONFIRMED).when(give_back("r1", "mug", 1), at=NOON).then_rejected(
        OrderNotReady(order_id="o1", order_status="confirmed")
    )


def test_an_order_is_returned_once_every_unit_is_back() -> None:
    history = (CREATED, CONFIRMED, SHIPPED, DELIVERED, RETURNED)
    rest = commands.ReturnItems(
        order_id="o1",
        member_id="ann",
        return_id="r2",
        items=(
            ReturnedItem(product_id="mug", quantity=1),
            ReturnedItem(product_id="pot", quantity=1),
        ),
        reason="moved",
    )
    (event,) = ORDER.decide(rest, state(*history), NOON)
    assert isinstance(event, events.ItemsReturned)
    assert event.complete
    assert event.refund == Money("EUR", 1500)
    assert state(*history, event).status == "returned"


def test_a_refund_goes_from_due_to_done_and_its_money_counts_once() -> None:
    asked = events.RefundAsked(
        order_id="o1", refund_id="r1", amount=Money("EUR", 2000), key="o1:refund:r1:1"
    )
    history = (CREATED, CONFIRMED, SHIPPED, DELIVERED, RETURNED)
    ask = commands.AskRefund(order_id="o1", refund_id="r1")
    order.given(*history).when(ask, at=NOON).then(asked)
    done = commands.RecordRefunded(order_id="o1", refund_id="r1", psp_reference="PSP2")
    refunded = events.OrderRefunded(
        order_id="o1", refund_id="r1", amount=Money("EUR", 2000), psp_reference="PSP2"
    )
    order.given(*history, asked).when(done, at=NOON).then(refunded)
    order.given(*history, asked, refunded).when(done, at=NOON).then_nothing()
    after = state(*history, asked, refunded)
    assert (after.refunded, after.refundable) == (Money("EUR", 2000), Money("EUR", 1500))
    assert after.payment_status == "captured"


def test_a_failed_refund_is_a_problem_also_after_it_was_done() -> None:
    asked = events.RefundAsked(
        order_id="o1", refund_id="r1", amount=Money("EUR", 2000), key="o1:refund:r1:1"
    )
    refunded = events.OrderRefunded(
        order_id="o1", refund_id="r1", amount=Money("EUR", 2000), psp_reference="PSP2"
    )
    failed = commands.RecordRefundFailed(
        order_id="o1", refund_id="", psp_reference="PSP2", reason="account closed"
    )
    event = events.RefundFailed(
        order_id="o1", refund_id="r1", psp_reference="PSP2", reason="account closed"
    )
    history = (CREATED, CONFIRMED, SHIPPED, DELIVERED, RETURNED, asked, refunded)
    order.given(*history).when(failed, at=NOON).then(event)
    after = state(*history, event)
    assert (after.payment_status, after.refunded) == ("refund_failed", Money("EUR", 0))


def reversed_(*, final: bool) -> events.CaptureReversed:
    return events.CaptureReversed(order_id="o1", final=final)


def test_a_capture_that_fails_for_good_cancels_what_is_not_shipped() -> None:
    fail = commands.RecordCaptureReversed(order_id="o1", final=True)
    order.given(CREATED, CONFIRMED, reversed_(final=False)).when(fail, at=NOON).then(
        reversed_(final=True), cancelled("capture_failed", None)
    )


def test_a_capture_that_fails_for_good_after_shipment_stays_a_problem() -> None:
    fail = commands.RecordCaptureReversed(order_id="o1", final=True)
    history = (CREATED, CONFIRMED, SHIPPED, reversed_(final=False))
    order.given(*history).when(fail, at=NOON).then(reversed_(final=True))
    assert state(*history, reversed_(final=True)).payment_status == "capture_failed"


def test_a_second_capture_of_a_cancelled_order_goes_back_to_the_buyer() -> None:
    history = (CREATED, CONFIRMED, reversed_(final=False), cancelled("buyer", None))
    again = commands.RecordCaptureRepeated(order_id="o1")
    order.given(*history).when(again, at=NOON).then(
        events.CaptureRepeated(
            order_id="o1", captured=Money("EUR", 3500), refund=Money("EUR", 3500)
        )
    )


@pytest.mark.parametrize("quantity", [4, 99])
def test_more_than_was_bought_is_not_returned(quantity: int) -> None:
    history = (CREATED, CONFIRMED, SHIPPED, DELIVERED)
    order.given(*history).when(give_back("r1", "mug", quantity), at=NOON).then_rejected(
        MoreThanBought(product_id="mug", requested=quantity, returnable=3)
    )
