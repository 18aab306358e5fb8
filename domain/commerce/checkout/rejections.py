"""Why a checkout command may be refused."""

from dataclasses import dataclass

from domain.shared.rejection import Conflict, NotFound


@dataclass(eq=False)
class CheckoutUnknown(NotFound):
    """There is none, or it is somebody else's, which is the same to whoever asks."""

    title = "There is no such checkout"
    checkout_id: str


@dataclass(eq=False)
class NoActionAwaited(Conflict):
    title = "The checkout does not wait for the buyer"
    checkout_id: str
    checkout_status: str


class CurrenciesMixed(Conflict):
    title = "A checkout is paid in one currency"


@dataclass(eq=False)
class CheckoutIdTaken(Conflict):
    title = "The checkout id is in use"
    checkout_id: str


@dataclass(eq=False)
class StepPassed(Conflict):
    """What was to be recorded is recorded already, or no longer possible."""

    title = "The checkout has moved on"
    checkout_id: str
