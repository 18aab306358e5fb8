"""What a checkout does next: every phase with everything that can come in, cell by cell."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import pytest

from domain.commerce.cart.commands import RestoreCart
from domain.commerce.cart.events import CartItem
from domain.commerce.checkout import commands, events
from domain.commerce.checkout.commands import CheckoutCommand
from domain.commerce.checkout.decider import CHECKOUT
from domain.commerce.checkout.events import CheckoutOrder
from domain.commerce.checkout.rejections import (
    CheckoutIdTaken,
    CheckoutUnknown,
    CurrenciesMixed,
    NoActionAwaited,
    StepPassed,
)
from domain.commerce.checkout.state import Checkout
from domain.commerce.order.commands import (
    ConfirmOrder,
    CreateOrder,
    RecordCaptureRepeated,
    RecordCaptureReversed,
    RecordRefunded,
    RecordRefundFailed,
    RejectOrder,
)
from domain.commerce.order.events import OrderLine
from domain.commerce.order.state import Order, Refund
from domain.commerce.payment.events import PaymentNotified
from domain.commerce.stock.commands import (
    CommitReservation,
    ReceiveStock,
    ReleaseReservation,
    ReserveStock,
)
from domain.shared.money import Money
from domain.shared.personal import Personal
from infra.ports.payments import (
    Accepted,
    ActionRequired,
    Answer,
    Authorise,
    Authorised,
    Cancel,
    Capture,
    Pending,
    Refused,
    SubmitDetails,
    Unanswered,
)
from infra.ports.sagas import NO_NEWS, Answered, Cause, Next, Question, StockNews
from processes.checkout import proceed
from processes.payment_news import refund_reference
from tests.unit.spec import Spec

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HELD_UNTIL = NOON + timedelta(seconds=600)
DEADLINE = NOON + timedelta(seconds=1200)
SETTLED = NOON + timedelta(seconds=60)

MUG = OrderLine(product_id="mug", quantity=2, price=Money("EUR", 1000), source_post_id="p1")
POT = OrderLine(product_id="pot", quantity=1, price=Money("EUR", 500))
ORDERS = (
    CheckoutOrder(order_id="o1", shop_id="s1", seller_id="sue", lines=(MUG,)),
    CheckoutOrder(order_id="o2", shop_id="s2", seller_id="bob", lines=(POT,)),
)

STARTED = events.CheckoutStarted(
    checkout_id="c1",
    member_id="ann",
    orders=ORDERS,
    total=Money("EUR", 2500),
    shipping_address=Personal("{}"),
    hold_seconds=600,
    deadline=DEADLINE,
)
RESERVED = events.ItemsReserved(checkout_id="c1", expires_at=HELD_UNTIL)
AUTHORISED = events.PaymentAuthorised(checkout_id="c1", psp_reference="PSP")
CREATED = events.OrdersCreated(checkout_id="c1")
CONFIRMED = events.CheckoutConfirmed(checkout_id="c1", member_id="ann")
ACTION = events.ActionRequired(checkout_id="c1", action={"type": "redirect"})
PENDING = events.PaymentPending(checkout_id="c1", psp_reference="PSP")


def asked(step: str, attempt: int = 1, psp: str = "") -> events.ProviderAsked:
    return events.ProviderAsked(
        checkout_id="c1",
        step=step,  # type: ignore[arg-type]
        attempt=attempt,
        key=f"c1:{step}:{attempt}",
        psp_reference=psp,
        secrets={"authorise": "payment", "details": "d1"}.get(step, ""),
    )


def accepted(attempt: int, psp: str) -> events.CaptureAccepted:
    return events.CaptureAccepted(
        checkout_id="c1", attempt=attempt, psp_reference=psp, settles_at=SETTLED
    )


def unconfirmed(retry_at: datetime) -> events.CaptureUnconfirmed:
    return events.CaptureUnconfirmed(
        checkout_id="c1", attempt=1, said="accepted it again", retry_at=retry_at
    )


def captured(attempt: int = 1, psp: str = "CAP1") -> events.PaymentCaptured:
    return events.PaymentCaptured(checkout_id="c1", attempt=attempt, psp_reference=psp)


def capture_failed(attempt: int = 1, psp: str = "CAP1") -> events.CaptureFailed:
    return events.CaptureFailed(checkout_id="c1", attempt=attempt, psp_reference=psp, reason="no")


def failed(code: str, outcome: str = "rejected") -> events.CheckoutFailed:
    return events.CheckoutFailed(
        checkout_id="c1",
        code=code,
        detail="",
        outcome=outcome,  # type: ignore[arg-type]
    )


RESERVING = (STARTED,)
AUTHORISING = (STARTED, RESERVED, asked("authorise"))
ACTING = (*AUTHORISING, ACTION)
DETAILS = (*ACTING, asked("details"))
WAITING = (*AUTHORISING, PENDING)
CREATING = (*AUTHORISING, AUTHORISED)
CAPTURING = (*CREATING, CREATED, asked("capture", 1, "PSP"))
SETTLING = (*CAPTURING, accepted(1, "CAP1"))
UNCONFIRMED = (*SETTLING, unconfirmed(SETTLED + timedelta(seconds=120)))
CAPTURING_AGAIN = (*SETTLING, capture_failed(), asked("capture", 2, "PSP"))
CONFIRMING = (*SETTLING, captured())
DONE = (*CONFIRMING, CONFIRMED)
DONE_AGAIN = (*DONE, capture_failed(), asked("capture", 2, "PSP"))
REJECTED_END = events.CheckoutRejected(
    checkout_id="c1", member_id="ann", code="payment_refused", detail=""
)
REFUSED = (
    *AUTHORISING,
    events.PaymentRefused(checkout_id="c1", psp_reference="PSP", reason="no"),
    failed("payment_refused"),
    events.ItemsReleased(checkout_id="c1"),
    REJECTED_END,
)
EXPIRED = (
    *ACTING,
    failed("expired", "cancelled"),
    events.ItemsReleased(checkout_id="c1"),
    events.CheckoutCancelled(checkout_id="c1", member_id="ann", code="expired", detail=""),
)
CANCELLING = (*CREATING, failed("insufficient_stock"), asked("cancel", 1, "PSP"))

HISTORIES: Mapping[str, Sequence[Any]] = {
    "reserve": RESERVING,
    "authorise": AUTHORISING,
    "action": ACTING,
    "details": DETAILS,
    "pending": WAITING,
    "create_orders": CREATING,
    "capture": CAPTURING,
    "capture accepted": SETTLING,
    "capture unconfirmed": UNCONFIRMED,
    "capture again": CAPTURING_AGAIN,
    "confirm": CONFIRMING,
    "confirmed": DONE,
    "confirmed, capture again": DONE_AGAIN,
    "undo": CANCELLING,
    "rejected": REFUSED,
    "cancelled": EXPIRED,
}


def state(history: Sequence[Any]) -> Checkout:
    return reduce(CHECKOUT.evolve, history, CHECKOUT.initial)


def told(code: str, psp: str, *, success: bool = True, reference: str = "c1") -> PaymentNotified:
    return PaymentNotified(
        checkout_id="c1",
        event_code=code,
        success=success,
        psp_reference=psp,
        original_reference="PSP",
        merchant_reference=reference,
        amount=Money("EUR", 2500),
        reason="no" if not success else "",
        event_date="",
    )


def answer(key: str, said: Answer) -> Answered:
    return Answered(key, said)


def next_of(
    history: Sequence[Any],
    cause: Cause = None,
    *,
    looked: Mapping[str, Any] | None = None,
    news: StockNews = NO_NEWS,
    at: datetime = NOON,
) -> Next:
    return proceed(state(history), cause, looked or {}, news, at)


def recorded(following: Next, history: Sequence[Any], at: datetime = NOON) -> list[str]:
    """The tags of what the checkout records, with what is commanded of others in between."""
    now = state(history)
    found = []
    for command in following.commands:
        if not isinstance(command, CheckoutCommand):
            found.append(type(command).__name__)
            continue
        for event in CHECKOUT.decide(command, now, at):
            now = CHECKOUT.evolve(now, event)
            found.append(str(event.__struct_config__.tag).removeprefix("checkout.")[:-3])
    return found


SELL = ["CommitReservation", "CommitReservation", "CreateOrder", "CreateOrder"]
TO_CAPTURE = [*SELL, "orders_created", "provider_asked"]
TO_CONFIRMED = ["ConfirmOrder", "ConfirmOrder", "confirmed"]
RELEASE = ["ReleaseReservation", "ReleaseReservation", "released"]
TO_REJECTED = ["RestoreCart", "rejected"]
TO_CANCELLED = ["RestoreCart", "cancelled"]
UNDO_ORDERS = ["RejectOrder", "RejectOrder", "ReceiveStock", "ReceiveStock", "orders_undone"]

YES, OTHER = told("AUTHORISATION", "PSP"), told("AUTHORISATION", "PSP9")
NO = told("AUTHORISATION", "PSP", success=False)
CAPTURE_YES = told("CAPTURE", "CAP1")
CAPTURE_NO = told("CAPTURE", "CAP1", success=False)
LATE_FAILURE = told("CAPTURE_FAILED", "CAP1")
CANCEL_YES = told("CANCELLATION", "CAN1")
CANCEL_NO = told("CANCELLATION", "CAN1", success=False)
CHARGEBACK = told("CHARGEBACK", "CB1")

REFUSAL = ["refused", "failed", *RELEASE, *TO_REJECTED]
NOTHING: list[str] = []
UNWANTED = ["unwanted_authorised", "provider_asked"]
AFTER_LATE_FAILURE = ["capture_failed", "provider_asked"]

# One row a phase: what is recorded when each of these notifications comes in.
TABLE: Mapping[str, Mapping[str, list[str]]] = {
    "authorise": {
        "yes": ["authorised", *TO_CAPTURE],
        "no": REFUSAL,
    },
    "action": {"yes": ["authorised", *TO_CAPTURE], "no": REFUSAL},
    "details": {"yes": ["authorised", *TO_CAPTURE], "no": REFUSAL},
    "pending": {"yes": ["authorised", *TO_CAPTURE], "no": REFUSAL},
    "capture": {
        "other yes": UNWANTED[:1],
        "capture yes": ["captured", *TO_CONFIRMED],
        "capture no": AFTER_LATE_FAILURE,
        "capture failed": AFTER_LATE_FAILURE,
    },
    "capture accepted": {
        "other yes": UNWANTED[:1],
        "capture yes": ["captured", *TO_CONFIRMED],
        "capture no": AFTER_LATE_FAILURE,
        "capture failed": AFTER_LATE_FAILURE,
    },
    "capture unconfirmed": {
        "other yes": UNWANTED[:1],
        "capture yes": ["captured", *TO_CONFIRMED],
        "capture no": AFTER_LATE_FAILURE,
        "capture failed": AFTER_LATE_FAILURE,
    },
    "capture again": {"other yes": UNWANTED[:1]},
    "confirmed": {
        "other yes": UNWANTED,
        "capture no": [
            "capture_failed",
            "provider_asked",
            "RecordCaptureReversed",
            "RecordCaptureReversed",
        ],
        "capture failed": [
            "capture_failed",
            "provider_asked",
            "RecordCaptureReversed",
            "RecordCaptureReversed",
        ],
    },
    "confirmed, capture again": {"other yes": UNWANTED},
    "undo": {
        "other yes": UNWANTED,
        "cancel yes": ["cancel_accepted", *RELEASE, *TO_REJECTED],
        "cancel no": ["cancel_failed", "provider_asked"],
    },
    "rejected": {"yes": UNWANTED, "other yes": UNWANTED},
    "cancelled": {"yes": UNWANTED, "other yes": UNWANTED},
}
NOTIFICATIONS = {
    "yes": YES,
    "other yes": OTHER,
    "no": NO,
    "capture yes": CAPTURE_YES,
    "capture no": CAPTURE_NO,
    "capture failed": LATE_FAILURE,
    "cancel yes": CANCEL_YES,
    "cancel no": CANCEL_NO,
    "chargeback": CHARGEBACK,
}


@pytest.mark.parametrize("name", list(NOTIFICATIONS))
@pytest.mark.parametrize("phase", list(TABLE))
def test_each_notification_in_each_phase(phase: str, name: str) -> None:
    expected = TABLE[phase].get(name, NOTHING)
    if name == "other yes" and phase in {"authorise", "action", "details", "pending"}:
        expected = ["authorised", *TO_CAPTURE]
    history = HISTORIES[phase]
    looked = {"order:o1": Order(status="confirmed"), "order:o2": Order(status="confirmed")}
    following = next_of(history, NOTIFICATIONS[name], looked=looked)
    assert recorded(following, history) == expected


@pytest.mark.parametrize("phase", list(HISTORIES))
def test_a_refund_notification_moves_no_checkout(phase: str) -> None:
    following = next_of(HISTORIES[phase], told("REFUND", "REF1"))
    assert not any(
        type(command).__name__.startswith("RecordRefund") for command in following.commands
    )


# What is done at once.


def test_reserving_holds_every_line_and_stores_the_key_of_the_authorisation() -> None:
    following = next_of(RESERVING)
    assert following.commands == [
        ReserveStock(product_id="mug", reservation_id="c1.1", quantity=2, expires_at=HELD_UNTIL),
        ReserveStock(product_id="pot", reservation_id="c1.1", quantity=1, expires_at=HELD_UNTIL),
        commands.RecordReserved(checkout_id="c1", expires_at=HELD_UNTIL),
    ]
    assert recorded(following, RESERVING)[2:] == ["reserved", "provider_asked"]


def test_too_little_stock_rejects_and_puts_the_cart_back() -> None:
    following = next_of(RESERVING, news=StockNews(short="2 of mug were wanted"))
    assert recorded(following, RESERVING) == ["failed", *TO_REJECTED]
    assert following.commands[1] == RestoreCart(
        member_id="ann",
        checkout_id="c1",
        items=(
            CartItem(
                product_id="mug",
                quantity=2,
                seen_price=Money("EUR", 1000),
                source_post_id="p1",
            ),
            CartItem(product_id="pot", quantity=1, seen_price=Money("EUR", 500)),
        ),
    )


def test_the_authorisation_is_asked_under_its_stored_key() -> None:
    (question,) = next_of(AUTHORISING).questions
    assert question == Question(
        "c1:authorise:1",
        Authorise(
            key="c1:authorise:1",
            reference="c1",
            amount=Money("EUR", 2500),
            buyer_id="ann",
            secrets={},
        ),
        "payment",
    )


def test_an_authorised_payment_sells_the_holds_and_stores_the_key_of_the_capture() -> None:
    following = next_of(AUTHORISING, answer("c1:authorise:1", Authorised("PSP")))
    assert following.commands == [
        commands.RecordAuthorised(checkout_id="c1", psp_reference="PSP"),
        CommitReservation(product_id="mug", reservation_id="c1.1"),
        CommitReservation(product_id="pot", reservation_id="c1.1"),
        CreateOrder(
            order_id="o1",
            checkout_id="c1",
            member_id="ann",
            shop_id="s1",
            seller_id="sue",
            lines=(MUG,),
            psp_reference="PSP",
        ),
        CreateOrder(
            order_id="o2",
            checkout_id="c1",
            member_id="ann",
            shop_id="s2",
            seller_id="bob",
            lines=(POT,),
            psp_reference="PSP",
        ),
        commands.RecordOrdersCreated(checkout_id="c1"),
    ]


def test_a_hold_that_ran_out_is_taken_again_before_it_is_sold() -> None:
    following = next_of(CREATING, news=StockNews(ended=frozenset({"pot"})))
    assert following.commands[:3] == [
        CommitReservation(product_id="mug", reservation_id="c1.1"),
        ReserveStock(product_id="pot", reservation_id="c1.2", quantity=1, expires_at=HELD_UNTIL),
        CommitReservation(product_id="pot", reservation_id="c1.2"),
    ]


def test_a_hold_that_cannot_be_taken_again_cancels_the_payment() -> None:
    following = next_of(CREATING, news=StockNews(short="1 of pot was wanted"))
    assert recorded(following, CREATING) == ["failed", "provider_asked"]
    history = (*CREATING, failed("insufficient_stock"), asked("cancel", 1, "PSP"))
    (question,) = next_of(history).questions
    assert question.request == Cancel(
        key="c1:cancel:1", reference="c1-cancel-1", psp_reference="PSP"
    )


def test_the_capture_is_asked_for_the_whole_amount() -> None:
    (question,) = next_of(CAPTURING).questions
    assert question.request == Capture(
        key="c1:capture:1",
        reference="c1-capture-1",
        psp_reference="PSP",
        amount=Money("EUR", 2500),
    )


def test_confirming_confirms_every_order() -> None:
    assert next_of(CONFIRMING).commands == [
        ConfirmOrder(order_id="o1"),
        ConfirmOrder(order_id="o2"),
        commands.RecordConfirmed(checkout_id="c1"),
    ]


@pytest.mark.parametrize("history", [DONE, REFUSED, EXPIRED])
def test_a_finished_checkout_is_over(history: Sequence[Any]) -> None:
    assert next_of(history) == Next(questions=[], over=True)


# Answers.


@pytest.mark.parametrize("history", [AUTHORISING, DETAILS])
def test_a_refused_payment_gives_everything_back(history: Sequence[Any]) -> None:
    key = "c1:details:1" if history is DETAILS else "c1:authorise:1"
    following = next_of(history, answer(key, Refused("Not enough balance", "PSP")))
    assert recorded(following, history) == REFUSAL


def test_a_required_action_waits_for_the_buyer_until_the_deadline() -> None:
    said = ActionRequired({"type": "redirect"})
    following = next_of(AUTHORISING, answer("c1:authorise:1", said))
    assert recorded(following, AUTHORISING) == ["action_required"]
    assert next_of(ACTING) == Next(questions=[], wake_at=DEADLINE)


@pytest.mark.parametrize("history", [ACTING, WAITING])
def test_a_payment_that_takes_too_long_is_given_up(history: Sequence[Any]) -> None:
    following = next_of(history, at=DEADLINE)
    assert recorded(following, history, DEADLINE) == ["failed", *RELEASE, *TO_CANCELLED]


def test_details_are_submitted_with_what_the_vault_keeps() -> None:
    (question,) = next_of(DETAILS).questions
    assert question == Question("c1:details:1", SubmitDetails(key="c1:details:1", secrets={}), "d1")


def test_a_pending_payment_waits_for_its_notification() -> None:
    following = next_of(AUTHORISING, answer("c1:authorise:1", Pending("PSP")))
    assert recorded(following, AUTHORISING) == ["payment_pending"]
    assert next_of(WAITING) == Next(questions=[], wake_at=DEADLINE)


@pytest.mark.parametrize(
    ("history", "key"),
    [
        (AUTHORISING, "c1:authorise:1"),
        (DETAILS, "c1:details:1"),
        (CAPTURING, "c1:capture:1"),
        (CAPTURING_AGAIN, "c1:capture:2"),
        (CANCELLING, "c1:cancel:1"),
    ],
)
def test_no_answer_is_not_a_no(history: Sequence[Any], key: str) -> None:
    """It is asked again under the same key, after a wait that doubles."""
    following = next_of(history, answer(key, Unanswered("timed out")))
    assert recorded(following, history) == ["provider_unanswered"]
    retry_at = NOON + timedelta(seconds=0.25)
    after = (
        *history,
        events.ProviderUnanswered(checkout_id="c1", key=key, reason="timed out", retry_at=retry_at),
    )
    assert next_of(after).wake_at == retry_at
    assert not next_of(after).questions
    (question,) = next_of(after, at=retry_at).questions
    assert question.key == key
    (again,) = next_of(after, answer(key, Unanswered("timed out"))).commands
    assert isinstance(again, commands.RecordUnanswered)
    assert again.retry_at == NOON + timedelta(seconds=0.5)


def test_no_answer_is_not_a_no_however_late_it_is() -> None:
    late = DEADLINE + timedelta(days=1)
    assert next_of(AUTHORISING, at=late).questions
    assert not next_of(AUTHORISING, at=late).commands


@pytest.mark.parametrize(
    ("history", "key"), [(AUTHORISING, "c1:authorise:1"), (CAPTURING, "c1:capture:1")]
)
def test_an_answer_that_does_not_fit_is_no_answer(history: Sequence[Any], key: str) -> None:
    said: Answer = Accepted("X") if history is AUTHORISING else Authorised("X")
    assert recorded(next_of(history, answer(key, said)), history) == ["provider_unanswered"]


def test_an_accepted_capture_waits_for_its_notification() -> None:
    following = next_of(CAPTURING, answer("c1:capture:1", Accepted("CAP1")))
    assert recorded(following, CAPTURING) == ["capture_accepted"]
    assert next_of(SETTLING) == Next(questions=[], wake_at=SETTLED)


SAID_AGAIN: Sequence[Answer] = (
    Accepted("CAP1"),
    Refused("already captured"),
    Unanswered("timed out"),
)


@pytest.mark.parametrize("said", SAID_AGAIN)
def test_a_capture_without_a_word_is_asked_again_under_its_key_and_never_believed(
    said: Answer,
) -> None:
    """Whatever the question's repetition is answered: only a notification decides."""
    late = next_of(SETTLING, at=SETTLED)
    assert not late.commands
    assert [question.key for question in late.questions] == ["c1:capture:1"]
    following = next_of(SETTLING, answer("c1:capture:1", said), at=SETTLED)
    assert recorded(following, SETTLING) == ["capture_unconfirmed"]
    (command,) = following.commands
    assert isinstance(command, commands.RecordCaptureUnconfirmed)
    assert command.retry_at == SETTLED + timedelta(seconds=120)
    history = (*SETTLING, unconfirmed(command.retry_at))
    assert next_of(history, at=SETTLED) == Next(questions=[], wake_at=command.retry_at)
    assert recorded(next_of(history, CAPTURE_YES), history) == ["captured", *TO_CONFIRMED]
    assert recorded(next_of(history, CAPTURE_NO), history) == AFTER_LATE_FAILURE


