"""Runs sagas: shows each what came in, records what it says, asks the provider, and wakes it.

Nothing here is needed to know where a saga stands: that is in its stream. What is in memory, who is
waiting and when to look again, is made anew after a crash from the work that is still open.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import structlog
from msgspec.structs import replace

from domain.commerce.checkout.rejections import StepPassed
from domain.commerce.order.rejections import OrderMovedOn
from domain.commerce.stock.rejections import OutOfStock, ReservationNotHeld
from domain.shared.message import Command
from domain.shared.rejection import Rejection
from infra.ports.frames import COMMERCE_PARTITIONS
from infra.ports.log import Clock, LogUnavailable, Recorded, StreamMoved
from infra.ports.payments import Authorise, Payments, PaymentSecrets, SubmitDetails, Unanswered
from infra.ports.sagas import NO_NEWS, Answered, Cause, Next, Question, Saga, StockNews
from infra.runtime.commands.execute import UNEXPLAINED, Context, Outcome
from infra.runtime.commands.states import State
from infra.runtime.reacting.react import Process
from infra.runtime.reacting.timers import Errands, Timers

ROUNDS_MAX = 20
REACTIONS_AT_ONCE = 256
"""Most of a turn is waiting for its append, and the more wait, the more are appended in one go."""
RETRY_SECONDS = 0.5

log = structlog.get_logger(__name__)


class Executing(Protocol):
    """`Executor`, or `SingleWriter`."""

    async def execute(self, *commands: Command, context: Context = UNEXPLAINED) -> Outcome: ...

    async def state(self, stream: str, *, fresh: bool = False) -> State: ...


@dataclass
class Instance:
    """One saga in memory: whose turn it is, and which calls are on their way."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    asking: set[str] = field(default_factory=set)
    correlation_id: str = ""
    busy: int = 0


Key = tuple[str, str]


