"""Runs commands: fold the stream, decide, append; decide again where somebody else was faster.

Only an append proves that a remembered state was current. A refusal, or a decision that nothing
happens, made on remembered state is made again on freshly loaded state before it is believed.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct, structs

from domain.shared.decider import Decider
from domain.shared.message import Command
from domain.shared.rejection import Invalid, Rejection
from infra.formats.codec import person_of, seal_event
from infra.ports.log import Clock, EventLog, Recorded, StoredAnswer, StreamMoved
from infra.ports.secrets import Keyring
from infra.runtime.commands.states import Deciders, Loads, Memory, State
from infra.runtime.commands.turns import Turns

ATTEMPTS_MAX = 8
BACKOFF_SECONDS = 0.005


class Context(Struct, frozen=True, kw_only=True):
    """Why commands are executed, and what to keep as their answer.

    `answer` is called with what was decided, before it has positions; its answer is written in the
    same statement as the events, also where there are none.
    """

    correlation_id: str = ""
    causation_id: str = ""
    answer: Callable[[Sequence[Recorded]], StoredAnswer] | None = None


class Outcome(Struct, frozen=True):
    """What came of commands: `position` covers all they depend on, also where nothing happened.

    Then it is the newest that this executor has appended, so that who gets one answer after the
    other never gets an earlier position. Personal texts in the events are sealed.
    """

    position: int
    events: tuple[Recorded, ...] = ()


Step = tuple[Command, Decider[Any, Any, Any], str]
"""A command, who decides it, and the stream it is about."""

Decided = tuple[str, int, Any]
"""A stream, the version in it, and the event that is to stand there."""

Look = Callable[[str], Awaitable[State]]
"""The state of a stream, by its name."""

Prepare = Callable[[Look], Awaitable[Sequence[Command]]]
"""Makes commands that depend on what other streams say."""

UNEXPLAINED = Context()


class Execute(Protocol):
    """`Executor.execute`, for those who need nothing else of it."""

    async def __call__(self, *commands: Command, context: Context = UNEXPLAINED) -> Outcome: ...


class Executor:
    """Executes commands on one log. Remembers the streams it has met last.

    `facts_seconds_max`: how long a remembered state may serve as a fact for another stream's
    command, since no append proves that one. Other writers are believed to be that late at most.
    """

    def __init__(  # noqa: PLR0913
        self,
        log: EventLog,
        keyring: Keyring,
        deciders: Deciders,
        clock: Clock,
        *,
        cache_size: int = 100_000,
        facts_seconds_max: float = 1.0,
    ) -> None:
        self._log = log
        self._keyring = keyring
        self._deciders = deciders
        self._clock = clock
        self._facts_seconds_max = facts_seconds_max
        self._memory = Memory(cache_size)
        self._turns = Turns()
        self._loads = Loads(log, deciders, self._memory)
        self._appended = 0

    async def execute(self, *commands: Command, context: Context = UNEXPLAINED) -> Outcome:
        """Do all of these commands in one append, or none of them.

        Durable on return. Raises the rejection of the first command that is refused; `StreamMoved`
        when others kept being faster; `KeyTaken`, `LogUnavailable` and `KeyDestroyed` as they come.
        """
        steps = [step_of(command, self._deciders) for command in commands]
        # In one order for everybody, so that no two wait for each other.
        streams = [steps[0][2]] if len(steps) == 1 else sorted({step[2] for step in steps})
        await self._turns.take(streams)
        try:
            return await self._execute(steps, context)
        finally:
            self._turns.give_back(streams)

    async def execute_prepared(self, prepare: Prepare, context: Context = UNEXPLAINED) -> Outcome:
        """Execute the commands that `prepare` makes from the states of other streams.

        It is called with a function that looks at a stream, and called again with one that looks
        afresh when what it made, or it itself, was refused on remembered states.
        """
        remembered = False

        async def look(stream: str) -> State:
            nonlocal remembered
            state = self._fact(stream)
            if state is None:
                return await self.state(stream, fresh=True)
            remembered = True
            return state

        async def look_afresh(stream: str) -> State:
            return await self.state(stream, fresh=True)

        try:
            return await self.execute(*await prepare(look), context=context)
        except Invalid:
            raise
        except Rejection:
            if not remembered:
                raise
        return await self.execute(*await prepare(look_afresh), context=context)

    async def state(self, stream: str, *, fresh: bool = False) -> State:
        """The state of a stream: as last seen if that was a moment ago, else loaded."""
        state = None if fresh else self._fact(stream)
        return state or (await self._loads.load((stream,)))[stream]

    def forget(self, stream: str) -> None:
        """Load this stream the next time, because it changed elsewhere."""
        self._memory.forget(stream)

    def _fact(self, stream: str) -> State | None:
        state = self._memory.get(stream)
        if state is None or time.monotonic() - state.seen_at > self._facts_seconds_max:
            return None
        return state

    async def _execute(self, steps: Sequence[Step], context: Context) -> Outcome:
        outcome = await self._attempt(steps, context, fresh=False)
        for attempt in range(1, ATTEMPTS_MAX):
            if outcome is not None:
                return outcome
            if attempt > 1:
                await asyncio.sleep(random.uniform(0, BACKOFF_SECONDS * 2**attempt))
            outcome = await self._attempt(steps, context, fresh=True)
        if outcome is None:
            raise StreamMoved
        return outcome

    async def _attempt(
        self, steps: Sequence[Step], context: Context, *, fresh: bool
    ) -> Outcome | None:
        """One try; None where it must be repeated on freshly loaded states."""
        states: dict[str, State] = {}
        unknown = []
        for command, decider, stream in steps:
            if stream in states:
                continue
            state = None if fresh else self._memory.get(stream)
            if state is not None:
                states[stream] = state
            elif command.creates and not fresh:
                states[stream] = State(decider.initial)
            else:
                unknown.append(stream)
        loaded: Mapping[str, State] = {}
        if unknown:
            loaded = await self._loads.load(unknown)
            states.update(loaded)
        now = self._clock()
        decided = decide(steps, states, loaded, now)
        if decided is None:
            return None
        if not decided and context.answer is None:
            return Outcome(self._covering(states))
        recorded = await record(decided, self._keyring, now, context)
        return await self._append(recorded, states, context)

    async def _append(
        self, recorded: Sequence[Recorded], states: Mapping[str, State], context: Context
    ) -> Outcome | None:
        answer = None
        if context.answer is not None:
            answer = structs.replace(context.answer(recorded), position=self._covering(states))
        try:
            positions = await self._log.append(recorded, answer)
        except StreamMoved:
            return None
        except BaseException:
            # It may have been written: a cancelled wait says nothing.
            for one in recorded:
                self._memory.forget(one.stream)
            raise
        if not recorded:
            return Outcome(self._covering(states))
        placed = tuple(map(at_position, recorded, positions))
        self._remember(placed, states)
        self._appended = max(self._appended, positions[-1])
        return Outcome(positions[-1], placed)

    def _covering(self, states: Mapping[str, State]) -> int:
        """A position for commands that change nothing: it covers these states, and what others
        were told before."""
        return max(self._appended, newest(states))

    def _remember(self, appended: Sequence[Recorded], states: Mapping[str, State]) -> None:
        seen_at = time.monotonic()
        first: dict[str, int] = {}
        for one in appended:
            state, stream = states[one.stream], one.stream
            if one.version == 1:
                first[stream] = one.position
            if one.version == state.version:
                begins = state.first_position or first[stream]
                known = State(state.value, state.version, begins, one.position, seen_at)
                self._memory.put(stream, known)


def step_of(command: Command, deciders: Deciders) -> Step:
    decider = deciders[type(command)]
    return command, decider, decider.stream(command)


def decide(
    steps: Sequence[Step], states: dict[str, State], proven: Container[str], now: datetime
) -> list[Decided] | None:
    """What happens; moves `states` on. None where only a remembered state says no."""
    decided: list[Decided] = []
    for command, decider, stream in steps:
        state = states[stream]
        try:
            events = decider.decide(command, state.value, now)
        except Invalid:
            raise
        except Rejection:
            if stream in proven:
                raise
            return None
        if not events:
            if stream in proven:
                continue
            return None
        value, version = state.value, state.version
        for event in events:
            version += 1
            value = decider.evolve(value, event)
            decided.append((stream, version, event))
        states[stream] = State(value, version, state.first_position)
    return decided


async def record(
    decided: Sequence[Decided], keyring: Keyring, now: datetime, why: Context
) -> list[Recorded]:
    """What was decided, in its envelope, with personal texts sealed. Raises `KeyDestroyed`."""
    persons = {person for _, _, event in decided if (person := person_of(event)) is not None}
    if persons:
        await keyring.fetch(persons)
    return [
        Recorded(
            stream=stream,
            version=version,
            recorded_at=now,
            event=seal_event(event, keyring) if persons else event,
            correlation_id=why.correlation_id,
            causation_id=why.causation_id,
        )
        for stream, version, event in decided
    ]


def newest(states: Mapping[str, State]) -> int:
    return max(state.last_position for state in states.values())


def at_position(recorded: Recorded, position: int) -> Recorded:
    return Recorded(
        stream=recorded.stream,
        version=recorded.version,
        recorded_at=recorded.recorded_at,
        event=recorded.event,
        correlation_id=recorded.correlation_id,
        causation_id=recorded.causation_id,
        position=position,
    )
