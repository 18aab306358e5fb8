"""Every alert fires on what it is for, is silent otherwise, and has a runbook: with promtool."""

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "infra" / "monitoring"
ALERTS = MONITORING / "alerts.yml"
RUNBOOKS = ROOT / "docs" / "runbooks"
REQUESTS = 'plaza_http_request_seconds_count{job="query-api",route="%s",status="%s"}'
FEED = 'plaza_http_request_seconds_bucket{route="/api/feed",le="%s"}'
SERVICES = ('up{job="command-api"}', 'up{job="query-api"}', 'up{job="worker"}')


class Case(NamedTuple):
    """Series by name (each `start+step x times`, as promtool writes them), and what is expected.

    `labels` and `summary` are those of the one alert that then fires; without a summary none does.
    """

    alert: str
    series: dict[str, str]
    summary: str = ""
    labels: dict[str, str] = {}  # noqa: RUF012
    minutes: int = 30


def counted(rate: float) -> str:
    """A counter that grows by so much a minute."""
    return f"0+{rate}x60"


def constant(value: float) -> str:
    return f"{value}x60"


def histogram(name: str, limits: dict[str, float]) -> dict[str, str]:
    """A histogram whose buckets, each with those below it, grow by so much a minute."""
    return {name % limit: counted(rate) for limit, rate in limits.items()}