def test_the_waits_of_a_capture_without_a_word_grow_to_an_hour_and_end_with_its_key() -> None:
    history: tuple[Any, ...] = SETTLING
    at = SETTLED
    waits = []
    while questions := next_of(history, at=at).questions:
        assert [question.key for question in questions] == ["c1:capture:1"]
        (command,) = next_of(history, answer("c1:capture:1", Accepted("CAP1")), at=at).commands
        assert isinstance(command, commands.RecordCaptureUnconfirmed)
        history = (*history, unconfirmed(command.retry_at))
        waits.append((command.retry_at - at).total_seconds())
        at = command.retry_at
    assert waits[:7] == [120, 240, 480, 960, 1920, 3600, 3600]
    assert timedelta(0) <= at - (SETTLED + timedelta(days=6)) < timedelta(hours=1)
    assert next_of(history, at=at + timedelta(days=30)) == Next(questions=[])
    assert recorded(next_of(history, CAPTURE_YES), history) == ["captured", *TO_CONFIRMED]


@pytest.mark.parametrize(
    ("history", "key"), [(AUTHORISING, "c1:authorise:1"), (SETTLING, "c1:capture:1")]
)
def test_a_clock_that_was_set_back_puts_nothing_off(history: Sequence[Any], key: str) -> None:
    said: Sequence[Any] = ()
    if history is AUTHORISING:
        said = [
            events.ProviderUnanswered(
                checkout_id="c1", key=key, reason="", retry_at=NOON + timedelta(seconds=10)
            )
        ]
    before = NOON - timedelta(days=1)
    (question,) = next_of((*history, *said), at=before).questions
    assert question.key == key


