"""What can be asked of the record of notifications."""

from typing import ClassVar

from domain.commerce.payment.events import PaymentNotified
from domain.shared.message import Command


class RecordNotification(Command, frozen=True, kw_only=True):
    creates: ClassVar[bool] = True
    notification: PaymentNotified


PaymentCommand = RecordNotification
