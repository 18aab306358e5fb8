"""What may be recorded about a checkout; what happens next is `processes.checkout`.

Whatever the order in which answers and notifications arrive, each fact is recorded once and the
same state is reached: a word about a call that has its answer already changes nothing, and a
payment that succeeds when nobody wants it any more becomes a duty to cancel it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import assert_never

from msgspec.structs import replace

from domain.commerce.checkout import commands, events
from domain.commerce.checkout.commands import CheckoutCommand
from domain.commerce.checkout.events import CallStep, CheckoutEvent
from domain.commerce.checkout.rejections import (
    CheckoutIdTaken,
    CheckoutUnknown,
    CurrenciesMixed,
    NoActionAwaited,
    StepPassed,
)
from domain.commerce.checkout.state import Call, Checkout, evolve
from domain.shared.decider import Decider
from domain.shared.money import CurrenciesDiffer, total
from domain.shared.personal import Personal

CAPTURE_ATTEMPTS_MAX = 2
CANCEL_ATTEMPTS_MAX = 3
PAYMENT_SECRETS = "payment"
"""The vault's name for what a payment is authorised with."""

DEADLINE_HOLDS = 2
"""The buyer has this many holds' time to come back; after the first, units may be gone."""

Recordable = (
    commands.SubmitDetails
    | commands.RecordReserved
    | commands.RecordUnanswered
    | commands.RecordActionRequired
    | commands.RecordPending
    | commands.RecordAuthorised
    | commands.RecordRefused
    | commands.RecordOrdersCreated
    | commands.RecordCaptureAccepted
    | commands.RecordCaptureUnconfirmed
    | commands.RecordCaptured
    | commands.RecordCaptureFailed
    | commands.RecordConfirmed
    | commands.FailCheckout
    | commands.RecordOrdersUndone
    | commands.CancelPayment
    | commands.RecordCancelAccepted
    | commands.RecordCancelFailed
    | commands.RecordReleased
    | commands.FinishCheckout
)
BEFORE_AUTHORISED = frozenset({"authorise", "action", "details", "pending"})
AFTER_ORDERS = frozenset({"capture", "confirm", "confirmed"})


def decide(command: CheckoutCommand, checkout: Checkout, now: datetime) -> Sequence[CheckoutEvent]:
    """Every command is recorded or refused.

    So commands to other streams that go into one append with one of these happen if, and only if,
    the checkout is where whoever asks believes it to be.
    """
    if isinstance(command, commands.StartCheckout):
        return start(command, checkout, now)
    if checkout.phase == "none":
        raise CheckoutUnknown(command.checkout_id)
    found = record(command, checkout)
    if not found:
        raise StepPassed(command.checkout_id)
    return found


def record(  # noqa: C901, PLR0911, PLR0912
    command: Recordable, checkout: Checkout
) -> Sequence[CheckoutEvent]:
    match command:
        case commands.SubmitDetails():
            return submit_details(command, checkout)
        case commands.RecordReserved():
            return reserved(command, checkout)
        case commands.RecordUnanswered():
            return unanswered(command, checkout)
        case commands.RecordActionRequired():
            return action_required(command, checkout)
        case commands.RecordPending():
            return pending(command, checkout)
        case commands.RecordAuthorised():
            return authorised(command, checkout)
        case commands.RecordRefused():
            return refused(command, checkout)
        case commands.RecordOrdersCreated():
            return orders_created(checkout)
        case commands.RecordCaptureAccepted():
            return capture_accepted(command, checkout)
        case commands.RecordCaptureUnconfirmed():
            return capture_unconfirmed(command, checkout)
        case commands.RecordCaptured():
            return captured(command, checkout)
        case commands.RecordCaptureFailed():
            return capture_failed(command, checkout)
        case commands.RecordConfirmed():
            return confirmed(checkout)
        case commands.FailCheckout():
            return fail(command, checkout)
        case commands.RecordOrdersUndone():
            return orders_undone(checkout)
        case commands.CancelPayment():
            return cancel_payment(command, checkout)
        case commands.RecordCancelAccepted():
            return cancel_accepted(command, checkout)
        case commands.RecordCancelFailed():
            return cancel_failed(command, checkout)
        case commands.RecordReleased():
            return released(checkout)
        case commands.FinishCheckout():
            return finish(checkout)
        case _:
            assert_never(command)


def start(
    command: commands.StartCheckout, checkout: Checkout, now: datetime
) -> list[CheckoutEvent]:
    if checkout.phase != "none":
        raise CheckoutIdTaken(command.checkout_id)
    lines = [line for order in command.orders for line in order.lines]
    try:
        to_pay = total(line.price * line.quantity for line in lines)
    except CurrenciesDiffer:
        raise CurrenciesMixed from None
    return [
        events.CheckoutStarted(
            checkout_id=command.checkout_id,
            member_id=command.member_id,
            orders=command.orders,
            total=to_pay,
            shipping_address=Personal(command.shipping_address),
            hold_seconds=command.hold_seconds,
            deadline=now + DEADLINE_HOLDS * timedelta(seconds=command.hold_seconds),
        )
    ]


