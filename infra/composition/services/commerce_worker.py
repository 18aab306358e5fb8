"""The commerce half of a worker, assembled: its read models, and the processes that buy and sell.

It follows the log itself, also where there is a broker: a saga has to see its events as soon as
they are durable. Of all workers with these processes one runs them; the others wait for its end.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from domain.deciders import DECIDERS
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.payments.adyen_payments import AdyenPayments
from infra.adapters.payments.payment_secrets import PAYMENTS_KEY, PostgresPaymentSecrets
from infra.adapters.processes.process_lease import LeaseLost, lease
from infra.adapters.processes.process_progress import PostgresProgress
from infra.adapters.reads.postgres_commerce_reads import PostgresOpenWork
from infra.adapters.secrets.keyring import PostgresKeyring, secret
from infra.composition.services.tasks import COMMERCE_PROCESSES
from infra.composition.settings import Settings
from infra.composition.tracing import TracedLog, spans_for
from infra.ports.commerce_reads import WorkRow
from infra.ports.frames import COMMERCE_PARTITIONS, Frame
from infra.ports.log import LogUnavailable
from infra.ports.payments import Payments, PaymentSecrets
from infra.ports.processes import Parked, Progress, Settled
from infra.runtime.commands.single_writer import SingleWriter
from infra.runtime.frames.embedded import EmbeddedRunner
from infra.runtime.frames.frames import LogLines
from infra.runtime.frames.paced import Paced
from infra.runtime.reacting.holds import Waiting
from infra.runtime.reacting.react import ProcessRunner
from infra.runtime.reacting.sagas import Executing, Sagas
from processes import checkout, reservation_timer, returns
from processes.reservation_timer import Hold

LEASE = "buying"
PAUSE_SECONDS = 1.0
PAUSE_OF_READS_SECONDS = 0.01
SECRETS_DAYS = 7
"""How long what buyers entrusted to us may be kept: as long as a key of the provider's lives."""
SWEEP_SECONDS = 3_600.0
RETURN_URL = "https://localhost/"
HELD = frozenset(reservation_timer.Handled.__args__)

log = structlog.get_logger(__name__)


class Buying:
    """All processes of the commerce half: sagas and timers, and who hands them events."""

    def __init__(
        self,
        executor: Executing,
        payments: Payments,
        secrets: PaymentSecrets,
        names: Collection[str] = COMMERCE_PROCESSES,
    ) -> None:
        self.sagas = Sagas(
            [saga for saga in (checkout.SAGA, returns.SAGA) if saga.name in names],
            executor,
            payments,
            secrets,
            utc_now,
        )
        self.holds: Waiting[Hold] = Waiting(
            reservation_timer.NAME,
            HELD,
            reservation_timer.timer,
            reservation_timer.due,
            executor.execute,
            utc_now,
        )
        self._names = names
        self._secrets = secrets

    async def forget_left_behind(self) -> None:
        """Now and then, until cancelled: payment details whose checkout never came to be, or never
        came to an end, are dropped. They are dropped at once where it ends."""
        while True:
            try:
                await self._secrets.forget_older(utc_now() - timedelta(days=SECRETS_DAYS))
            except LogUnavailable as error:
                log.warning("secrets.kept", error=str(error))
            await asyncio.sleep(SWEEP_SECONDS)

    def resume(self, rows: Sequence[WorkRow]) -> None:
        """Take up what was open when the process before us ended."""
        for row in rows:
            if row.kind not in self._names:
                continue
            if row.kind == reservation_timer.NAME and row.due_at is not None:
                self.holds.set(Hold(row.subject, row.task), row.due_at)
        for kind, subject in {(r.kind, r.subject) for r in rows if r.kind in self._names}:
            if kind != reservation_timer.NAME:
                self.sagas.resume(kind, subject)

    def runners(self, source: LogLines, progress: Progress) -> list[ProcessRunner]:
        processes = self.sagas.processes()
        if reservation_timer.NAME in self._names:
            processes.append(self.holds.process)
        return [ProcessRunner(process, source, progress) for process in processes]


