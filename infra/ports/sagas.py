"""What a saga is: a process with a stream of its own, that asks others and waits for answers.

A saga is pure. It is shown its own state, what has just come in, and the states it asked to see,
and says what is to be recorded, what to ask of the payment provider, and when to look again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from domain.commerce.payment.events import PaymentNotified
from domain.shared.message import Command
from infra.ports.payments import Answer, PaymentRequest

S = TypeVar("S")


@dataclass(frozen=True)
class Answered:
    """The provider has answered the call with this key."""

    key: str
    answer: Answer


Cause = PaymentNotified | Answered | None
"""What has just come in; None where it is time, or the saga's own stream, that moved."""


@dataclass(frozen=True)
class StockNews:
    """What the shelf said to commands that were therefore not recorded.

    `ended`: products whose hold has run out. `short`: why there is too little of one.
    """

    ended: frozenset[str] = frozenset()
    short: str = ""


NO_NEWS = StockNews()


@dataclass(frozen=True)
class Question:
    """A call whose key is stored already. `secrets` names what the vault adds to the request."""

    key: str
    request: PaymentRequest
    secrets: str = ""


@dataclass(frozen=True)
class Next:
    """`commands` go into one append, and the saga is looked at again. `questions` may be asked at
    once; those that have to wait are asked when the saga is looked at again at `wake_at`.

    `over`: nothing is left to do, and what was kept for it can be forgotten.
    """

    commands: Sequence[Command] = ()
    questions: Sequence[Question] = ()
    wake_at: datetime | None = None
    over: bool = False


@dataclass(frozen=True)
class Saga(Generic[S]):
    """`concerns` answers the id of the saga that an event moves, or nothing.

    `looks` names the streams whose states `proceed` wants to see. Commands of `proceed` must be
    refused by its own stream's decider where the saga is further on than the state it was shown.
    """

    name: str
    handles: frozenset[type]
    concerns: Callable[[Any], str]
    stream: Callable[[str], str]
    looks: Callable[[S, Cause], Sequence[str]]
    proceed: Callable[[S, Cause, Mapping[str, Any], StockNews, datetime], Next]