def submit_details(command: commands.SubmitDetails, checkout: Checkout) -> list[CheckoutEvent]:
    if checkout.member_id != command.member_id:
        raise CheckoutUnknown(command.checkout_id)
    if checkout.phase != "action":
        raise NoActionAwaited(command.checkout_id, checkout.status)
    return [ask(checkout, "details", secrets=command.secrets)]


def ask(
    checkout: Checkout, step: CallStep, psp_reference: str = "", secrets: str = ""
) -> events.ProviderAsked:
    """The next call of a step; its key is a function of checkout, step and attempt."""
    attempt = 1 + sum(call.step == step for call in checkout.calls.values())
    return events.ProviderAsked(
        checkout_id=checkout.checkout_id,
        step=step,
        attempt=attempt,
        key=f"{checkout.checkout_id}:{step}:{attempt}",
        psp_reference=psp_reference,
        secrets=secrets,
    )


def reserved(command: commands.RecordReserved, checkout: Checkout) -> list[CheckoutEvent]:
    if checkout.phase != "reserve":
        return []
    return [
        events.ItemsReserved(checkout_id=command.checkout_id, expires_at=command.expires_at),
        ask(checkout, "authorise", secrets=PAYMENT_SECRETS),
    ]


def unanswered(command: commands.RecordUnanswered, checkout: Checkout) -> list[CheckoutEvent]:
    if not is_open(command.key, checkout):
        return []
    return [
        events.ProviderUnanswered(
            checkout_id=command.checkout_id,
            key=command.key,
            reason=command.reason,
            retry_at=command.retry_at,
        )
    ]


def is_open(key: str, checkout: Checkout) -> bool:
    call = checkout.calls.get(key)
    return call is not None and call.status == "asked"


def action_required(
    command: commands.RecordActionRequired, checkout: Checkout
) -> list[CheckoutEvent]:
    if not is_open(command.key, checkout) or checkout.phase not in BEFORE_AUTHORISED:
        return []
    return [events.ActionRequired(checkout_id=command.checkout_id, action=command.action)]


def pending(command: commands.RecordPending, checkout: Checkout) -> list[CheckoutEvent]:
    if not is_open(command.key, checkout) or checkout.phase not in BEFORE_AUTHORISED:
        return []
    return [
        events.PaymentPending(checkout_id=command.checkout_id, psp_reference=command.psp_reference)
    ]


def authorised(command: commands.RecordAuthorised, checkout: Checkout) -> list[CheckoutEvent]:
    psp = command.psp_reference
    if psp == checkout.psp_reference or psp in checkout.no_longer_wanted:
        return []
    if checkout.phase in BEFORE_AUTHORISED:
        return [events.PaymentAuthorised(checkout_id=command.checkout_id, psp_reference=psp)]
    return [events.UnwantedAuthorised(checkout_id=command.checkout_id, psp_reference=psp)]


def refused(command: commands.RecordRefused, checkout: Checkout) -> list[CheckoutEvent]:
    if checkout.phase not in BEFORE_AUTHORISED:
        return []
    return [
        events.PaymentRefused(
            checkout_id=command.checkout_id,
            psp_reference=command.psp_reference,
            reason=command.reason,
        ),
        events.CheckoutFailed(
            checkout_id=command.checkout_id,
            code="payment_refused",
            detail=command.reason,
            outcome="rejected",
        ),
    ]


def orders_created(checkout: Checkout) -> list[CheckoutEvent]:
    if checkout.phase != "create_orders":
        return []
    return [
        events.OrdersCreated(checkout_id=checkout.checkout_id),
        ask(checkout, "capture", checkout.psp_reference),
    ]


def capture_accepted(
    command: commands.RecordCaptureAccepted, checkout: Checkout
) -> list[CheckoutEvent]:
    if not is_open(command.key, checkout):
        return []
    return [
        events.CaptureAccepted(
            checkout_id=command.checkout_id,
            attempt=checkout.calls[command.key].attempt,
            psp_reference=command.psp_reference,
            settles_at=command.settles_at,
        )
    ]


def capture_unconfirmed(
    command: commands.RecordCaptureUnconfirmed, checkout: Checkout
) -> list[CheckoutEvent]:
    call = checkout.calls.get(command.key)
    if call is None or call.status != "accepted":
        return []
    return [
        events.CaptureUnconfirmed(
            checkout_id=command.checkout_id,
            attempt=call.attempt,
            said=command.said,
            retry_at=command.retry_at,
        )
    ]


def captured(command: commands.RecordCaptured, checkout: Checkout) -> list[CheckoutEvent]:
    call = capture_meant(command.psp_reference, checkout)
    if call is None or call.status not in {"asked", "accepted"}:
        return []
    return [
        events.PaymentCaptured(
            checkout_id=command.checkout_id,
            attempt=call.attempt,
            psp_reference=command.psp_reference,
        )
    ]