class NoFurther:
    """`Progress` that begins no further than what is known of open work."""

    def __init__(self, progress: Progress, position: int) -> None:
        self._progress = progress
        self._position = position
        self.advance = progress.advance

    async def checkpoints(self, process: str) -> Mapping[int, int]:
        known = await self._progress.checkpoints(process)
        return {part: min(known.get(part, 0), self._position) for part in COMMERCE_PARTITIONS}

    async def park(self, process: str, parked: Parked) -> None:
        await self._progress.park(process, parked)

    async def settle(
        self, process: str, position: int, status: Settled, *, error: str = "", why: str = ""
    ) -> None:
        await self._progress.settle(process, position, status, error=error, why=why)


def utc_now() -> datetime:
    return datetime.now(UTC)


async def run_processes(settings: Settings, names: Collection[str]) -> None:
    """Run these processes until cancelled, whenever no other worker does."""
    while True:
        try:
            async with lease(settings.postgres_url, LEASE) as held, asyncio.TaskGroup() as group:
                group.create_task(held.watch())
                group.create_task(buy(settings, names))
        except* (LeaseLost, LogUnavailable) as lost:
            log.warning("buying.paused", errors=[str(error) for error in lost.exceptions])
        await asyncio.sleep(PAUSE_SECONDS)


async def buy(settings: Settings, names: Collection[str]) -> None:
    async with opened(settings, names) as (buying, runners, source):
        log.info("buying.runs", processes=sorted(names))
        follower = follower_of(source, runners)
        async with asyncio.TaskGroup() as group:
            group.create_task(buying.sagas.run())
            group.create_task(buying.holds.run())
            group.create_task(buying.forget_left_behind())
            group.create_task(follower.run())


class Together:
    """`infra.ports.frames.FrameTarget`: every process is handed every frame."""

    def __init__(self, runners: Sequence[ProcessRunner]) -> None:
        self._runners = runners

    async def checkpoints(self) -> Mapping[int, int]:
        found = [await runner.checkpoints() for runner in self._runners]
        return {part: min(one[part] for one in found) for part in COMMERCE_PARTITIONS}

    async def apply(self, frames: Sequence[Frame]) -> None:
        for runner in self._runners:
            await runner.apply(frames)


def follower_of(source: LogLines, runners: Sequence[ProcessRunner]) -> EmbeddedRunner:
    paced = Paced(source, PAUSE_OF_READS_SECONDS)
    return EmbeddedRunner(paced, Together(runners), COMMERCE_PARTITIONS)


@contextlib.asynccontextmanager
async def opened(
    settings: Settings,
    names: Collection[str],
    payments: Payments | None = None,
    *,
    resume: bool = True,
) -> AsyncIterator[tuple[Buying, list[ProcessRunner], PostgresEventLog]]:
    """The processes, with their open work taken up if that is theirs, and who hands them events.

    `payments` None: the provider that the settings name.
    """
    url = settings.postgres_url
    async with contextlib.AsyncExitStack() as stack:
        source = await PostgresEventLog.open(url)
        stack.push_async_callback(source.close)
        keyring = await PostgresKeyring.connect(url)
        stack.push_async_callback(keyring.close)
        secrets = await PostgresPaymentSecrets.connect(url, await secret(url, PAYMENTS_KEY))
        stack.push_async_callback(secrets.close)
        progress = await PostgresProgress.open(url)
        stack.push_async_callback(progress.close)
        work = PostgresOpenWork(url)
        stack.push_async_callback(work.close)
        if payments is None:
            adyen = provider(settings)
            stack.callback(adyen.close)
            payments = adyen
        spans = spans_for(settings, "commerce-worker", stack)
        traced = source if spans is None else TracedLog(source, spans)
        buying = Buying(SingleWriter(traced, keyring, DECIDERS, utc_now), payments, secrets, names)
        rows, known = await work.rows()
        if resume:
            buying.resume(rows)
        runners = buying.runners(source, NoFurther(progress, known))
        for runner in runners:
            stack.push_async_callback(runner.close)
        yield buying, runners, source


def provider(settings: Settings) -> AdyenPayments:
    return AdyenPayments(
        settings.adyen_base_url,
        settings.adyen_api_key,
        settings.adyen_merchant_account,
        return_url=RETURN_URL,
    )
