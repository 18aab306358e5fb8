"""Stock and checkouts against a plain model, in histories that nobody would think of.

The deciders and the process run for real, on states in a dictionary. The provider is a model: a
few numbers for each payment. Answers get lost, notifications come twice, late and in any order,
time passes, the process forgets all that it did not write down.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.commerce.cart.commands import CheckOutCart, PutCartItem
from domain.commerce.cart.events import CartItem
from domain.commerce.checkout.commands import StartCheckout
from domain.commerce.checkout.decider import checkout_stream
from domain.commerce.checkout.events import CheckoutOrder
from domain.commerce.checkout.rejections import StepPassed
from domain.commerce.checkout.state import Checkout
from domain.commerce.order.commands import CancelOrder, DeliverOrder, ReturnItems, ShipOrder
from domain.commerce.order.decider import order_stream
from domain.commerce.order.events import OrderLine, ReturnedItem
from domain.commerce.order.rejections import OrderMovedOn
from domain.commerce.payment.events import PaymentNotified
from domain.commerce.stock.commands import ExpireReservations, ReceiveStock
from domain.commerce.stock.decider import stock_stream
from domain.commerce.stock.rejections import OutOfStock, ReservationNotHeld
from domain.deciders import DECIDERS
from domain.shared.message import Command
from domain.shared.money import Money
from domain.shared.rejection import Rejection
from infra.ports.payments import (
    Accepted,
    ActionRequired,
    Answer,
    Authorise,
    Authorised,
    Cancel,
    Capture,
    PaymentRequest,
    Pending,
    Refund,
    Refused,
    Unanswered,
)
from infra.ports.sagas import NO_NEWS, Answered, Cause, Question, Saga, StockNews
from processes import checkout as process
from processes import returns

PRODUCTS = ("mug", "pot")
PRICE = Money("EUR", 100)
HOLD_SECONDS = 600
FATES = (
    "yes",
    "yes",
    "yes",
    "no",
    "pending",
    "action",
    "capture no",
    "capture fails",
    "fails once",
)


@dataclass
class Paid:
    """A payment in the provider's books."""

    psp: str
    fate: str
    value: int
    checkout_id: str
    authorised: bool = False
    cancelled: bool = False
    captures: list[int] = field(default_factory=list)
    refunded: int = 0

    @property
    def captured(self) -> int:
        return sum(self.captures)


class Provider:
    """Does what it is asked, once a key, and remembers what it said."""

    def __init__(self) -> None:
        self.paid: dict[str, Paid] = {}
        self.said: dict[str, Answer] = {}
        self.notices: list[PaymentNotified] = []
        self.fates: dict[str, str] = {}
        self._numbers = itertools.count(1)

    def ask(self, request: PaymentRequest) -> Answer:
        if request.key not in self.said:
            self.said[request.key] = self._do(request)
        return self.said[request.key]

    def _do(self, request: PaymentRequest) -> Answer:
        match request:
            case Authorise():
                return self._pay(request)
            case Capture() if not self.paid[request.psp_reference].cancelled:
                return self._capture(request)
            case Cancel() if not self.paid[request.psp_reference].captured:
                paid = self.paid[request.psp_reference]
                paid.cancelled = True
                return self._accept(paid, "CANCELLATION", request)
            case Refund():
                return self._refund(request)
            case _:
                return Refused("not possible")

    def _pay(self, request: Authorise) -> Answer:
        psp = f"PSP{next(self._numbers)}"
        fate = self.fates[request.reference]
        paid = self.paid[psp] = Paid(psp, fate, request.amount.value, request.reference)
        if fate == "no":
            self.tell(paid, "AUTHORISATION", psp, success=False)
            return Refused("no", psp)
        if fate == "pending":
            return Pending(psp)
        if fate == "action":
            return ActionRequired({"type": "redirect"})
        return self.authorise(paid)

    def authorise(self, paid: Paid) -> Answer:
        paid.authorised = True
        self.tell(paid, "AUTHORISATION", paid.psp)
        return Authorised(paid.psp)

    def _capture(self, request: Capture) -> Answer:
        paid = self.paid[request.psp_reference]
        assert paid.authorised
        assert not paid.captured
        works = paid.fate in {"yes", "pending", "action"}
        works = works or (paid.fate == "fails once" and bool(paid.captures))
        paid.captures.append(request.amount.value if works else 0)
        reference = f"CAP{next(self._numbers)}"
        if paid.fate == "capture no":
            self.tell(paid, "CAPTURE", reference, request.reference, success=False)
            return Accepted(reference)
        self.tell(paid, "CAPTURE", reference, request.reference)
        if not works:
            self.tell(paid, "CAPTURE_FAILED", reference, request.reference)
        return Accepted(reference)

    def _refund(self, request: Refund) -> Answer:
        paid = self.paid[request.psp_reference]
        if paid.refunded + request.amount.value <= paid.captured:
            paid.refunded += request.amount.value
            return self._accept(paid, "REFUND", request)
        reference = f"MOD{next(self._numbers)}"
        self.tell(paid, "REFUND", reference, request.reference, success=False)
        return Accepted(reference)

    def _accept(self, paid: Paid, code: str, request: Cancel | Refund) -> Answer:
        reference = f"MOD{next(self._numbers)}"
        self.tell(paid, code, reference, request.reference)
        return Accepted(reference)

    def tell(
        self, paid: Paid, code: str, psp: str, reference: str = "", *, success: bool = True
    ) -> None:
        self.notices.append(
            PaymentNotified(
                checkout_id=paid.checkout_id,
                event_code=code,
                success=success,
                psp_reference=psp,
                original_reference=paid.psp,
                merchant_reference=reference or paid.checkout_id,
                amount=Money("EUR", paid.value),
                reason="" if success else "no",
                event_date="",
            )
        )