CASES = [
    Case(
        "ServiceDown",
        {'up{job="command-api"}': constant(1), 'up{job="query-api"}': "1x20 0x40"},
        "query-api does not answer",
        {"job": "query-api"},
    ),
    Case(
        "ServiceDown",
        {'up{job="command-api"}': constant(1)},
        "query-api does not answer",
        {"job": "query-api"},
    ),
    Case("ServiceDown", dict.fromkeys(SERVICES, constant(1))),
    Case(
        "WorkerDown",
        {'up{job="worker",process="commerce-worker",instance="a:1"}': "1x20 0x40"},
        "a worker does not answer: commerce-worker a:1",
        {"job": "worker", "process": "commerce-worker", "instance": "a:1"},
    ),
    Case("WorkerDown", {'up{job="worker"}': constant(1)}),
    Case(
        "RelayDown",
        {
            'plaza_relay_active{instance="a"}': constant(0),
            'plaza_relay_active{instance="b"}': "0x9",
        },
        "no relay is active: nothing new reaches Kafka",
    ),
    Case(
        "RelayDown",
        {
            'plaza_relay_active{instance="a"}': constant(0),
            'plaza_relay_active{instance="b"}': "1x60",
        },
    ),
    Case("RelayDown", {'up{job="worker"}': constant(1)}),
    Case(
        "ProcessRestarting",
        {'plaza_child_starts_total{child="valkey"}': counted(1)},
        "valkey keeps ending and was started again",
        {"child": "valkey"},
    ),
    Case("ProcessRestarting", {'plaza_child_starts_total{child="valkey"}': "1x20 2x40"}),
    Case(
        "SystemViewDown",
        {"plaza_system_view_up": constant(0)},
        "no query service can look at the log: lags, letters and checkouts are unknown",
    ),
    Case("SystemViewDown", {"plaza_system_view_up": constant(1)}),
    Case(
        "FeedSlow",
        histogram(FEED, {"0.3": 900, "0.75": 1000, "+Inf": 1000}),
        "of a hundred feed pages one takes longer than 705ms",
    ),
    Case("FeedSlow", histogram(FEED, {"0.3": 995, "0.75": 1000, "+Inf": 1000})),
    Case(
        "RequestsFailing",
        {
            REQUESTS % ("/api/feed", "200"): counted(980),
            REQUESTS % ("/api/feed", "503"): counted(20),
        },
        "query-api fails 2% of its requests",
        {"job": "query-api"},
    ),
    Case(
        "RequestsFailing",
        {
            REQUESTS % ("/api/feed", "200"): counted(1000),
            REQUESTS % ("/api/feed", "404"): counted(500),
            REQUESTS % ("/health/ready", "503"): counted(500),
        },
    ),
    Case(
        "CacheHitRateLow",
        {
            'plaza_cache_requests_total{cache="timelines",result="hit"}': counted(850),
            'plaza_cache_requests_total{cache="timelines",result="miss"}': counted(150),
            'plaza_cache_requests_total{cache="items",result="hit"}': counted(990),
            'plaza_cache_requests_total{cache="items",result="miss"}': counted(10),
        },
        "the cache of timelines answers 85% only",
        {"cache": "timelines"},
    ),
    # After a start caches are empty, and nobody is woken for a handful of pages.
    Case(
        "CacheHitRateLow",
        {
            'plaza_cache_requests_total{cache="timelines",result="hit"}': counted(1),
            'plaza_cache_requests_total{cache="timelines",result="miss"}': counted(9),
        },
    ),
    Case(
        "PagesDegraded",
        {
            'plaza_feed_pages_total{source="pushed"}': counted(0),
            'plaza_feed_pages_total{source="degraded"}': counted(100),
        },
        "100% of the feed pages come from the fallback path",
    ),
    Case(
        "PagesDegraded",
        {
            'plaza_feed_pages_total{source="pushed"}': counted(999),
            'plaza_feed_pages_total{source="degraded"}': counted(1),
        },
    ),
    Case(
        "FeedStale",
        histogram('plaza_feed_freshness_seconds_bucket{le="%s"}', {"5": 0, "15": 100, "+Inf": 100}),
        "posts take 14.9s to reach followers' feeds",
    ),
    Case(
        "FeedStale",
        histogram(
            'plaza_feed_freshness_seconds_bucket{le="%s"}', {"1": 100, "5": 100, "+Inf": 100}
        ),
    ),
    Case(
        "FanoutQueueLong",
        {
            "plaza_fanout_queue_deliveries": constant(400_000),
            'plaza_read_model_waiting_events{projection="home_timelines"}': constant(7_000),
            "plaza_fanout_deliveries_total": counted(20_000),
            "plaza_fanout_entries_total": counted(200),
        },
        "1.1M deliveries wait to be put into feeds",
    ),
    Case(
        "FanoutQueueLong",
        {
            "plaza_fanout_queue_deliveries": constant(400_000),
            'plaza_read_model_waiting_events{projection="home_timelines"}': constant(5_000),
            "plaza_fanout_deliveries_total": counted(20_000),
            "plaza_fanout_entries_total": counted(200),
        },
    ),
    Case(
        "SearchIndexingDelayed",
        histogram(
            'plaza_search_written_seconds_bucket{index="search_posts",le="%s"}',
            {"15": 0, "60": 100, "+Inf": 100},
        ),
        "what is written can be searched for only after 59.55s",
    ),
    Case(
        "SearchIndexingDelayed",
        {'plaza_search_indexing_delay_seconds{index="posts"}': constant(31)},
        "what is written can be searched for only after 31s",
    ),
    Case(
        "SearchIndexingDelayed",
        histogram(
            'plaza_search_written_seconds_bucket{index="search_posts",le="%s"}',
            {"2": 100, "15": 100, "+Inf": 100},
        ),
    ),
    Case(
        "ReadModelLagging",
        {
            'plaza_read_model_lag_seconds{projection="posts",partition="3",instance="a"}': "0+5x60",
            'plaza_read_model_lag_seconds{projection="posts",partition="3",instance="b"}': "0+5x60",
            'plaza_read_model_lag_seconds{projection="posts",partition="4",instance="a"}': "0x60",
        },
        "posts is 2m 30s behind in partition 3",
        {"projection": "posts", "partition": "3"},
    ),
    Case(
        "ReadModelLagging",
        {'plaza_read_model_lag_seconds{projection="posts",partition="3"}': constant(2)},
    ),
    Case(
        "ProcessLagging",
        {'plaza_process_lag_seconds{process="checkout",partition="9"}': constant(45)},
        "checkout has not reacted for 45s in partition 9",
        {"process": "checkout", "partition": "9"},
    ),
    Case(
        "ProcessLagging",
        {'plaza_process_lag_seconds{process="checkout",partition="9"}': constant(1)},
    ),
    Case(
        "RelayBehind",
        {"plaza_relay_waiting_positions": constant(20_000)},
        "the relay is 20k positions behind the log",
    ),
    Case("RelayBehind", {"plaza_relay_waiting_positions": constant(500)}),
    Case(
        "DeadLetters",
        {
            'plaza_dead_letters{projection="posts"}': constant(3),
            'plaza_dead_letters{projection="graph"}': constant(0),
        },
        "posts has set 3 events aside",
        {"projection": "posts"},
    ),
    Case("DeadLetters", {'plaza_dead_letters{projection="posts"}': constant(0)}),
    Case(
        "DriftFound",
        {'plaza_audit_drifting{projection="availability"}': "0x29 1x30"},
        "availability shows 1 documents that the log does not say",
        {"projection": "availability"},
    ),
    Case("DriftFound", {'plaza_audit_drifting{projection="availability"}': constant(0)}),
    Case(
        "AppendSlow",
        histogram('plaza_append_seconds_bucket{le="%s"}', {"0.2": 0, "0.5": 100, "+Inf": 100}),
        "of a hundred commands one waits 497ms until it is durable",
    ),
    Case(
        "AppendSlow",
        histogram('plaza_append_seconds_bucket{le="%s"}', {"0.1": 100, "0.5": 100, "+Inf": 100}),
    ),
    Case(
        "CheckoutsFailing",
        {
            'plaza_checkouts_ended_total{outcome="confirmed",reason=""}': counted(8),
            'plaza_checkouts_ended_total{outcome="rejected",reason="capture_failed"}': counted(2),
        },
        "only 80% of the checkouts end well for all we can do",
    ),
    # Refused cards and sold-out shelves are no failures of ours.
    Case(
        "CheckoutsFailing",
        {
            'plaza_checkouts_ended_total{outcome="confirmed",reason=""}': counted(5),
            'plaza_checkouts_ended_total{outcome="rejected",reason="payment_refused"}': counted(3),
            'plaza_checkouts_ended_total{outcome="rejected",reason="insufficient_stock"}': (
                counted(2)
            ),
        },
    ),
    Case(
        "CheckoutsStuck",
        {"plaza_checkouts_open_oldest_seconds": "0+60x90"},
        "a checkout has been open for 1h 0m 0s",
        minutes=60,
    ),
    Case("CheckoutsStuck", {"plaza_checkouts_open_oldest_seconds": constant(700)}),
    Case(
        "CheckoutProblems",
        {"plaza_checkout_problems": constant(2)},
        "2 checkouts wait for an operator's decision",
    ),
    Case("CheckoutProblems", {"plaza_checkout_problems": constant(0)}),
    Case(
        "DatabaseBusy",
        {
            'plaza_child_cpu_seconds_total{child="postgres"}': counted(90),
            "plaza_processors": constant(2),
        },
        "PostgreSQL takes 75% of the processors",
    ),
    Case(
        "DatabaseBusy",
        {
            'plaza_child_cpu_seconds_total{child="postgres"}': counted(60),
            "plaza_processors": constant(2),
        },
    ),
    Case(
        "DatabaseConnectionsShort",
        {
            "plaza_database_connections": constant(95),
            "plaza_database_connections_max": constant(100),
        },
        "95% of PostgreSQL's connections are taken",
    ),
    Case(
        "DatabaseConnectionsShort",
        {
            "plaza_database_connections": constant(25),
            "plaza_database_connections_max": constant(100),
        },
    ),
    Case(
        "DiskFilling",
        {"plaza_disk_free_bytes": constant(4e9), "plaza_disk_size_bytes": constant(1e11)},
        "the disk of the data folder is full, or will be within a day",
    ),
    # A hundred megabytes a minute: there is room, but not until tomorrow.
    Case(
        "DiskFilling",
        {"plaza_disk_free_bytes": "1e11-1e8x60", "plaza_disk_size_bytes": constant(2e11)},
        "the disk of the data folder is full, or will be within a day",
    ),
    Case(
        "DiskFilling",
        {"plaza_disk_free_bytes": constant(5e10), "plaza_disk_size_bytes": constant(1e11)},
    ),
]


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        missing = "there is no promtool here: it comes with Debian's package `prometheus`"
        if os.environ.get("PLAZA_REQUIRE_FULL") == "1":
            pytest.fail(f"PLAZA_REQUIRE_FULL=1, but {missing}")
        pytest.skip(missing)
    return found


