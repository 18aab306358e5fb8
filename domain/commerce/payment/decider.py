"""A notification has a stream of its own, named by what makes it one: a repeated one adds nothing.

The provider repeats notifications, under the same code and reference. `success` is part of the name
because it may take a "no" back under the same reference.
"""

from datetime import datetime

from msgspec import Struct

from domain.commerce.payment.commands import PaymentCommand
from domain.commerce.payment.events import PaymentEvent, PaymentNotified
from domain.shared.decider import Decider


class Notified(Struct, frozen=True):
    seen: bool = False


def decide(command: PaymentCommand, notified: Notified, _now: datetime) -> list[PaymentEvent]:
    return [] if notified.seen else [command.notification]


def evolve(_notified: Notified, _event: PaymentEvent) -> Notified:
    return Notified(seen=True)


def notification_stream(item: PaymentNotified) -> str:
    answer = "yes" if item.success else "no"
    return f"payment:{item.psp_reference}.{item.event_code}.{answer}"


NOTIFICATION = Decider(
    prefix="payment",
    stream=lambda command: notification_stream(command.notification),
    initial=Notified(),
    decide=decide,
    evolve=evolve,
)
