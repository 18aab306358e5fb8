"""The provider's books: every payment, what was moved, what was answered, what is to be told.

They are a file of JSON lines. A line is written before a request is answered, and the books are the
sum of the lines, so that nothing answered is forgotten by a kill.
"""

import os
import secrets
import time
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from infra.servers.adyen_stand_in.cards import Fate

REFERENCE_DIGITS = "BCDFGHJKLMNPQRSTVWXYZ0123456789"
REFERENCE_LENGTH = 16

PaymentState = Literal["pending", "awaiting", "authorised", "refused", "cancelled"]


class Movement(Struct, kw_only=True):
    """A capture, cancel or refund. `failed`: it was refused, or taken back later."""

    kind: Literal["capture", "cancel", "refund"]
    psp_reference: str
    reference: str
    value: int
    failed: bool = False


class Payment(Struct, kw_only=True):
    psp_reference: str
    reference: str
    currency: str
    value: int
    fate: Fate
    state: PaymentState
    token: str = ""
    movements: list[Movement] = field(default_factory=list)

    def moved(self, kind: str) -> int:
        return sum(m.value for m in self.movements if m.kind == kind and not m.failed)


class Answer(Struct, frozen=True, kw_only=True):
    """What a key was answered. `digest` is the request's, since a key is for one request only."""

    digest: str
    status: int
    body: dict[str, Any]


class Notice(Struct, kw_only=True):
    """A notification to be delivered: one item, as it is sent, and when next."""

    number: int
    item: dict[str, Any]
    due: float = 0.0
    tries: int = 0


class Line(Struct, omit_defaults=True, kw_only=True):
    """What one request, or one delivery, changed: whole payments, and answers and notices anew."""

    payments: list[Payment] = field(default_factory=list)
    key: str = ""
    answer: Answer | None = None
    notices: list[Notice] = field(default_factory=list)
    delivered: list[int] = field(default_factory=list)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class Ledger:
    """The books, in memory, and every change to them as a line of a file that outlives a kill."""

    def __init__(self, file: Path) -> None:
        self.payments: dict[str, Payment] = {}
        self.by_token: dict[str, str] = {}
        self.answers: dict[str, Answer] = {}
        self.notices: dict[int, Notice] = {}
        self._number = 0
        file.parent.mkdir(parents=True, exist_ok=True)
        self._read(file)
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _read(self, file: Path) -> None:
        if not file.exists():
            return
        content = file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            # A kill cut the last line short; its request was not answered.
            os.truncate(file, len(whole))
        for line in whole.splitlines():
            self._apply(_decode(line))

    def record(self, line: Line) -> None:
        """Write first, then believe."""
        os.write(self._file, _encode(line) + b"\n")
        self._apply(line)

    def _apply(self, line: Line) -> None:
        for payment in line.payments:
            self.payments[payment.psp_reference] = payment
            if payment.token:
                self.by_token[payment.token] = payment.psp_reference
        if line.answer is not None:
            self.answers[line.key] = line.answer
        for notice in line.notices:
            self.notices[notice.number] = notice
            self._number = max(self._number, notice.number)
        for number in line.delivered:
            self.notices.pop(number, None)

    def notice(self, item: dict[str, Any], after_seconds: float = 0.0) -> Notice:
        self._number += 1
        return Notice(number=self._number, item=item, due=time.time() + after_seconds)

    def totals(self) -> dict[str, int]:
        """All money of the books, in minor units of whatever currency."""
        authorised = captured = refunded = still_held = 0
        for payment in self.payments.values():
            if payment.state not in {"authorised", "cancelled"}:
                continue
            authorised += payment.value
            captured += payment.moved("capture")
            refunded += payment.moved("refund")
            if payment.state == "authorised" and not payment.moved("capture"):
                still_held += payment.value
        return {
            "authorised": authorised,
            "captured": captured,
            "refunded": refunded,
            "held": still_held,
        }

    def close(self) -> None:
        os.close(self._file)


def new_reference() -> str:
    return "".join(secrets.choice(REFERENCE_DIGITS) for _ in range(REFERENCE_LENGTH))
