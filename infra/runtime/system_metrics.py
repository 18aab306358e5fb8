"""The state of the whole system as metrics: looked at when somebody asks for them, not before."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog
from prometheus_client import CollectorRegistry

from infra.measures import Gauges, Labels
from infra.ports.log import LogUnavailable
from infra.ports.system_state import PROCESS, PROJECTION, SystemState
from infra.runtime.autoscaling import Load, workers_wanted

LOOK_SECONDS_MAX = 3.0
FRESH_SECONDS = 1.0

log = structlog.get_logger(__name__)

Values = Mapping[Labels, float]


class SystemMetrics:
    """`look` is asked at most once a second; while it cannot answer, its gauges are not there."""

    def __init__(
        self,
        registry: CollectorRegistry,
        look: Callable[[], Awaitable[SystemState]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._monotonic = monotonic
        self._state: SystemState | None = None
        self._looked_at = float("-inf")
        self._turn = asyncio.Lock()

        def gauge(
            name: str, about: str, labels: list[str], values: Callable[[SystemState], Values]
        ) -> None:
            Gauges(name, about, labels, registry, lambda: self._of_state(values))

        Gauges(
            "plaza_system_view_up",
            "1 while the state of the log and the read models can be looked at, else 0",
            [],
            registry,
            lambda: {(): float(self._state is not None)},
        )
        gauge("plaza_log_position", "The newest position of the log", [], lambda s: {(): s.head})
        gauge(
            "plaza_read_model_lag_seconds",
            "Age of the first event that a read model does not show yet; 0 when it shows all",
            ["projection", "partition"],
            lambda s: lags(s, PROJECTION),
        )
        gauge(
            "plaza_read_model_waiting_events",
            "Events that a read model does not show yet; a bound where many wait",
            ["projection"],
            lambda s: waiting(s, PROJECTION),
        )
        gauge(
            "plaza_process_lag_seconds",
            "Age of the first event that a process has not seen to; 0 when it has to all",
            ["process", "partition"],
            lambda s: lags(s, PROCESS),
        )
        gauge(
            "plaza_process_waiting_events",
            "Events that a process has not seen to; a bound where many wait",
            ["process"],
            lambda s: waiting(s, PROCESS),
        )
        gauge(
            "plaza_dead_letters",
            "Events set aside by a projection or a process, those that wait behind them too",
            ["projection"],
            letters,
        )
        gauge(
            "plaza_checkouts_open",
            "Checkouts that have not ended",
            ["status"],
            lambda s: {
                (status,): s.checkouts.by_status.get(status, 0)
                for status in ("pending", "awaiting_action")
            },
        )
        gauge(
            "plaza_checkouts_open_oldest_seconds",
            "Age of the oldest checkout that has not ended",
            [],
            lambda s: {(): s.checkouts.oldest_seconds},
        )
        gauge(
            "plaza_checkout_problems",
            "Checkouts that an operator has to look at",
            [],
            lambda s: {(): s.checkouts.problems},
        )
        gauge(
            "plaza_relay_waiting_positions",
            "How many positions the log is ahead of what the relay has sent",
            [],
            lambda s: {} if s.relay is None else {(): max(0, s.head - s.relay)},
        )
        gauge(
            "plaza_database_connections",
            "Connections to PostgreSQL",
            [],
            lambda s: {(): s.connections},
        )
        gauge(
            "plaza_database_connections_max",
            "Connections that PostgreSQL allows",
            [],
            lambda s: {(): s.connections_max},
        )
        gauge(
            "plaza_workers_wanted",
            "Workers that would catch up with the log in time; see the runbook of read model lag",
            [],
            lambda s: {(): workers_wanted(load(s))},
        )

    async def refresh(self) -> None:
        """Look again, unless that was a moment ago. Raises nothing, and takes 3 s at most."""
        async with self._turn:
            if self._monotonic() - self._looked_at < FRESH_SECONDS:
                return
            try:
                async with asyncio.timeout(LOOK_SECONDS_MAX):
                    self._state = await self._look()
            except (LogUnavailable, TimeoutError) as error:
                self._state = None
                log.warning("system_view.unavailable", error=repr(error))
            self._looked_at = self._monotonic()

    def _of_state(self, values: Callable[[SystemState], Values]) -> Values:
        return {} if self._state is None else values(self._state)


def lags(state: SystemState, kind: str) -> Values:
    return {(lag.name, str(lag.partition)): lag.seconds for lag in state.lags if lag.kind == kind}


def waiting(state: SystemState, kind: str) -> Values:
    return {(name,): count for (of, name), count in state.waiting.items() if of == kind}


def letters(state: SystemState) -> Values:
    """Also of those that have none: a gauge that is 0 is one that can be believed."""
    return {(name,): state.dead_letters.get(name, 0) for _, name in state.waiting}


def load(state: SystemState) -> Load:
    late = [lag.seconds for lag in state.lags if lag.kind == PROJECTION]
    behind = [count for (kind, _), count in state.waiting.items() if kind == PROJECTION]
    return Load(waiting=max(behind, default=0), seconds=max(late, default=0.0))