def test_the_answer_to_a_question_that_was_not_due_again_changes_nothing() -> None:
    assert not next_of(SETTLING, answer("c1:capture:1", Accepted("CAP1"))).commands


def test_a_notification_may_come_before_the_answer() -> None:
    history = (*CAPTURING, captured(), CONFIRMED)
    assert not next_of(history, answer("c1:capture:1", Accepted("CAP1"))).commands
    assert not next_of(CAPTURING, answer("c1:authorise:1", Authorised("PSP"))).commands


def test_a_late_no_after_the_notification_said_yes_changes_nothing() -> None:
    history = (*CAPTURING, captured(), CONFIRMED)
    assert not next_of(history, answer("c1:capture:1", Refused("too late"))).commands


def test_a_late_yes_after_a_refusal_is_cancelled() -> None:
    following = next_of(REFUSED, answer("c1:authorise:1", Authorised("PSP")))
    assert recorded(following, REFUSED) == UNWANTED


# Captures that fail.


def test_a_second_capture_that_fails_undoes_the_orders_then_the_payment() -> None:
    following = next_of(CAPTURING_AGAIN, answer("c1:capture:2", Refused("no")))
    assert recorded(following, CAPTURING_AGAIN) == [
        "capture_failed",
        "failed",
        *UNDO_ORDERS,
        "provider_asked",
    ]
    assert RejectOrder(order_id="o1", because_of="capture_failed") in following.commands
    restock = ReceiveStock(product_id="mug", quantity=2, reference="o1:rejected")
    assert restock in following.commands


