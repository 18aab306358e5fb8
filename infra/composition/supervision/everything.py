"""`plaza up`: own servers, both services, and the workers, each a supervised process of its own."""

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import TypeVar

import msgspec
import psycopg
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

import infra
from infra.adapters.migrations import DatabaseMismatch, migrate
from infra.composition.services.metrics_server import serve_metrics
from infra.composition.services.tasks import halves
from infra.composition.settings import (
    Settings,
    service_address,
    to_environment,
    variable_name,
)
from infra.composition.supervision.process_metrics import (
    TARGETS,
    Target,
    child_metrics,
    write_targets,
)
from infra.composition.supervision.running import Running, forget_running, hold, write_running
from infra.composition.supervision.stop_signals import stop_on_signals
from infra.composition.supervision.supervisor import Child, Supervisor, end_recorded
from infra.servers import valkey
from infra.servers.adyen_stand_in import adyen_program
from infra.servers.kafka import kafka_program
from infra.servers.opensearch import opensearch_program
from infra.servers.osmem import osmem_program
from infra.servers.postgres import postgres_program
from infra.servers.process import Program, ServerFailed, answers_http, free_port, is_free, tail
from infra.servers.valkey import valkey_program

OWN_PROCESSES, STORES = range(2)
START_SECONDS = 60.0
FULL_START_SECONDS = 120.0
WEBHOOKS = "/api/webhooks/adyen"
Tell = Callable[[str], None]
T = TypeVar("T")
log = structlog.get_logger(__name__)


class StartFailed(Exception):
    """The system could not be started; nothing of it is left running."""


@dataclass(frozen=True)
class Plan:
    """What `plaza up` was asked for."""

    settings: Settings
    environ: Mapping[str, str]
    full: bool

    @property
    def mode(self) -> str:
        return "full" if self.full else "embedded"

    @property
    def logs(self) -> Path:
        return self.settings.folder / "logs"


async def run(plan: Plan, tell: Tell, on_ready: Callable[[Running], None]) -> None:
    """Run everything until a signal, then end it. Raises `StartFailed` and `AlreadyRunning`."""
    began = time.monotonic()
    folder = plan.settings.folder
    lock = hold(folder, plan.mode)
    plan.logs.mkdir(mode=0o700, exist_ok=True)
    record = folder / "processes.json"
    ended = await asyncio.to_thread(end_recorded, record)
    if ended:
        tell(f"ended {len(ended)} processes that a killed run had left behind")
    forget_running(folder)
    _check_ports(plan.settings)
    supervisor = Supervisor(record, tell)
    stopped = stop_on_signals(again=supervisor.kill)
    starting = asyncio.create_task(_start(plan, supervisor, tell, on_ready, began))
    try:
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await stopped
    finally:
        starting.cancel()
        stopped.cancel()
        tell("stopping")
        await supervisor.stop()
        forget_running(folder)
        (folder / TARGETS).unlink(missing_ok=True)
        lock.close()
        tell("stopped")


async def _start(
    plan: Plan,
    supervisor: Supervisor,
    tell: Tell,
    on_ready: Callable[[Running], None],
    began: float,
) -> None:
    settings, own, stores = await in_thread(lambda: _prepare_stores(plan))
    kept = {child.name: supervisor.keep(child) for child in stores}
    if "postgres" in kept:
        await _wait_for(kept["postgres"], START_SECONDS)
    try:
        await migrate(settings.postgres_url)
    except (DatabaseMismatch, psycopg.Error, OSError) as problem:
        raise StartFailed(f"the database cannot be used: {problem}") from problem
    running = Running(
        process_id=os.getpid(),
        mode=plan.mode,
        started_at=datetime.now(UTC).isoformat(),
        settings=msgspec.structs.asdict(settings),
        own=own,
    )
    write_running(settings.folder, running)
    services = [supervisor.keep(child) for child in _services(plan, settings)]
    workers = [supervisor.keep(child) for child in _workers(plan, settings)]
    write_targets(settings.folder, _targets(settings, supervisor, workers))
    for child in [*kept.values(), *services]:
        await _tell_when_ready(child, tell, FULL_START_SECONDS if plan.full else START_SECONDS)
    running.ready = True
    write_running(settings.folder, running)
    tell(f"ready after {time.monotonic() - began:.1f} s; logs are in {plan.logs}")
    on_ready(running)