class Buying(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.states: dict[str, Any] = {}
        self.provider = Provider()
        self.questions: dict[str, tuple[Saga[Any], str, Question]] = {}
        self.checkouts: list[str] = []
        self.received: Counter[str] = Counter()
        self.numbers = itertools.count(1)

    # The machinery: states in a dictionary, commands all together or not at all.

    def execute(self, *commands: Command) -> list[Any]:
        changed: dict[str, Any] = {}
        happened: list[Any] = []
        for command in commands:
            decider = DECIDERS[type(command)]
            stream = decider.stream(command)
            state = changed.get(stream, self.states.get(stream, decider.initial))
            for event in decider.decide(command, state, self.now):
                state = decider.evolve(state, event)
                happened.append(event)
            changed[stream] = state
        self.states |= changed
        return happened

    def turn(self, saga: Saga[Any], subject: str, cause: Cause = None) -> None:
        news = NO_NEWS
        for _ in range(20):
            state = self.states.get(saga.stream(subject))
            if state is None:
                return
            looked = {s: self.states[s] for s in saga.looks(state, cause) if s in self.states}
            following = saga.proceed(state, cause, looked, news, self.now)
            if not following.commands:
                for question in following.questions:
                    self.questions[question.key] = (saga, subject, question)
                return
            try:
                happened = self.execute(*following.commands)
            except ReservationNotHeld as refusal:
                news = StockNews(news.ended | {refusal.product_id}, news.short)
            except OutOfStock:
                news = StockNews(news.ended, "too little")
            except (StepPassed, OrderMovedOn):
                raise AssertionError("the state shown was the newest there is") from None
            else:
                cause, news = None, NO_NEWS
                self.wake(happened)
        raise AssertionError(f"{subject} does not come to rest")

    def wake(self, happened: Sequence[Any]) -> None:
        for event in happened:
            if type(event) in returns.SAGA.handles:
                self.turn(returns.SAGA, event.order_id)

    # What shoppers, sellers, the provider and time do.

    @rule(product=st.sampled_from(PRODUCTS), quantity=st.integers(1, 5))
    def receive(self, product: str, quantity: int) -> None:
        reference = f"d{next(self.numbers)}"
        self.execute(ReceiveStock(product_id=product, quantity=quantity, reference=reference))
        self.received[product] += quantity

    @rule(
        lines=st.dictionaries(st.sampled_from(PRODUCTS), st.integers(1, 3), min_size=1),
        fate=st.sampled_from(FATES),
    )
    def buy(self, lines: dict[str, int], fate: str) -> None:
        number = next(self.numbers)
        checkout_id, member = f"c{number:012d}", f"m{number}"
        self.provider.fates[checkout_id] = fate
        items = tuple(
            CartItem(product_id=product, quantity=quantity, seen_price=PRICE)
            for product, quantity in lines.items()
        )
        orders = tuple(
            CheckoutOrder(
                order_id=f"o{number}_{item.product_id}",
                shop_id=item.product_id,
                seller_id="sue",
                lines=(
                    OrderLine(
                        product_id=item.product_id,
                        quantity=item.quantity,
                        price=PRICE,
                    ),
                ),
            )
            for item in items
        )
        for item in items:
            self.execute(PutCartItem(member_id=member, item=item))
        self.execute(
            StartCheckout(
                checkout_id=checkout_id,
                member_id=member,
                orders=orders,
                shipping_address="",
                hold_seconds=HOLD_SECONDS,
            ),
            CheckOutCart(member_id=member, checkout_id=checkout_id, items=items),
        )
        self.checkouts.append(checkout_id)
        self.turn(process.SAGA, checkout_id)

    @rule(which=st.integers(0, 99), how=st.sampled_from(("answered", "done", "not done")))
    def answer(self, which: int, how: str) -> None:
        if not self.questions:
            return
        key = sorted(self.questions)[which % len(self.questions)]
        saga, subject, question = self.questions.pop(key)
        answer: Answer = Unanswered(how)
        if how != "not done":
            told = self.provider.ask(question.request)
            answer = told if how == "answered" else answer
        self.turn(saga, subject, Answered(key, answer))

    @rule(which=st.integers(0, 99), again=st.booleans())
    def notify(self, which: int, again: bool) -> None:  # noqa: FBT001
        notices = self.provider.notices
        if not notices:
            return
        place = which % len(notices)
        notice = notices[place] if again else notices.pop(place)
        self.turn(process.SAGA, notice.checkout_id, notice)

    @rule(which=st.integers(0, 99))
    def decide_elsewhere(self, which: int) -> None:
        """The buyer's bank, or a slow means of payment, says yes at last."""
        waiting = [
            paid
            for paid in self.provider.paid.values()
            if paid.fate in {"pending", "action"} and not paid.authorised
        ]
        if waiting:
            self.provider.authorise(waiting[which % len(waiting)])

    @rule(seconds=st.sampled_from((1, 30, 300, 700)))
    def pass_time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        for product in PRODUCTS:
            self.execute(ExpireReservations(product_id=product))
        self.look_at_everything()

    @rule()
    def crash(self) -> None:
        """All that was in memory is gone."""
        self.questions.clear()
        self.look_at_everything()

    def look_at_everything(self) -> None:
        for checkout_id in self.checkouts:
            self.turn(process.SAGA, checkout_id)
            for order in self.checkout(checkout_id).orders:
                self.turn(returns.SAGA, order.order_id)

    @rule(which=st.integers(0, 99), what=st.sampled_from(("cancel", "ship", "deliver", "return")))
    def handle_order(self, which: int, what: str) -> None:
        orders = [state for name, state in self.states.items() if name.startswith("order:")]
        if not orders:
            return
        order = orders[which % len(orders)]
        id_ = order.order_id
        command: Command
        match what:
            case "cancel":
                command = CancelOrder(order_id=id_, member_id=order.member_id)
            case "ship":
                command = ShipOrder(
                    order_id=id_, member_id="sue", carrier="DHL", tracking_number="1"
                )
            case "deliver":
                command = DeliverOrder(order_id=id_, member_id="sue")
            case _:
                command = ReturnItems(
                    order_id=id_,
                    member_id=order.member_id,
                    return_id=f"r{next(self.numbers)}",
                    items=(ReturnedItem(product_id=order.lines[0].product_id, quantity=1),),
                    reason="x",
                )
        try:
            happened = self.execute(command)
        except Rejection:
            return
        self.wake(happened)

    # What must hold.

    def checkout(self, checkout_id: str) -> Checkout:
        state: Checkout = self.states[checkout_stream(checkout_id)]
        return state

    @invariant()
    def the_shelf_adds_up(self) -> None:
        for product in PRODUCTS:
            item = self.states.get(stock_stream(product))
            if item is not None:
                assert item.available >= 0
                assert item.held == sum(r.quantity for r in item.reservations.values())

    @invariant()
    def nobody_is_refunded_what_was_not_taken(self) -> None:
        for paid in self.provider.paid.values():
            assert paid.refunded <= paid.captured
            assert not (paid.cancelled and paid.captured)

    def teardown(self) -> None:
        """Everything is answered and told in the end; then the books and the log agree."""
        for _ in range(60):
            while self.questions:
                self.answer(0, "answered")
            while self.provider.notices:
                self.notify(0, again=False)
            self.pass_time(30)
            if not self.questions and not self.provider.notices and self.quiet():
                break
        sold: Counter[str] = Counter()
        for checkout_id in self.checkouts:
            self.check_checkout(checkout_id, sold)
        for product in PRODUCTS:
            item = self.states.get(stock_stream(product))
            if item is not None:
                assert item.reservations == {}
                assert item.on_hand == self.received[product] - sold[product]

    def quiet(self) -> bool:
        states = [self.checkout(checkout_id) for checkout_id in self.checkouts]
        return all(state.status in {"confirmed", "rejected", "cancelled"} for state in states)

    def check_checkout(self, checkout_id: str, sold: Counter[str]) -> None:
        state = self.checkout(checkout_id)
        assert state.status in {"confirmed", "rejected", "cancelled"}
        payments = [p for p in self.provider.paid.values() if p.checkout_id == checkout_id]
        taken = 0
        for paid in payments:
            kept = paid.captured or paid.cancelled or not paid.authorised
            shipped = any(
                self.states[order_stream(o.order_id)].capture_failed
                for o in state.orders
                if order_stream(o.order_id) in self.states
            )
            assert kept or shipped, "authorised and forgotten"
            taken += paid.captured - paid.refunded
        if state.status != "confirmed":
            assert taken == 0
            return
        due = 0
        for planned in state.orders:
            order = self.states[order_stream(planned.order_id)]
            due += order.captured.value - order.refunded.value
            if order.status == "cancelled":
                continue
            for line in order.lines:
                sold[line.product_id] += line.quantity - order.returned.get(line.product_id, 0)
        assert taken == due, "the provider's books and ours differ"


Buying.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestBuying = pytest.mark.thorough(Buying.TestCase)
