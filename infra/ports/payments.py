"""What the processes ask of a payment provider, and what can come back.

A provider never says no by silence: whatever is not an answer is `Unanswered`, and is asked again
under the same key.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from domain.commerce.payment.events import PaymentNotified
from domain.shared.money import Money

Details = dict[str, Any]


class Authorise(Struct, frozen=True, kw_only=True):
    """Reserve `amount` on the buyer's means of payment. `secrets` are the provider's own members:
    encrypted or tokenised, and never to be logged."""

    key: str
    reference: str
    amount: Money
    buyer_id: str
    secrets: Details


class SubmitDetails(Struct, frozen=True, kw_only=True):
    """What the buyer's redirect or challenge came to."""

    key: str
    secrets: Details


class Capture(Struct, frozen=True, kw_only=True):
    key: str
    reference: str
    psp_reference: str
    amount: Money


class Cancel(Struct, frozen=True, kw_only=True):
    key: str
    reference: str
    psp_reference: str


class Refund(Struct, frozen=True, kw_only=True):
    key: str
    reference: str
    psp_reference: str
    amount: Money


PaymentRequest = Authorise | SubmitDetails | Capture | Cancel | Refund


class Authorised(Struct, frozen=True):
    psp_reference: str


class Refused(Struct, frozen=True):
    """A definite no; `reason` is safe to show to the buyer."""

    reason: str
    psp_reference: str = ""


class ActionRequired(Struct, frozen=True):
    action: Details


class Pending(Struct, frozen=True):
    """The outcome comes by notification."""

    psp_reference: str


class Accepted(Struct, frozen=True):
    """A capture, cancel or refund will be done; the outcome comes by notification."""

    psp_reference: str


class Unanswered(Struct, frozen=True):
    """Nobody knows. `reason` says what happened, and holds nothing of the request."""

    reason: str


Answer = Authorised | Refused | ActionRequired | Pending | Accepted | Unanswered


class Payments(Protocol):
    """The payment provider, as processes ask it: each call under a key that makes it repeatable."""

    async def ask(self, request: PaymentRequest) -> Answer:
        """Never raises: what goes wrong is `Unanswered`. May be cancelled; then nobody knows."""
        ...


class PaymentSecrets(Protocol):
    """What a buyer entrusts to us for the provider only, sealed and kept outside of the log until
    the payment is decided."""

    async def put(self, checkout_id: str, name: str, secrets: Details) -> None: ...

    async def get(self, checkout_id: str, name: str) -> Details | None: ...

    async def forget(self, checkout_id: str) -> None: ...

    async def forget_older(self, before: datetime) -> None:
        """Drop what a crash left behind."""
        ...


class NotificationMalformed(Exception):
    """It is not an envelope of notifications."""


class NotificationUnsigned(Exception):
    """At least one item has no signature, or not the provider's."""


class Notifications(Protocol):
    def read(self, body: bytes) -> Sequence[PaymentNotified]:
        """The items of an envelope, all of which are signed by the provider.

        Raises `NotificationMalformed` and `NotificationUnsigned`.
        """
        ...
