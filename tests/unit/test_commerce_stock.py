"""The rules of stock, one sentence per test."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.commerce.stock.commands import (
    CommitReservation,
    ExpireReservations,
    ReceiveStock,
    ReleaseReservation,
    ReserveStock,
    StockCommand,
)
from domain.commerce.stock.decider import STOCK
from domain.commerce.stock.events import (
    ReservationCommitted,
    ReservationExpired,
    ReservationReleased,
    StockReceived,
    StockReserved,
)
from domain.commerce.stock.rejections import OutOfStock, ReservationIdTaken, ReservationNotHeld
from domain.shared.rejection import Invalid, Rejection
from tests.unit.spec import Spec

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=10)

RECEIVED = StockReceived(product_id="mug", quantity=5, reference="d1")
RESERVED = StockReserved(product_id="mug", reservation_id="r1", quantity=4, expires_at=LATER)
EXPIRED = ReservationExpired(product_id="mug", reservation_id="r1", quantity=4)

stock = Spec(STOCK)


def reserve(reservation_id: str, quantity: int, until: datetime = LATER) -> ReserveStock:
    return ReserveStock(
        product_id="mug", reservation_id=reservation_id, quantity=quantity, expires_at=until
    )


def test_a_delivery_adds_units() -> None:
    receive = ReceiveStock(product_id="mug", quantity=5, reference="d1")
    stock.given().when(receive, at=NOON).then(RECEIVED)


def test_the_same_delivery_counts_once() -> None:
    receive = ReceiveStock(product_id="mug", quantity=5, reference="d1")
    stock.given(RECEIVED).when(receive, at=NOON).then_nothing()


@pytest.mark.parametrize("quantity", [0, -1, 10**9 + 1])
def test_a_delivery_has_a_number_of_units_that_makes_sense(quantity: int) -> None:
    receive = ReceiveStock(product_id="mug", quantity=quantity, reference="d1")
    stock.given().when(receive, at=NOON).then_rejected(
        Invalid("/quantity", "must be 1 to 1000000000")
    )


def test_reserving_holds_units_until_the_hold_ends() -> None:
    stock.given(RECEIVED).when(reserve("r1", 4), at=NOON).then(RESERVED)


def test_reserving_more_than_is_available_is_refused() -> None:
    stock.given(RECEIVED, RESERVED).when(reserve("r2", 2), at=NOON).then_rejected(
        OutOfStock(product_id="mug", requested=2, available=1)
    )


def test_a_repeated_reservation_changes_nothing() -> None:
    stock.given(RECEIVED, RESERVED).when(reserve("r1", 4), at=NOON).then_nothing()


def test_a_reservation_id_is_not_used_for_another_quantity() -> None:
    stock.given(RECEIVED, RESERVED).when(reserve("r1", 1), at=NOON).then_rejected(
        ReservationIdTaken(reservation_id="r1", held=4)
    )


def test_units_of_an_expired_reservation_can_be_reserved_again() -> None:
    until = LATER + timedelta(minutes=10)
    stock.given(RECEIVED, RESERVED).when(reserve("r2", 5, until), at=LATER).then(
        EXPIRED,
        StockReserved(product_id="mug", reservation_id="r2", quantity=5, expires_at=until),
    )


def test_committing_within_the_hold_sells_the_units() -> None:
    commit = CommitReservation(product_id="mug", reservation_id="r1")
    stock.given(RECEIVED, RESERVED).when(commit, at=NOON).then(
        ReservationCommitted(product_id="mug", reservation_id="r1", quantity=4)
    )


def test_committing_after_the_hold_is_refused() -> None:
    commit = CommitReservation(product_id="mug", reservation_id="r1")
    stock.given(RECEIVED, RESERVED).when(commit, at=LATER).then_rejected(
        ReservationNotHeld(product_id="mug", reservation_id="r1")
    )


def test_units_are_sold_once() -> None:
    commit = CommitReservation(product_id="mug", reservation_id="r1")
    sold = ReservationCommitted(product_id="mug", reservation_id="r1", quantity=4)
    stock.given(RECEIVED, RESERVED, sold).when(commit, at=NOON).then_rejected(
        ReservationNotHeld(product_id="mug", reservation_id="r1")
    )


def test_releasing_gives_the_units_back_once() -> None:
    release = ReleaseReservation(product_id="mug", reservation_id="r1")
    released = ReservationReleased(product_id="mug", reservation_id="r1", quantity=4)
    stock.given(RECEIVED, RESERVED).when(release, at=NOON).then(released)
    stock.given(RECEIVED, RESERVED, released).when(release, at=NOON).then_nothing()


def test_the_timer_gives_expired_units_back() -> None:
    expire = ExpireReservations(product_id="mug")
    stock.given(RECEIVED, RESERVED).when(expire, at=LATER).then(EXPIRED)
    stock.given(RECEIVED, RESERVED).when(expire, at=LATER - timedelta(seconds=1)).then_nothing()


COMMANDS = st.one_of(
    st.builds(
        ReceiveStock,
        product_id=st.just("mug"),
        quantity=st.integers(1, 9),
        reference=st.text("abcdef", min_size=1, max_size=2),
    ),
    st.builds(
        ReserveStock,
        product_id=st.just("mug"),
        quantity=st.integers(1, 6),
        reservation_id=st.sampled_from("uvwxyz"),
        expires_at=st.integers(1, 60).map(lambda n: NOON + timedelta(seconds=n)),
    ),
    st.builds(
        CommitReservation, product_id=st.just("mug"), reservation_id=st.sampled_from("uvwxyz")
    ),
    st.builds(
        ReleaseReservation, product_id=st.just("mug"), reservation_id=st.sampled_from("uvwxyz")
    ),
    st.just(ExpireReservations(product_id="mug")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(COMMANDS, st.integers(0, 5)), max_size=80))
def test_units_are_never_negative_and_always_add_up(steps: list[tuple[StockCommand, int]]) -> None:
    item, now = STOCK.initial, NOON
    received = sold = 0
    held: dict[str, int] = {}
    for command, seconds in steps:
        now += timedelta(seconds=seconds)
        try:
            events = STOCK.decide(command, item, now)
        except Rejection:
            continue
        for event in events:
            item = STOCK.evolve(item, event)
            match event:
                case StockReceived():
                    received += event.quantity
                case StockReserved():
                    held[event.reservation_id] = event.quantity
                case ReservationCommitted():
                    sold += held.pop(event.reservation_id)
                case _:
                    del held[event.reservation_id]
            assert item.on_hand == received - sold
            assert item.available == received - sold - sum(held.values()) >= 0
            assert item.first_expiry == min(
                (r.expires_at for r in item.reservations.values()), default=None
            )
