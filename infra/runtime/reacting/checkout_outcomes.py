"""Counts how checkouts end, and why: the share that is confirmed is what sellers live on (K5)."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from domain.commerce.checkout.events import (
    CheckoutCancelled,
    CheckoutConfirmed,
    CheckoutRejected,
    CheckoutStarted,
)
from infra.measures import Counts
from infra.ports.frames import Frame

REASONS = frozenset({"capture_failed", "expired", "insufficient_stock", "payment_refused"})
"""The codes that checkouts fail with. What is none of them is counted as `other`."""

OTHER = "other"


class CheckoutOutcomes:
    """Told of frames once they have been applied: see `projecting.appliers.Appliers`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counts(
            "plaza_checkouts_ended_total",
            "Checkouts that have ended, by how and by the code they failed with",
            ["outcome", "reason"],
            registry,
        )
        self._started = Counts(
            "plaza_checkouts_started_total", "Checkouts that were begun", [], registry
        )
        self._started.add(0)
        self._ended.add(0, "confirmed", "")

    def seen(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            for recorded in frame.events:
                match recorded.event:
                    case CheckoutStarted():
                        self._started.add(1)
                    case CheckoutConfirmed():
                        self._ended.add(1, "confirmed", "")
                    case CheckoutRejected(code=code):
                        self._ended.add(1, "rejected", bounded(code))
                    case CheckoutCancelled(code=code):
                        self._ended.add(1, "cancelled", bounded(code))
                    case _:
                        pass


def bounded(code: str) -> str:
    return code if code in REASONS else OTHER
