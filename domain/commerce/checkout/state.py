"""A checkout as its events have made it: what was asked, what was answered, what is still owed."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.commerce.checkout import events
from domain.commerce.checkout.events import CallStep, CheckoutEvent, CheckoutOrder, Outcome
from domain.shared.money import Money

Phase = Literal[
    "none",
    "reserve",
    "authorise",
    "action",
    "details",
    "pending",
    "create_orders",
    "capture",
    "confirm",
    "confirmed",
    "undo",
    "rejected",
    "cancelled",
]
CallStatus = Literal["asked", "accepted", "done", "failed"]
STATUS_OF: Mapping[Phase, str] = {
    "action": "awaiting_action",
    "confirmed": "confirmed",
    "rejected": "rejected",
    "cancelled": "cancelled",
}


class Call(Struct, frozen=True, kw_only=True):
    """A question to the provider, by its key. `references` are what the provider calls it.

    `retry_at` is when to ask again, `settles_at` when a word was first due once it was accepted.
    """

    step: CallStep
    attempt: int
    key: str
    psp_reference: str = ""
    secrets: str = ""
    amount: Money | None = None
    order_ids: tuple[str, ...] = ()
    status: CallStatus = "asked"
    references: frozenset[str] = frozenset()
    tries: int = 0
    retry_at: datetime | None = None
    settles_at: datetime | None = None


class Failure(Struct, frozen=True):
    code: str
    detail: str
    outcome: Outcome


class Checkout(Struct, frozen=True, kw_only=True):
    """`psp_reference` is the payment we want; `unwanted` are those to be cancelled."""

    checkout_id: str = ""
    member_id: str = ""
    orders: tuple[CheckoutOrder, ...] = ()
    total: Money = Money("", 0)
    hold_seconds: int = 0
    deadline: datetime | None = None
    phase: Phase = "none"
    psp_reference: str = ""
    calls: Mapping[str, Call] = {}
    unwanted: frozenset[str] = frozenset()
    cancelled: frozenset[str] = frozenset()
    given_up: frozenset[str] = frozenset()
    reserved: bool = False
    ordered: bool = False
    failure: Failure | None = None

    @property
    def status(self) -> str:
        return STATUS_OF.get(self.phase, "pending")

    @property
    def open_calls(self) -> list[Call]:
        """Those that wait for an answer."""
        return [call for call in self.calls.values() if call.status == "asked"]

    @property
    def no_longer_wanted(self) -> frozenset[str]:
        """Payments that are cancelled, are to be cancelled, or could not be."""
        return self.unwanted | self.cancelled | self.given_up

    def latest(self, step: CallStep) -> Call | None:
        """The newest call of a step."""
        found = [call for call in self.calls.values() if call.step == step]
        return found[-1] if found else None


def evolve(checkout: Checkout, event: CheckoutEvent) -> Checkout:  # noqa: C901, PLR0911, PLR0912
    match event:
        case events.CheckoutStarted():
            return started(event)
        case events.ItemsReserved():
            return replace(checkout, phase="authorise", reserved=True)
        case events.ProviderAsked():
            return with_call(checkout, event)
        case events.ProviderUnanswered():
            tries = checkout.calls[event.key].tries + 1
            return change_call(checkout, event.key, tries=tries, retry_at=event.retry_at)
        case events.ActionRequired():
            return replace(answered(checkout), phase="action")
        case events.PaymentPending():
            return replace(answered(checkout), phase="pending")
        case events.PaymentAuthorised():
            found = replace(answered(checkout), psp_reference=event.psp_reference)
            return replace(found, phase="create_orders")
        case events.PaymentRefused():
            return answered(checkout)
        case events.UnwantedAuthorised():
            return replace(checkout, unwanted=checkout.unwanted | {event.psp_reference})
        case events.OrdersCreated():
            # The holds became sales: from here on, undoing means to restock.
            return replace(checkout, phase="capture", reserved=False, ordered=True)
        case events.CaptureAccepted():
            return change_capture(checkout, event, "accepted", settles_at=event.settles_at)
        case events.CaptureUnconfirmed():
            return asked_again(checkout, event)
        case events.PaymentCaptured():
            done = change_capture(checkout, event, "done")
            return done if checkout.phase == "confirmed" else replace(done, phase="confirm")
        case events.CaptureFailed():
            failed = change_capture(checkout, event, "failed")
            return failed if checkout.phase == "confirmed" else replace(failed, phase="capture")
        case events.CheckoutConfirmed():
            return replace(checkout, phase="confirmed")
        case events.CheckoutFailed():
            return failing(checkout, event)
        case events.OrdersUndone():
            return replace(checkout, ordered=False)
        case events.CancelAccepted():
            done = change_call(checkout, event.key, status="done")
            psp = {event.psp_reference}
            unwanted, cancelled = done.unwanted - psp, done.cancelled | psp
            return replace(done, unwanted=unwanted, cancelled=cancelled)
        case events.CancelFailed():
            return cancel_refused(checkout, event)
        case events.ItemsReleased():
            return replace(checkout, reserved=False)
        case events.CheckoutRejected():
            return replace(checkout, phase="rejected")
        case events.CheckoutCancelled():
            return replace(checkout, phase="cancelled")
        case _:
            assert_never(event)


def started(event: events.CheckoutStarted) -> Checkout:
    return Checkout(
        checkout_id=event.checkout_id,
        member_id=event.member_id,
        orders=event.orders,
        total=event.total,
        hold_seconds=event.hold_seconds,
        deadline=event.deadline,
        phase="reserve",
    )


def with_call(checkout: Checkout, event: events.ProviderAsked) -> Checkout:
    call = Call(
        step=event.step,
        attempt=event.attempt,
        key=event.key,
        psp_reference=event.psp_reference,
        secrets=event.secrets,
        amount=event.amount,
        order_ids=event.order_ids,
    )
    phase = "details" if event.step == "details" else checkout.phase
    return replace(checkout, calls={**checkout.calls, event.key: call}, phase=phase)


def answered(checkout: Checkout) -> Checkout:
    """The state in which no question for an authorisation is open any more."""
    calls = {
        key: replace(call, status="done") if call.step in {"authorise", "details"} else call
        for key, call in checkout.calls.items()
    }
    return replace(checkout, calls=calls)


def failing(checkout: Checkout, event: events.CheckoutFailed) -> Checkout:
    """What was authorised for us is now to be cancelled."""
    wanted = {checkout.psp_reference} - {""}
    return replace(
        answered(checkout),
        phase="undo",
        failure=Failure(event.code, event.detail, event.outcome),
        unwanted=checkout.unwanted | wanted,
    )


def change_call(checkout: Checkout, key: str, **changes: Any) -> Checkout:
    changed = replace(checkout.calls[key], **changes)
    return replace(checkout, calls={**checkout.calls, key: changed})


def capture_of(attempt: int, checkout: Checkout) -> Call:
    return next(
        call
        for call in checkout.calls.values()
        if call.step == "capture" and call.attempt == attempt
    )


def asked_again(checkout: Checkout, event: events.CaptureUnconfirmed) -> Checkout:
    call = capture_of(event.attempt, checkout)
    return change_call(checkout, call.key, tries=call.tries + 1, retry_at=event.retry_at)


def change_capture(
    checkout: Checkout,
    event: events.CaptureAccepted | events.PaymentCaptured | events.CaptureFailed,
    status: CallStatus,
    settles_at: datetime | None = None,
) -> Checkout:
    call = capture_of(event.attempt, checkout)
    references = call.references | {event.psp_reference} - {""}
    return change_call(
        checkout,
        call.key,
        status=status,
        references=references,
        tries=0,
        retry_at=settles_at,
        settles_at=settles_at,
    )


def cancel_refused(checkout: Checkout, event: events.CancelFailed) -> Checkout:
    psp = {event.psp_reference}
    failed = change_call(checkout, event.key, status="failed")
    failed = replace(failed, cancelled=failed.cancelled - psp)
    if event.final:
        return replace(failed, unwanted=failed.unwanted - psp, given_up=failed.given_up | psp)
    return replace(failed, unwanted=failed.unwanted | psp)
