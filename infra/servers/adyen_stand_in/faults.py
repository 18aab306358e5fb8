"""What can be switched on to go wrong: at each operation, and with notifications."""

import random
from typing import Literal

from msgspec import Struct, field

Operation = Literal["payments", "details", "captures", "cancels", "refunds", "any"]
Kind = Literal[
    "error",
    "refuse",
    "unavailable",
    "in_flight",
    "timeout_done",
    "timeout_not_done",
    "reset_done",
    "reset_not_done",
    "slow",
]
DONE: frozenset[Kind] = frozenset({"timeout_done", "reset_done", "slow"})


class Fault(Struct, kw_only=True, forbid_unknown_fields=True):
    """`count`: how often yet, None for ever. `reference`: only for payments whose reference begins
    like this. `seconds`: how long a slow one takes, or the client of a time-out is kept waiting."""

    operation: Operation
    kind: Kind
    count: int | None = None
    probability: float = 1.0
    seconds: float = 60.0
    reference: str = ""


class Notifying(Struct, kw_only=True, forbid_unknown_fields=True):
    """How notifications travel. `hold`: none at all. Times in seconds; the rest are probabilities.

    `per_envelope`: how many items that wait may go together.
    """

    hold: bool = False
    delay: tuple[float, float] = (0.0, 0.0)
    duplicate: float = 0.0
    reorder: float = 0.0
    lose: float = 0.0
    forge: float = 0.0
    per_envelope: int = 1


class Faults(Struct, kw_only=True, forbid_unknown_fields=True):
    operations: list[Fault] = field(default_factory=list)
    notifications: Notifying = field(default_factory=Notifying)


class Switchboard:
    """The faults that are switched on, and the dice that say when one strikes."""

    def __init__(self, seed: int = 0) -> None:
        self.faults = Faults()
        self.chance = random.Random(seed)

    def fault(self, operation: Operation, reference: str) -> Fault | None:
        """The fault that this request meets, if any; counted ones are used up."""
        for fault in self.faults.operations:
            if fault.operation not in {operation, "any"} or fault.count == 0:
                continue
            if not reference.startswith(fault.reference):
                continue
            if self.chance.random() < fault.probability:
                if fault.count is not None:
                    fault.count -= 1
                return fault
        return None