async def in_thread(function: Callable[[], T]) -> T:
    """Call a function in a thread that nobody waits for when we are told to stop meanwhile."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(how: Callable[[], None]) -> None:
        if not answer.done():
            how()

    def call() -> None:
        how: Callable[[], None]
        try:
            how = partial(answer.set_result, function())
        except Exception as problem:
            how = partial(answer.set_exception, problem)
        # Where the loop has ended, nobody wants to know any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, how)

    threading.Thread(target=call, daemon=True).start()
    return await answer


def _prepare_stores(plan: Plan) -> tuple[Settings, list[str], list[Child]]:
    """The own servers that the settings leave to us, and the settings with their addresses."""
    settings, folder = plan.settings, plan.settings.folder
    ports = Ports(folder / "ports.json")
    addresses: dict[str, str] = {}
    stores: list[Child] = []

    def own(setting: str, program: Program, mend: Callable[[], None] | None = None) -> None:
        addresses[setting] = program.url
        logged = replace(program, log_file=plan.logs / f"{program.name}.log")
        stores.append(Child(logged, STORES, mend=mend))

    try:
        if not settings.postgres_url:
            own("postgres_url", postgres_program(folder / "postgres", ports.of("postgres")))
        if not settings.redis_url:
            place = folder / "valkey"
            # Everything in Redis can be computed again: rather empty than not there.
            own(
                "redis_url",
                valkey_program(place, ports.of("valkey")),
                lambda: valkey.set_aside(place),
            )
        if not settings.opensearch_url:
            if plan.full:
                own("opensearch_url", opensearch_program(folder / "opensearch", plan.environ))
            else:
                own("opensearch_url", osmem_program(folder / "search", ports.of("search")))
        if plan.full and not settings.kafka_bootstrap:
            own(
                "kafka_bootstrap",
                kafka_program(folder / "kafka", plan.environ, ports.of("kafka")),
            )
        if not settings.adyen_base_url:
            settings = _with_provider_keys(settings)
            own("adyen_base_url", _stand_in(settings, ports.of("adyen")))
    except (ServerFailed, OSError) as problem:
        raise StartFailed(str(problem)) from problem
    ports.remember()
    return msgspec.structs.replace(settings, **addresses), list(addresses), stores


def _with_provider_keys(settings: Settings) -> Settings:
    """The stand-in knows the keys that are set, or else some of its own, made once a folder."""
    file = settings.folder / "adyen-keys.json"
    if not file.exists():
        made = {"adyen_api_key": token_hex(16), "adyen_hmac_key": token_hex(32)}
        file.touch(mode=0o600)
        file.write_bytes(msgspec.json.encode(made))
    kept = msgspec.json.decode(file.read_bytes(), type=dict[str, str])
    unset = {name: value for name, value in kept.items() if not getattr(settings, name)}
    return msgspec.structs.replace(settings, **unset)


def _stand_in(settings: Settings, port: int) -> Program:
    return adyen_program(
        settings.folder / "adyen",
        port,
        merchant_account=settings.adyen_merchant_account,
        api_key=settings.adyen_api_key,
        hmac_key=settings.adyen_hmac_key,
        webhook_url=f"{service_address(settings, settings.command_api_port)}{WEBHOOKS}",
    )


def _services(plan: Plan, settings: Settings) -> list[Child]:
    return [
        Child(
            _process(plan, settings, name, address=service_address(settings, port)), OWN_PROCESSES
        )
        for name, port in (
            ("command-api", settings.command_api_port),
            ("query-api", settings.query_api_port),
        )
    ]


def _workers(plan: Plan, settings: Settings) -> list[Child]:
    """They wait for Kafka by themselves, as they do when it is away later."""
    names = ["worker", "relay"] if settings.kafka_bootstrap else ["worker"]
    children = [_process(plan, settings, name, needs_port=True) for name in names]
    # Buying and selling has a process of its own: either half serves while the other is down.
    social, commerce = halves(None, None)
    children[0] = with_arguments(children[0], "worker", *social)
    children.append(with_arguments(children[0], "commerce-worker", *commerce))
    return [Child(child, OWN_PROCESSES) for child in children]


def _targets(settings: Settings, supervisor: Supervisor, workers: Sequence[Child]) -> list[Target]:
    """Where each process serves its metrics, this one too."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    child_metrics(registry, lambda: supervisor.children, settings.folder)
    own = serve_metrics(0, settings.bind_host, registry)
    places = {
        "supervisor": ("supervisor", own.server_address[1]),
        "command-api": ("command-api", settings.command_api_port),
        "query-api": ("query-api", settings.query_api_port),
    }
    for child in workers:
        environment = child.program.environment or {}
        job = "relay" if child.name == "relay" else "worker"
        places[child.name] = (job, int(environment[variable_name("metrics_port")]))
    return [
        Target(
            [service_address(settings, int(port)).removeprefix("http://")],
            {"job": job, "process": name},
        )
        for name, (job, port) in places.items()
    ]


