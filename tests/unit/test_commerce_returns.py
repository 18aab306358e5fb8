"""What happens after an order is cancelled or items come back, row by row of its table."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import pytest

from domain.commerce.order import commands, events
from domain.commerce.order.decider import ORDER
from domain.commerce.order.events import OrderLine
from domain.commerce.order.state import Order
from domain.commerce.stock.commands import ReceiveStock
from domain.shared.money import Money
from infra.ports import payments
from infra.ports.payments import Accepted, Answer, Authorised, Refused, Unanswered
from infra.ports.sagas import NO_NEWS, Answered, Cause, Next
from processes.returns import proceed

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SETTLED = NOON + timedelta(seconds=60)
PRICE = Money("EUR", 1000)
KEY = "o1:refund:cancel:1"

CREATED = events.OrderCreated(
    order_id="o1",
    checkout_id="c1",
    member_id="ann",
    shop_id="s1",
    seller_id="sue",
    lines=(OrderLine(product_id="mug", quantity=1, price=PRICE),),
    total=PRICE,
    psp_reference="PSP",
)
CONFIRMED = events.OrderConfirmed(order_id="o1", member_id="ann", captured=PRICE)
CANCELLED = events.OrderCancelled(order_id="o1", member_id="ann", because_of="buyer", refund=PRICE)
RESTOCKED = events.ItemsRestocked(order_id="o1", reference="o1:cancel")
ASKED = events.RefundAsked(order_id="o1", refund_id="cancel", amount=PRICE, key=KEY)
ACCEPTED = events.RefundAccepted(
    order_id="o1", refund_id="cancel", psp_reference="REF", settles_at=SETTLED
)
DUE = (CREATED, CONFIRMED, CANCELLED)
ASKING = (*DUE, RESTOCKED, ASKED)
SETTLING = (*ASKING, ACCEPTED)


def next_of(history: Sequence[Any], cause: Cause = None, at: datetime = NOON) -> Next:
    order: Order = reduce(ORDER.evolve, history, ORDER.initial)
    return proceed(order, cause, {}, NO_NEWS, at)


def said(answer: Answer) -> Answered:
    return Answered(KEY, answer)


def test_units_are_put_back_and_the_key_of_the_refund_is_stored_in_one_append() -> None:
    assert next_of(DUE).commands == [
        ReceiveStock(product_id="mug", quantity=1, reference="o1:cancel"),
        commands.RecordRestocked(order_id="o1", reference="o1:cancel"),
        commands.AskRefund(order_id="o1", refund_id="cancel"),
    ]


def test_nothing_goes_back_of_what_was_never_taken() -> None:
    reversed_ = events.CaptureReversed(order_id="o1", final=False)
    history = (CREATED, CONFIRMED, reversed_, CANCELLED, RESTOCKED)
    assert next_of(history) == Next(questions=[])


def test_the_refund_is_asked_under_its_stored_key() -> None:
    (question,) = next_of(ASKING).questions
    assert question.request == payments.Refund(
        key=KEY, reference="c1-refund-o1-cancel", psp_reference="PSP", amount=PRICE
    )


@pytest.mark.parametrize(
    ("answer", "recorded"),
    [
        (
            Accepted("REF"),
            commands.RecordRefundAccepted(
                order_id="o1", refund_id="cancel", psp_reference="REF", settles_at=SETTLED
            ),
        ),
        (
            Refused("too old", "REF"),
            commands.RecordRefundFailed(
                order_id="o1", refund_id="cancel", psp_reference="REF", reason="too old"
            ),
        ),
        (
            Unanswered("timed out"),
            commands.RecordRefundUnanswered(
                order_id="o1",
                refund_id="cancel",
                reason="timed out",
                retry_at=NOON + timedelta(seconds=0.25),
            ),
        ),
        (
            Authorised("REF"),
            commands.RecordRefundUnanswered(
                order_id="o1",
                refund_id="cancel",
                reason="it answered Authorised",
                retry_at=NOON + timedelta(seconds=0.25),
            ),
        ),
    ],
)
def test_each_answer_to_a_refund(answer: Answer, recorded: Any) -> None:
    assert next_of(ASKING, said(answer)).commands == [recorded]


def test_an_accepted_refund_waits_for_its_notification() -> None:
    assert next_of(SETTLING) == Next(questions=[], wake_at=SETTLED)
    assert next_of(SETTLING, said(Refused("late"))) == Next(questions=[], wake_at=SETTLED)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Accepted("REF"), "accepted it again"),
        (Refused("already refunded"), "already refunded"),
        (Unanswered("timed out"), "timed out"),
    ],
)
def test_a_refund_without_a_word_is_asked_again_under_its_key_and_never_believed(
    answer: Answer, words: str
) -> None:
    late = next_of(SETTLING, at=SETTLED)
    assert not late.commands
    assert [question.key for question in late.questions] == [KEY]
    again = commands.RecordRefundUnconfirmed(
        order_id="o1",
        refund_id="cancel",
        said=words,
        retry_at=SETTLED + timedelta(seconds=120),
    )
    assert next_of(SETTLING, said(answer), at=SETTLED).commands == [again]
    unconfirmed = events.RefundUnconfirmed(
        order_id="o1", refund_id="cancel", said=words, retry_at=again.retry_at
    )
    after = next_of((*SETTLING, unconfirmed), at=SETTLED)
    assert after == Next(questions=[], wake_at=again.retry_at)


def test_a_refund_is_not_asked_again_once_its_key_may_be_forgotten() -> None:
    assert next_of(SETTLING, at=SETTLED + timedelta(days=6)) == Next(questions=[])


def test_a_refund_that_is_done_or_failed_is_over() -> None:
    done = events.OrderRefunded(
        order_id="o1", refund_id="cancel", amount=PRICE, psp_reference="REF"
    )
    failed = events.RefundFailed(order_id="o1", refund_id="cancel", reason="closed")
    for end in (done, failed):
        assert next_of((*SETTLING, end), at=SETTLED) == Next(questions=[])