def capture_meant(reference: str, checkout: Checkout) -> Call | None:
    """The capture that a word of the provider is about: by its reference, or else the newest."""
    for call in checkout.calls.values():
        if call.step == "capture" and reference in call.references:
            return call
    return checkout.latest("capture")


def capture_failed(
    command: commands.RecordCaptureFailed, checkout: Checkout
) -> list[CheckoutEvent]:
    """Also after a success: the provider has taken its word back."""
    call = capture_meant(command.psp_reference, checkout)
    if call is None or call.status == "failed" or checkout.phase not in AFTER_ORDERS:
        return []
    failed = events.CaptureFailed(
        checkout_id=command.checkout_id,
        attempt=call.attempt,
        psp_reference=command.psp_reference,
        reason=command.reason,
    )
    if call.attempt < CAPTURE_ATTEMPTS_MAX and command.live != ():
        return [failed, ask_capture_again(checkout, command.live)]
    if checkout.phase == "confirmed":
        return [failed]
    return [
        failed,
        events.CheckoutFailed(
            checkout_id=command.checkout_id,
            code="capture_failed",
            detail=command.reason,
            outcome="rejected",
        ),
    ]


def ask_capture_again(checkout: Checkout, live: tuple[str, ...] | None) -> events.ProviderAsked:
    """What was cancelled in the meantime is not to be paid any more."""
    asked = ask(checkout, "capture", checkout.psp_reference)
    if live is None or len(live) == len(checkout.orders):
        return asked
    lines = [line for order in checkout.orders if order.order_id in live for line in order.lines]
    amount = total(line.price * line.quantity for line in lines)
    return replace(asked, amount=amount, order_ids=live)


def confirmed(checkout: Checkout) -> list[CheckoutEvent]:
    if checkout.phase != "confirm":
        return []
    return [
        events.CheckoutConfirmed(checkout_id=checkout.checkout_id, member_id=checkout.member_id)
    ]


def fail(command: commands.FailCheckout, checkout: Checkout) -> list[CheckoutEvent]:
    if checkout.failure is not None or checkout.ordered:
        return []
    return [
        events.CheckoutFailed(
            checkout_id=command.checkout_id,
            code=command.code,
            detail=command.detail,
            outcome=command.outcome,
        )
    ]


def orders_undone(checkout: Checkout) -> list[CheckoutEvent]:
    if checkout.phase != "undo" or not checkout.ordered:
        return []
    return [events.OrdersUndone(checkout_id=checkout.checkout_id)]


def cancel_payment(command: commands.CancelPayment, checkout: Checkout) -> list[CheckoutEvent]:
    psp = command.psp_reference
    asked = any(call.step == "cancel" and call.psp_reference == psp for call in checkout.open_calls)
    if asked or psp in checkout.cancelled | checkout.given_up:
        return []
    return [ask(checkout, "cancel", psp)]


def cancel_accepted(
    command: commands.RecordCancelAccepted, checkout: Checkout
) -> list[CheckoutEvent]:
    if not is_open(command.key, checkout):
        return []
    return [
        events.CancelAccepted(
            checkout_id=command.checkout_id,
            psp_reference=checkout.calls[command.key].psp_reference,
            key=command.key,
        )
    ]


def cancel_failed(command: commands.RecordCancelFailed, checkout: Checkout) -> list[CheckoutEvent]:
    """It is tried again under a new key a few times; then an operator has to look at it."""
    psp = command.psp_reference
    tried = [c for c in checkout.calls.values() if c.step == "cancel" and c.psp_reference == psp]
    call = checkout.calls.get(command.key) if command.key else (tried[-1] if tried else None)
    if call is None or call.status == "failed":
        return []
    return [
        events.CancelFailed(
            checkout_id=command.checkout_id,
            psp_reference=psp,
            key=call.key,
            reason=command.reason,
            final=len(tried) >= CANCEL_ATTEMPTS_MAX,
        )
    ]


def released(checkout: Checkout) -> list[CheckoutEvent]:
    if checkout.phase != "undo" or not checkout.reserved:
        return []
    return [events.ItemsReleased(checkout_id=checkout.checkout_id)]


def finish(checkout: Checkout) -> list[CheckoutEvent]:
    failure = checkout.failure
    if checkout.phase != "undo" or failure is None:
        return []
    kind = events.CheckoutRejected if failure.outcome == "rejected" else events.CheckoutCancelled
    return [
        kind(
            checkout_id=checkout.checkout_id,
            member_id=checkout.member_id,
            code=failure.code,
            detail=failure.detail,
        )
    ]


def checkout_stream(checkout_id: str) -> str:
    return f"checkout:{checkout_id}"


CHECKOUT = Decider(
    prefix="checkout",
    stream=lambda command: checkout_stream(command.checkout_id),
    initial=Checkout(),
    decide=decide,
    evolve=evolve,
)
