"""A running system is watched: its metrics, its screen, its traces, its runbooks' commands."""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
import yaml

from infra.adapters.migrations import migrate
from infra.adapters.system_view import SystemView
from infra.tracing import event_span
from tests.fault.system import ROOT, System, running_system
from tests.waiting import PATIENCE_SECONDS, until

MONITORING = ROOT / "infra" / "monitoring"
RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = 0x00F067AA0BA902B7
# What only the full system, or one that had time to look around, has.
NOT_HERE = {"plaza_relay_active", "plaza_relay_waiting_positions", "plaza_audit_drifting"}
RUNBOOKS_AT_ONCE = 3
RUNBOOK_SECONDS = 180.0


@dataclass
class Collector:
    """An OTLP collector that keeps what it is sent."""

    spans: list[Any] = field(default_factory=list)
    services: dict[int, str] = field(default_factory=dict)
    port: int = 0

    def take(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # noqa: PLC0415

        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.services[int.from_bytes(span.span_id)] = names["service.name"]
                    self.spans.append(span)

    def of(self, trace: str) -> dict[int, Any]:
        return {
            int.from_bytes(span.span_id): span
            for span in self.spans
            if span.trace_id.hex() == trace
        }


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    kept = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kept
    server.shutdown()
    server.server_close()


@dataclass
class Watched:
    system: System
    token: str
    position: int


@pytest.fixture(scope="module")
async def watched(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> AsyncIterator[Watched]:
    """A system with a little life in it, and one request that was traced by its caller."""
    folder = tmp_path_factory.mktemp("watched")
    # The name that everybody's collectors go by.
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}"}
    async with running_system(folder, settings=settings) as system:
        made = json.loads(await system.plaza("demo", "--seed", "5", "--json"))
        async with aiohttp.ClientSession() as http:
            login = {"username": made["logIns"][0]["username"], "password": made["password"]}
            async with http.post(f"{system.command_url}/api/sessions", json=login) as answer:
                token = (await answer.json())["token"]
            headers = {
                "Authorization": f"Bearer {token}",
                "traceparent": f"00-{TRACE}-{CALLER:016x}-01",
                "X-Request-Id": "a-proxy-s-own",
            }
            post = {"content": "Watch this"}
            url = f"{system.command_url}/api/posts"
            async with http.post(url, json=post, headers=headers) as answer:
                assert answer.headers["x-request-id"] == TRACE
                position = int(answer.headers["log-position"])
            read = {**headers, "Log-Position": str(position)}
            for _ in range(3):
                async with http.get(f"{system.query_url}/api/feed", headers=read) as answer:
                    assert answer.status == 200
        yield Watched(system, token, position)


async def scraped(system: System) -> str:
    """What all processes serve, by the file that Prometheus finds them in."""
    targets = json.loads((system.folder / "targets.json").read_text())
    texts = []
    async with aiohttp.ClientSession() as http:
        for target in targets:
            async with http.get(f"http://{target['targets'][0]}/metrics") as answer:
                assert answer.status == 200
                texts.append(await answer.text())
    return "\n".join(texts)


async def test_prometheus_finds_every_process_in_the_data_folder(watched: Watched) -> None:
    targets = json.loads((watched.system.folder / "targets.json").read_text())
    assert {one["labels"]["process"]: one["labels"]["job"] for one in targets} == {
        "supervisor": "supervisor",
        "command-api": "command-api",
        "query-api": "query-api",
        "worker": "worker",
        "commerce-worker": "worker",
    }


async def test_alerts_and_the_dashboard_name_only_metrics_that_exist(watched: Watched) -> None:
    text = await scraped(watched.system)
    there = set(re.findall(r"^(plaza_\w+)", text, re.MULTILINE))
    named: set[str] = set()
    for file in ("alerts.yml", "grafana-dashboard.json"):
        named |= set(re.findall(r"\bplaza_\w+", (MONITORING / file).read_text()))
    assert named - there - NOT_HERE == set()


async def test_metrics_are_named_by_the_conventions_and_their_labels_are_bounded(
    watched: Watched,
) -> None:
    text = await scraped(watched.system)
    types = dict(re.findall(r"^# TYPE (plaza_\w+) (\w+)$", text, re.MULTILINE))
    assert [n for n, kind in types.items() if kind == "counter" and not n.endswith("_total")] == []
    assert [n for n, kind in types.items() if kind == "gauge" and n.endswith("_total")] == []
    assert [
        n for n, kind in types.items() if kind == "histogram" and not n.endswith("_seconds")
    ] == []
    assert {n for n in types if re.search(r"_(ms|minutes|percent|kb|mb)(_|$)", n)} == set()
    # No ids, no words of clients: 13 letters of an id are in no label.
    assert re.findall(r'"[0-9a-v]{13}"', text) == []
    series = re.findall(r"^(plaza_\w+)\{", text, re.MULTILINE)
    assert max(series.count(name) for name in set(series)) < 600


def expressions(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel.get("targets", ())]


def test_each_panel_of_the_dashboard_asks_something_and_none_covers_another() -> None:
    panels = json.loads((MONITORING / "grafana-dashboard.json").read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells
        assert panel["type"] == "row" or expressions(panel), panel["title"]


async def test_freshness_and_lag_are_measured_of_what_was_posted(watched: Watched) -> None:
    text = await scraped(watched.system)
    fresh = re.search(r"^plaza_feed_freshness_seconds_count ([\d.]+)$", text, re.MULTILINE)
    assert fresh is not None
    # 144 posts and 84 reposts of the demo's world, less its replies, and ours.
    assert 100 < float(fresh[1]) <= 229
    lags = re.findall(
        r"^plaza_read_model_lag_seconds\{.*projection=\"home_timelines\"\} (.*)", text, re.MULTILINE
    )
    assert len(lags) == 8
    assert 'plaza_cache_requests_total{cache="timelines",result="miss"}' in text


async def test_top_is_one_document_and_a_picture_of_what_the_system_does(
    watched: Watched, tmp_path: Path
) -> None:
    picture = tmp_path / "top.svg"
    printed = await watched.system.plaza("top", "--json", "--every", "1", "--svg", str(picture))
    found = json.loads(printed)
    assert found["logPosition"] >= watched.position
    followers = {row["name"]: row for row in found["followers"]}
    assert {"posts", "graph", "home_timelines", "orders", "checkout", "erasure"} <= set(followers)
    assert set(followers["posts"]["partitions"]) == {str(number) for number in range(8)}
    assert "POST /api/posts" in {page["route"] for page in found["pages"]}
    assert {row["name"]: row["up"] for row in found["processes"]}["postgres"] is True
    assert found["freshness"]["p99"] > 0
    drawn = picture.read_text()
    assert drawn.startswith("<svg")
    assert "home_timelines" in drawn


async def test_a_trace_shows_when_its_event_was_applied_and_visible(watched: Watched) -> None:
    asked = f"00-{TRACE}-{CALLER:016x}-01"
    steps: dict[str, float | None] = {}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "search_posts" not in steps:
            traced = json.loads(await watched.system.plaza("trace", asked, "--json"))
            (event,) = traced["events"]
            steps = {step["what"]: step["after"] for step in event["steps"]}
    assert (event["position"], event["type"]) == (watched.position, "post.published.v1")
    assert {"tables", "home_timelines", "pages"} <= set(steps)
    assert all(after is not None and 0 < after < 60 for after in steps.values())
    assert all(one["applied"] for one in event["appliedBy"])

    again = json.loads(await watched.system.plaza("trace", str(watched.position), "--json"))
    assert [one["position"] for one in again["events"]] == [watched.position]


async def test_an_unknown_trace_is_said_to_be_unknown(watched: Watched) -> None:
    printed = await watched.system.plaza("trace", "nobody-asked-this", "--json", expected=1)
    assert "no event" in json.loads(printed)["error"]


async def test_spans_lead_from_the_caller_to_what_applied_the_event(
    watched: Watched, collector: Collector
) -> None:
    wanted = {"POST /api/posts", "append PostPublished", "apply tables", "GET /api/feed"}
    wanted |= {"apply home_timelines"}
    await until(lambda: wanted <= {span.name for span in collector.of(TRACE).values()})
    spans = collector.of(TRACE)
    by_name = {span.name: (number, span) for number, span in spans.items()}
    command, posted = by_name["POST /api/posts"]
    assert int.from_bytes(posted.parent_span_id) == CALLER
    assert int.from_bytes(by_name["GET /api/feed"][1].parent_span_id) == CALLER
    event = event_span(TRACE, watched.position)
    assert by_name["append PostPublished"][0] == event
    assert int.from_bytes(spans[event].parent_span_id) == command
    applied = [span for span in spans.values() if span.name.startswith("apply ")]
    assert {int.from_bytes(span.parent_span_id) for span in applied} == {event}
    assert all(span.end_time_unix_nano >= span.start_time_unix_nano for span in spans.values())
    services = {name: collector.services[number] for name, (number, _) in by_name.items()}
    assert services["POST /api/posts"] == services["append PostPublished"] == "plaza-command-api"
    assert services["apply tables"] == "plaza-worker"
    assert services["GET /api/feed"] == "plaza-query-api"


def blocks(page: Path) -> str:
    """The commands of a runbook, as one script."""
    found = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line for block in found for line in block.splitlines() if line.startswith("$ ")]
    return "\n".join(line[2:] for line in lines)


@pytest.fixture(scope="module")
async def shell(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment that runbooks are followed in; something has been set aside there."""
    bin_folder = tmp_path_factory.mktemp("bin")
    plaza = bin_folder / "plaza"
    plaza.write_text(f'#!/bin/sh\nexec {sys.executable} -m infra.command_line.main "$@"\n')
    plaza.chmod(0o755)
    rows = json.loads(await watched.system.plaza("config", "--json"))
    url = next(row["value"] for row in rows if row["name"] == "PLAZA_POSTGRES_URL")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO public.dead_letters (projection, build, key, partition, position, stream,"
            " tag, state, error, trace, attempts, status, version)"
            " SELECT 'posts', build, 'somebody', 0, e.notification_id, originator_id, topic, state,"
            " 'planted by a test', '', 1, 'parked', originator_version"
            " FROM log.events e, public.projection_builds b"
            " WHERE topic = 'session.started.v1' AND b.name = 'posts' AND b.status = 'live'"
            " ORDER BY 5 LIMIT 1"
        )
    paths = [str(bin_folder), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {
        **watched.system.environment,
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "100",
    }


async def test_every_command_of_every_runbook_works(
    watched: Watched, shell: dict[str, str]
) -> None:
    """What several runbooks ask for is run once; a few runbooks are followed at a time."""
    ports = {"8001": watched.system.command_port, "8002": watched.system.query_port}
    turns = asyncio.Semaphore(RUNBOOKS_AT_ONCE)
    seen: set[str] = set()
    scripts: dict[str, list[str]] = {}
    for page in RUNBOOKS:
        lines = blocks(page).splitlines()
        scripts[page.name] = [line for line in lines if line not in seen or is_assignment(line)]
        seen.update(lines)

    async def follow(name: str) -> str:
        script = "\n".join(scripts[name])
        script = re.sub(r"(?<=127\.0\.0\.1:)800[12]", lambda m: str(ports[m[0]]), script)
        async with turns, asyncio.timeout(RUNBOOK_SECONDS):
            process = await asyncio.create_subprocess_exec(
                *("bash", "-eu", "-c", script),
                env=shell,
                cwd=watched.system.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            printed, _ = await process.communicate()
        return f"{name}: {printed.decode()}" if process.returncode else ""

    assert len(RUNBOOKS) > 20
    followed = [name for name, lines in scripts.items() if not all(map(is_assignment, lines))]
    failures = await asyncio.gather(*map(follow, followed))
    assert [failure for failure in failures if failure] == []


def is_assignment(line: str) -> bool:
    return re.match(r"[A-Z]+=", line) is not None


def test_alerts_are_evaluated_on_series_that_recording_rules_make() -> None:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    made = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    used = set(re.findall(r"\bplaza:\w+:\w+", (MONITORING / "alerts.yml").read_text()))
    assert used <= made


async def test_documents_that_search_refused_count_as_set_aside(postgres_url: str) -> None:
    await migrate(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO public.projection_builds (name, build, version, status)"
            " VALUES ('posts', 1, 1, 'retired')"
        )
        for projection in ("search_posts", "posts"):
            connection.execute(
                "INSERT INTO public.dead_letters (projection, build, key, partition, position,"
                " stream, tag, state, error, trace, attempts, status, version)"
                " VALUES (%s, 1, 'a', 0, 1, 's', 't', '', 'refused', '', 1, 'parked', 1)",
                [projection],
            )
    view = await SystemView.open(postgres_url)
    try:
        assert (await view.look()).dead_letters == {"search_posts": 1}
    finally:
        await view.close()