class Sagas:
    """All sagas of one kind of process. One `Sagas` at a time may run on a log; if there should be
    two, the streams' versions keep the slower one from recording anything."""

    def __init__(
        self,
        sagas: Iterable[Saga[Any]],
        executor: "Executing",
        payments: Payments,
        secrets: PaymentSecrets,
        clock: Clock,
    ) -> None:
        self._sagas = {saga.name: saga for saga in sagas}
        self._executor = executor
        self.execute = executor.execute
        self._payments = payments
        self._secrets = secrets
        self._clock = clock
        self._instances: dict[Key, Instance] = {}
        self._errands = Errands()
        self._timers = Timers(clock, self._wake)

    def processes(self) -> list[Process]:
        """What a process runner hands events to."""
        return [
            Process(
                saga.name,
                saga.handles,
                self._reaction(saga),
                COMMERCE_PARTITIONS,
                REACTIONS_AT_ONCE,
                partial(moves, saga),
            )
            for saga in self._sagas.values()
        ]

    async def run(self) -> None:
        """Wake what is due, until cancelled; then calls on their way are dropped: nobody knows
        what came of them, and they are asked again after the next start."""
        await self._errands.beside(self._timers.run())

    def resume(self, name: str, subject: str) -> None:
        """Look at a saga that was open when the process before us ended."""
        self._wake((name, subject))

    async def rest(self) -> None:
        """Wait until nothing is being done or asked; timers may still be set."""
        await self._errands.rest()

    def _reaction(self, saga: Saga[Any]) -> Callable[[Recorded], Awaitable[None]]:
        async def react(recorded: Recorded) -> None:
            subject = saga.concerns(recorded.event)
            if not subject:
                return
            own = recorded.stream == saga.stream(subject)
            cause: Cause = None if own else self._cause(recorded.event)
            seen = recorded.position if own else 0
            instance = self._instance((saga.name, subject))
            instance.correlation_id = recorded.correlation_id or instance.correlation_id
            await self._turn((saga.name, subject), cause, seen, str(recorded.position))

        return react

    @staticmethod
    def _cause(event: Any) -> Cause:
        return event  # type: ignore[no-any-return]

    def _instance(self, key: Key) -> Instance:
        return self._instances.setdefault(key, Instance())

    def _wake(self, key: Key) -> None:
        self._errands.start(self._persist(key))

    async def _persist(self, key: Key, cause: Cause = None) -> None:
        """Take a turn that no runner repeats for us: until it is recorded."""
        while True:
            try:
                await self._turn(key, cause)
            except (LogUnavailable, StreamMoved) as error:
                log.warning("saga.waits", saga=key[0], subject=key[1], error=repr(error))
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                # Its stream is as it was: whatever moves it next, or a restart, tries again.
                log.exception("saga.failed", saga=key[0], subject=key[1])
                return
            else:
                return

    async def _turn(self, key: Key, cause: Cause, seen: int = 0, because: str = "") -> None:
        """Show a saga what came in, and record what it says, until it waits.

        `seen`: the position of an event of its own stream that the state must not be older than.
        """
        saga, instance = self._sagas[key[0]], self._instance(key)
        instance.busy += 1
        try:
            async with instance.turn:
                following = await self._proceed(saga, key, cause, seen, because)
                self._wait(key, instance, following)
        finally:
            instance.busy -= 1
            self._rest(key, instance)
        if following.over:
            await self._secrets.forget(key[1])

    async def _proceed(
        self, saga: Saga[Any], key: Key, cause: Cause, seen: int, because: str
    ) -> Next:
        stream = saga.stream(key[1])
        context = Context(correlation_id=self._instance(key).correlation_id, causation_id=because)
        news = NO_NEWS
        fresh = False
        for _ in range(ROUNDS_MAX):
            state = await self._executor.state(stream, fresh=fresh)
            if state.last_position < seen:
                state = await self._executor.state(stream, fresh=True)
            if not state.version:
                return Next()  # Somebody named a saga that there never was.
            following = saga.proceed(
                state.value, cause, await self._look(saga, state, cause), news, self._clock()
            )
            if not following.commands:
                return following
            try:
                await self._executor.execute(*following.commands, context=context)
            except (OutOfStock, ReservationNotHeld) as refusal:
                news = learnt(news, refusal)
            except (StepPassed, OrderMovedOn):
                fresh = True
            else:
                cause, news, fresh = None, NO_NEWS, False
        raise StreamMoved(stream)

    async def _look(self, saga: Saga[Any], state: State, cause: Cause) -> dict[str, Any]:
        streams = saga.looks(state.value, cause)
        return {
            stream: (await self._executor.state(stream, fresh=True)).value for stream in streams
        }

    def _wait(self, key: Key, instance: Instance, following: Next) -> None:
        for question in following.questions:
            if question.key not in instance.asking:
                instance.asking.add(question.key)
                self._errands.start(self._ask(key, instance, question))
        if following.wake_at is not None:
            self._timers.set(key, following.wake_at)
        else:
            self._timers.clear(key)

    async def _ask(self, key: Key, instance: Instance, question: Question) -> None:
        try:
            answer = await self._answer(key[1], question)
            log.info(
                "provider.answered",
                saga=key[0],
                subject=key[1],
                key=question.key,
                answer=type(answer).__name__,
            )
            await self._persist(key, Answered(question.key, answer))
        finally:
            # Not before the answer is recorded: until then the question still looks open.
            instance.asking.discard(question.key)
            self._rest(key, instance)

    def _rest(self, key: Key, instance: Instance) -> None:
        if not instance.busy and not instance.asking:
            self._instances.pop(key, None)

    async def _answer(self, subject: str, question: Question) -> Any:
        request = question.request
        if question.secrets and isinstance(request, Authorise | SubmitDetails):
            try:
                secrets = await self._secrets.get(subject, question.secrets)
            except LogUnavailable:
                return Unanswered("the vault cannot be reached")
            if secrets is None:
                return Unanswered("the payment details are gone")
            request = replace(request, secrets=secrets)
        return await self._payments.ask(request)


def moves(saga: Saga[Any], event: Any) -> bool:
    return bool(saga.concerns(event))


def learnt(news: StockNews, refusal: Rejection) -> StockNews:
    match refusal:
        case ReservationNotHeld():
            return StockNews(news.ended | {refusal.product_id}, news.short)
        case OutOfStock():
            short = (
                f"{refusal.requested} of {refusal.product_id} were wanted, "
                f"{refusal.available} are available"
            )
            return StockNews(news.ended, short)
        case _:
            raise refusal