def test_undoing_ends_once_the_payment_is_cancelled() -> None:
    history = (
        *CAPTURING_AGAIN,
        capture_failed(2, "CAP2"),
        failed("capture_failed"),
        events.OrdersUndone(checkout_id="c1"),
        asked("cancel", 1, "PSP"),
    )
    following = next_of(history, answer("c1:cancel:1", Accepted("CAN1")))
    assert recorded(following, history) == ["cancel_accepted", *TO_REJECTED]


def test_a_failure_that_overtakes_its_success_ends_in_the_same_state() -> None:
    first = state((*CAPTURING, captured(), CONFIRMED, capture_failed(), asked("capture", 2, "PSP")))
    other = state(CAPTURING_AGAIN)
    assert not proceed(other, CAPTURE_YES, {}, NO_NEWS, NOON).commands
    assert not proceed(first, CAPTURE_YES, {}, NO_NEWS, NOON).commands


@pytest.mark.parametrize(
    ("statuses", "cancels"),
    [(("confirmed", "confirmed"), True), (("shipped", "confirmed"), False)],
)
def test_a_capture_that_fails_for_good_after_confirmation(
    statuses: tuple[str, str],
    cancels: bool,  # noqa: FBT001
) -> None:
    looked = {
        f"order:o{number}": Order(status=status)  # type: ignore[arg-type]
        for number, status in enumerate(statuses, start=1)
    }
    following = next_of(DONE_AGAIN, answer("c1:capture:2", Refused("no")), looked=looked)
    assert following.commands[1:3] == [
        RecordCaptureReversed(order_id="o1", final=True),
        RecordCaptureReversed(order_id="o2", final=True),
    ]
    assert ("provider_asked" in recorded(following, DONE_AGAIN)) is cancels


