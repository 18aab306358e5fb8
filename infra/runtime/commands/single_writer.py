"""Executes commands of the one process that writes to hot streams: a flash sale's one shelf.

What waits is decided one after another on one state in memory, and appended in one go. So a stream
that everybody wants is written as fast as many streams are. That this process is the only one is
arranged by a lease, and proven by the append: where somebody else wrote, it is refused, and
everything is decided again on what the log says.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from domain.shared.message import Command
from domain.shared.rejection import Invalid, Rejection
from infra.ports.log import Clock, EventLog, Recorded, StreamMoved
from infra.ports.secrets import Keyring
from infra.runtime.commands.execute import (
    UNEXPLAINED,
    Context,
    Decided,
    Outcome,
    Step,
    at_position,
    newest,
    record,
    step_of,
)
from infra.runtime.commands.states import Deciders, Loads, Memory, State

JOBS_MAX = 200
ATTEMPTS_MAX = 4
CACHE_SIZE = 200_000


@dataclass
class Job:
    """Commands that happen together or not at all, and who waits for them."""

    steps: Sequence[Step]
    context: Context
    done: "asyncio.Future[Outcome]"
    decided: Sequence[Decided] = ()
    refusal: Exception | None = None
    doubtful: bool = False
    depends_on: int = 0

    @property
    def streams(self) -> set[str]:
        return {stream for _, _, stream in self.steps}

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def succeed(self, outcome: Outcome) -> None:
        if not self.done.done():
            self.done.set_result(outcome)


@dataclass
class Batch:
    """Jobs decided one after another. `states` are those after all of them."""

    states: dict[str, State]
    proven: set[str]
    changed: set[str] = field(default_factory=set)
    jobs: list[Job] = field(default_factory=list)
    recorded: list[Recorded] = field(default_factory=list)


def decide(job: Job, batch: Batch, now: datetime) -> None:
    """What happens, on the states that the jobs before it have left; moves these on.

    Where a command changes nothing in a stream that is only remembered, nobody has proven that:
    then the job waits for what the log says. Raises the rejection of the first command refused.
    """
    states = {stream: batch.states[stream] for stream in job.streams}
    job.depends_on = newest(states)
    decided: list[Decided] = []
    for command, decider, stream in job.steps:
        state = states[stream]
        events = decider.decide(command, state.value, now)
        if not events and stream not in batch.proven | batch.changed:
            job.doubtful = True
            return
        value, version = state.value, state.version
        for event in events:
            version += 1
            value = decider.evolve(value, event)
            decided.append((stream, version, event))
        states[stream] = State(value, version, state.first_position, state.last_position)
    job.decided = decided
    batch.states |= states
    batch.changed |= {stream for stream, _, _ in decided}


def is_final(refusal: Exception) -> bool:
    """Whether it would be the same on any state."""
    return isinstance(refusal, Invalid) or not isinstance(refusal, Rejection)


class SingleWriter:
    """`execute` and `state` as `Executor` has them, for a process that holds the lease."""

    def __init__(self, log: EventLog, keyring: Keyring, deciders: Deciders, clock: Clock) -> None:
        self._log = log
        self._keyring = keyring
        self._deciders = deciders
        self._clock = clock
        self._memory = Memory(CACHE_SIZE)
        self._loads = Loads(log, deciders, self._memory)
        self._waiting: deque[Job] = deque()
        self._writing: asyncio.Task[None] | None = None

    async def execute(self, *commands: Command, context: Context = UNEXPLAINED) -> Outcome:
        """See `Executor.execute`. Answers to be stored are not for this one."""
        assert context.answer is None
        steps = [step_of(command, self._deciders) for command in commands]
        job = Job(steps, context, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all())
        return await job.done

    async def state(self, stream: str, *, fresh: bool = False) -> State:
        """The state of a stream: as remembered, which an append proves, or as the log has it."""
        known = None if fresh else self._memory.get(stream)
        return known or (await self._loads.load({stream}))[stream]

    async def _write_all(self) -> None:
        while self._waiting:
            jobs = [self._waiting.popleft() for _ in range(min(len(self._waiting), JOBS_MAX))]
            try:
                await self._write(jobs)
            except BaseException as error:
                # Even a cancelled wait may have been written.
                self._forget(jobs)
                for job in jobs:
                    job.fail(error if isinstance(error, Exception) else StreamMoved())
                if not isinstance(error, Exception):
                    raise

    async def _write(self, jobs: list[Job]) -> None:
        """Write these together. Those whose refusal no append has proven are decided again."""
        for attempt in range(ATTEMPTS_MAX):
            batch = await self._decided(jobs, fresh=attempt > 0)
            try:
                positions = await self._log.append(batch.recorded) if batch.recorded else ()
            except StreamMoved:
                self._forget(jobs)
                continue
            placed = tuple(map(at_position, batch.recorded, positions))
            batch.proven |= {one.stream for one in placed}
            self._remember(batch, placed)
            jobs = self._settle(batch, placed)
            if not jobs:
                return
        for job in jobs:
            job.fail(StreamMoved())

    async def _decided(self, jobs: Sequence[Job], *, fresh: bool) -> Batch:
        batch = await self._states(jobs, fresh=fresh)
        now = self._clock()
        for job in jobs:
            job.decided, job.refusal, job.doubtful = (), None, False
            try:
                decide(job, batch, now)
            except Exception as error:
                # A refusal, or a fault of one job's, is no concern of its neighbours.
                job.decided, job.refusal = (), error
            batch.jobs.append(job)
            batch.recorded += await record(job.decided, self._keyring, now, job.context)
        return batch

    async def _states(self, jobs: Sequence[Job], *, fresh: bool) -> Batch:
        states: dict[str, State] = {}
        unknown: set[str] = set()
        for job in jobs:
            for command, decider, stream in job.steps:
                known = None if fresh else self._memory.get(stream)
                if known is not None:
                    states[stream] = known
                elif command.creates and not fresh and stream not in unknown:
                    states.setdefault(stream, State(decider.initial))
                elif stream not in states:
                    unknown.add(stream)
        loaded = await self._loads.load(unknown) if unknown else {}
        return Batch(states | loaded, set(loaded))

    def _settle(self, batch: Batch, placed: Sequence[Recorded]) -> list[Job]:
        """Tell who waits; answers those jobs whose outcome nothing has proven yet."""
        unproven = []
        first = 0
        for job in batch.jobs:
            mine = tuple(placed[first : first + len(job.decided)])
            first += len(job.decided)
            if mine:
                job.succeed(Outcome(mine[-1].position, mine))
            elif job.refusal is not None and (is_final(job.refusal) or job.streams <= batch.proven):
                job.fail(job.refusal)
            elif not job.doubtful and job.refusal is None and job.streams <= batch.proven:
                job.succeed(Outcome(job.depends_on))
            else:
                unproven.append(job)
        return unproven

    def _remember(self, batch: Batch, placed: Sequence[Recorded]) -> None:
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for one in placed:
            first.setdefault(one.stream, one.position)
            last[one.stream] = one.position
        for stream, position in last.items():
            state = batch.states[stream]
            begins = state.first_position or first[stream]
            self._memory.put(stream, State(state.value, state.version, begins, position))

    def _forget(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            for stream in job.streams:
                self._memory.forget(stream)