def with_arguments(
    worker: Program, name: str, projections: Sequence[str], processes: Sequence[str]
) -> Program:
    """The same worker for these projections and processes only, under a name of its own."""
    named = ("--projections", ",".join(projections), "--processes", ",".join(processes))
    environment = {
        **(worker.environment or {}),
        variable_name("metrics_port"): str(free_port()),
    }
    return replace(
        worker,
        name=name,
        command=(*worker.command[:4], *named),
        log_file=worker.log_file.with_name(f"{name}.log"),
        environment=environment,
    )


def _process(
    plan: Plan, settings: Settings, name: str, *, address: str = "", needs_port: bool = False
) -> Program:
    """One of our own processes, run by the same Python and source as this one."""
    source = str(Path(infra.__file__).parents[1])
    if needs_port and not settings.metrics_port:
        settings = msgspec.structs.replace(settings, metrics_port=free_port())
    paths = [source, *filter(None, [plan.environ.get("PYTHONPATH")])]
    environment = {
        **plan.environ,
        **to_environment(settings),
        "PYTHONPATH": os.pathsep.join(paths),
        # glibc keeps an arena per core and thread otherwise, which is memory for nothing here.
        "MALLOC_ARENA_MAX": "2",
    }
    return Program(
        name,
        (sys.executable, "-m", "infra.command_line.main", name),
        settings.folder,
        plan.logs / f"{name}.log",
        url=address,
        answers=(lambda: answers_http(f"{address}/health/ready")) if address else (lambda: True),
        environment=environment,
    )


async def _wait_for(child: Child, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await child.ready.wait()
    except TimeoutError:
        raise StartFailed(
            f"{child.name} did not answer in {seconds:g} s:\n{tail(child.program.log_file)}"
        ) from None


async def _tell_when_ready(child: Child, tell: Tell, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await child.ready.wait()
    except TimeoutError:
        log.warning("process.not_ready", child=child.name)
        tell(f"{child.name} is not ready yet; its log: {child.program.log_file}")
        if child.stage == OWN_PROCESSES:
            await child.ready.wait()
        return
    tell(f"  {child.name:<12} {_without_password(child.program.url)}")


def _check_ports(settings: Settings) -> None:
    for variable, port in (
        ("PLAZA_COMMAND_API_PORT", settings.command_api_port),
        ("PLAZA_QUERY_API_PORT", settings.query_api_port),
    ):
        if not is_free(port, settings.bind_host):
            raise StartFailed(f"port {port} is in use by another program: set {variable}")


class Ports:
    """Keeps the ports of own servers the same from run to run, where they are still free."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._chosen: dict[str, int] = {}
        try:
            self._before = msgspec.json.decode(file.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.DecodeError):
            self._before = {}

    def of(self, name: str) -> int:
        self._chosen[name] = free_port(self._before.get(name))
        return self._chosen[name]

    def remember(self) -> None:
        self._file.write_bytes(msgspec.json.encode({**self._before, **self._chosen}))


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if "@" in rest else url