def test_a_second_capture_that_succeeds_puts_the_orders_right() -> None:
    history = (*DONE_AGAIN, accepted(2, "CAP2"))
    following = next_of(history, told("CAPTURE", "CAP2"))
    assert following.commands == [
        commands.RecordCaptured(checkout_id="c1", psp_reference="CAP2"),
        RecordCaptureRepeated(order_id="o1"),
        RecordCaptureRepeated(order_id="o2"),
    ]


def test_a_cancel_that_is_refused_is_asked_three_times() -> None:
    history: tuple[Any, ...] = CANCELLING
    for attempt in (1, 2):
        following = next_of(history, answer(f"c1:cancel:{attempt}", Refused("no")))
        assert recorded(following, history) == ["cancel_failed", "provider_asked"]
        now = state(history)
        for command in following.commands:
            assert isinstance(command, CheckoutCommand)
            found = CHECKOUT.decide(command, now, NOON)
            now = reduce(CHECKOUT.evolve, found, now)
            history = (*history, *found)
    following = next_of(history, answer("c1:cancel:3", Refused("no")))
    assert recorded(following, history) == ["cancel_failed", *RELEASE, *TO_REJECTED]


# Refunds.


@pytest.mark.parametrize("by_reference", [True, False])
def test_a_refund_is_found_by_our_reference_or_by_theirs(by_reference: bool) -> None:  # noqa: FBT001
    refund = Refund(amount=Money("EUR", 500), status="accepted", psp_reference="REF1")
    looked = {"order:o1": Order(), "order:o2": Order(refunds={"r1": refund})}
    reference = refund_reference("c1", "o2", "r1") if by_reference else "c1"
    yes = told("REFUND", "REF1", reference=reference)
    no = told("REFUND_FAILED", "REF1", reference=reference)
    refund_id = "r1" if by_reference else ""
    assert next_of(DONE, yes, looked=looked).commands == [
        RecordRefunded(order_id="o2", refund_id=refund_id, psp_reference="REF1")
    ]
    assert next_of(DONE, no, looked=looked).commands == [
        RecordRefundFailed(order_id="o2", refund_id=refund_id, psp_reference="REF1", reason="")
    ]