@cache
def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def together(cases: list[Case]) -> list[list[Case]]:
    """The cases in few groups, none of which has one metric twice: each group costs a database."""
    groups: list[tuple[set[str], list[Case]]] = []
    for case in cases:
        metrics = {re.split(r"_bucket|_count|\{", name)[0] for name in case.series}
        metrics.add(case.alert)
        for taken, group in groups:
            if taken.isdisjoint(metrics) and case.minutes == group[0].minutes:
                taken.update(metrics)
                group.append(case)
                break
        else:
            groups.append((metrics, [case]))
    return [group for _, group in groups]


def as_unit_test(cases: list[Case]) -> dict[str, Any]:
    series = {name: values for case in cases for name, values in case.series.items()}
    return {
        "interval": "1m",
        "input_series": [{"series": n, "values": v} for n, v in series.items()],
        "alert_rule_test": [expectation(case) for case in cases],
    }


def expectation(case: Case) -> dict[str, Any]:
    rule = rules()[case.alert]
    expected = {
        "exp_labels": {**rule["labels"], **case.labels},
        "exp_annotations": {**rule["annotations"], "summary": case.summary},
    }
    return {
        "eval_time": f"{case.minutes}m",
        "alertname": case.alert,
        "exp_alerts": [expected] if case.summary else [],
    }


def test_each_alert_fires_on_what_it_is_for_and_is_silent_otherwise(
    promtool: str, tmp_path: Path
) -> None:
    document = {
        "rule_files": [str(ALERTS)],
        "tests": [as_unit_test(group) for group in together(CASES)],
    }
    (tmp_path / "tests.yml").write_text(json.dumps(document))
    ran = subprocess.run(
        [promtool, "test", "rules", tmp_path / "tests.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_each_alert_is_tested_both_ways() -> None:
    assert {case.alert for case in CASES if case.summary} == set(rules())
    assert {case.alert for case in CASES if not case.summary} == set(rules())


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus-embedded.yml"])
def test_prometheus_accepts_the_configuration(promtool: str, name: str) -> None:
    ran = subprocess.run(
        [promtool, "check", "config", MONITORING / name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_each_alert_says_how_urgent_it_is_and_has_a_runbook() -> None:
    for name, rule in rules().items():
        assert rule["labels"]["severity"] in {"page", "ticket"}, name
        assert (ROOT / rule["annotations"]["runbook"]).is_file(), name


def test_each_runbook_is_of_an_alert_and_in_the_index() -> None:
    named = {Path(rule["annotations"]["runbook"]).stem for rule in rules().values()}
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == named
    index = (RUNBOOKS / "README.md").read_text()
    assert [name for name in sorted(rules()) if f"| {name} |" not in index] == []