# What the decider refuses.

checkout = Spec(CHECKOUT)


def test_a_checkout_starts_once_and_sums_its_lines() -> None:
    start = commands.StartCheckout(
        checkout_id="c1",
        member_id="ann",
        orders=ORDERS,
        shipping_address="{}",
        hold_seconds=600,
    )
    checkout.given().when(start, at=NOON).then(STARTED)
    checkout.given(STARTED).when(start, at=NOON).then_rejected(CheckoutIdTaken("c1"))


def test_a_checkout_is_paid_in_one_currency() -> None:
    dollars = OrderLine(product_id="pen", quantity=1, price=Money("USD", 1))
    order = CheckoutOrder(order_id="o3", shop_id="s", seller_id="x", lines=(MUG, dollars))
    start = commands.StartCheckout(
        checkout_id="c1", member_id="ann", orders=(order,), shipping_address="", hold_seconds=1
    )
    checkout.given().when(start, at=NOON).then_rejected(CurrenciesMixed())


def test_details_are_taken_from_the_buyer_while_they_are_awaited() -> None:
    mine = commands.SubmitDetails(checkout_id="c1", member_id="ann", secrets="d1")
    theirs = commands.SubmitDetails(checkout_id="c1", member_id="eve", secrets="d1")
    checkout.given(*ACTING).when(mine, at=NOON).then(asked("details"))
    checkout.given(*ACTING).when(theirs, at=NOON).then_rejected(CheckoutUnknown("c1"))
    checkout.given(*DONE).when(mine, at=NOON).then_rejected(NoActionAwaited("c1", "confirmed"))
    checkout.given().when(mine, at=NOON).then_rejected(CheckoutUnknown("c1"))


@pytest.mark.parametrize(
    "command",
    [
        commands.RecordReserved(checkout_id="c1", expires_at=HELD_UNTIL),
        commands.RecordOrdersCreated(checkout_id="c1"),
        commands.RecordConfirmed(checkout_id="c1"),
        commands.RecordOrdersUndone(checkout_id="c1"),
        commands.RecordReleased(checkout_id="c1"),
        commands.FinishCheckout(checkout_id="c1"),
        commands.RecordAuthorised(checkout_id="c1", psp_reference="PSP"),
        commands.RecordCaptured(checkout_id="c1", psp_reference="CAP1"),
    ],
)
def test_a_step_that_is_passed_is_refused_with_all_that_goes_with_it(
    command: CheckoutCommand,
) -> None:
    checkout.given(*DONE).when(command, at=NOON).then_rejected(StepPassed("c1"))


def test_releasing_in_the_end_names_every_hold() -> None:
    following = next_of((*AUTHORISING, failed("payment_refused")))
    assert following.commands[:2] == [
        ReleaseReservation(product_id="mug", reservation_id="c1.1"),
        ReleaseReservation(product_id="pot", reservation_id="c1.1"),
    ]
