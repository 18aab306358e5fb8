"""What `plaza top` shows, computed from looks at the system: a document of plain numbers."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from infra.composition.operations.watching import Labels, Look, Scrape, quantile
from infra.formats.event_shapes import camel
from infra.ports.system_state import SystemState

PAGES_MAX = 12
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
HEALTH = ("/health/live", "/health/ready", "/metrics", "unmatched")
REQUESTS = "plaza_http_request_seconds"
FRESHNESS = "plaza_feed_freshness_seconds_bucket"


def overview(now: Look, before: Look, first: Look | None = None) -> dict[str, Any]:
    """The state at `now`; rates are since `before`, and percentiles of what came since `first`, or
    since the processes started where there is no such."""
    return {
        "at": datetime.fromtimestamp(now.at, UTC).isoformat(),
        "logPosition": None if now.state is None else now.state.head,
        "rates": rates(now, before),
        "followers": followers(now),
        "freshness": percentiles(of_all(now, first, FRESHNESS)),
        "pages": pages(now, first),
        "deadLetters": {} if now.state is None else dict(now.state.dead_letters),
        "checkouts": checkouts(now),
        "processes": processes(now, before),
    }


def rates(now: Look, before: Look) -> dict[str, float | None]:
    """What happens a second, in the processes that answered both times."""
    appended = None
    if now.state is not None and before.state is not None:
        appended = round((now.state.head - before.state.head) / (now.at - before.at), 1)
    count = f"{REQUESTS}_count"
    return {
        "events": appended,
        "commands": rate(now, before, lambda one: asked(one, "command-api")),
        "queries": rate(now, before, lambda one: asked(one, "query-api")),
        "feedPages": rate(now, before, lambda one: one.sum(count, route="/api/feed")),
        "deliveries": rate(now, before, lambda one: one.sum("plaza_fanout_deliveries_total")),
        "refusals": rate(now, before, lambda one: one.sum("plaza_http_refused_total")),
    }


def rate(now: Look, before: Look, counted: Callable[[Scrape], float]) -> float:
    """How much what is counted has grown a second; a process that began anew counts as none."""
    earlier = {scrape.process: scrape for scrape in before.scrapes if scrape.answered}
    grown = sum(
        max(0.0, counted(scrape) - counted(earlier[scrape.process]))
        for scrape in now.scrapes
        if scrape.answered and scrape.process in earlier
    )
    return round(grown / (now.at - before.at), 1)


def asked(scrape: Scrape, job: str) -> float:
    """Requests to a service so far, those for its health left out."""
    if scrape.job != job:
        return 0.0
    counts = scrape.of(f"{REQUESTS}_count").items()
    return sum(value for labels, value in counts if dict(labels)["route"] not in HEALTH)


def followers(now: Look) -> list[dict[str, Any]]:
    """Who follows the log, and how many seconds each partition is behind; the latest ones first."""
    rows = [*indices(now), *([] if now.state is None else checkpointed(now.state))]
    return sorted(rows, key=lambda row: (-row["lagSeconds"], row["kind"], row["name"]))


def checkpointed(state: SystemState) -> list[dict[str, Any]]:
    """Those whose checkpoints say how far they are."""
    partitions: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for lag in state.lags:
        partitions[lag.kind, lag.name][str(lag.partition)] = round(lag.seconds, 3)
    return [
        {
            "kind": kind,
            "name": name,
            "lagSeconds": max(of_it.values(), default=0.0),
            "waiting": state.waiting.get((kind, name), 0),
            "waitingIsExact": (kind, name) not in state.at_most,
            "partitions": of_it,
            "parked": state.dead_letters.get(name, 0),
        }
        for (kind, name), of_it in partitions.items()
    ]


def indices(now: Look) -> list[dict[str, Any]]:
    """Search indices, as the workers that keep them tell; how much waits they do not."""
    delays: dict[str, float] = defaultdict(float)
    filled: dict[str, float] = defaultdict(lambda: 1.0)
    partitions: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for scrape in now.scrapes:
        for labels, delay in scrape.of("plaza_search_indexing_delay_seconds").items():
            name = dict(labels)["index"]
            delays[name] = max(delays[name], round(delay, 3))
        for labels, ratio in scrape.of("plaza_search_fill_ratio").items():
            name = dict(labels)["index"]
            filled[name] = min(filled[name], ratio)
        for labels, lag in scrape.of("plaza_projection_lag_seconds").items():
            named = dict(labels)
            kept = partitions[named["projection"]]
            kept[named["partition"]] = max(kept[named["partition"]], round(lag, 3))
    letters = {} if now.state is None else now.state.dead_letters
    return [
        {
            "kind": "index",
            "name": name,
            "lagSeconds": delay,
            "waiting": None,
            "waitingIsExact": True,
            "partitions": dict(partitions[name]),
            "parked": letters.get(name, 0),
            "filled": filled[name],
        }
        for name, delay in delays.items()
    ]


def pages(now: Look, first: Look | None) -> list[dict[str, Any]]:
    """The slowest routes by their 99th percentile."""
    before = {scrape.process: scrape for scrape in first.scrapes} if first else {}
    rows: list[dict[str, Any]] = []
    for scrape in now.scrapes:
        routes: dict[tuple[str, str], dict[float, float]] = defaultdict(lambda: defaultdict(float))
        earlier = before.get(scrape.process)
        known = earlier.of(f"{REQUESTS}_bucket") if earlier else {}
        for labels, value in scrape.of(f"{REQUESTS}_bucket").items():
            named = dict(labels)
            if named["route"] not in HEALTH:
                route = routes[named["method"], named["route"]]
                # A process that was started anew counts from nothing.
                seen = known.get(labels, 0.0)
                route[float(named["le"])] += value - seen if value >= seen else value
        for (method, path), buckets in routes.items():
            count = buckets[float("inf")]
            if count:
                rows.append(
                    {
                        "process": scrape.process,
                        "route": f"{method} {path}",
                        "requests": int(count),
                        **percentiles(buckets),
                    }
                )
    return sorted(rows, key=lambda row: -(row["p99"] or 0.0))[:PAGES_MAX]


def of_all(now: Look, first: Look | None, bucket: str) -> Mapping[float, float]:
    """The buckets of a histogram without labels, of all processes together."""
    buckets: dict[float, float] = defaultdict(float)
    for sign, look in ((1, now), (-1, first)):
        for scrape in look.scrapes if look else ():
            for labels, value in scrape.of(bucket).items():
                buckets[float(dict(labels)["le"])] += sign * value
    return buckets


def percentiles(buckets: Mapping[float, float]) -> dict[str, float | None]:
    found = {name: quantile(share, buckets.items()) for name, share in SHARES.items()}
    return {name: None if one is None else round(one, 4) for name, one in found.items()}


def checkouts(now: Look) -> dict[str, Any]:
    ended: dict[str, int] = defaultdict(int)
    for scrape in now.scrapes:
        for labels, value in scrape.of("plaza_checkouts_ended_total").items():
            named = dict(labels)
            ended[" ".join(filter(None, (named["outcome"], named["reason"])))] += int(value)
    state = now.state
    return {
        "open": {}
        if state is None
        else {camel(k): n for k, n in state.checkouts.by_status.items()},
        "oldestSeconds": None if state is None else round(state.checkouts.oldest_seconds, 1),
        "problems": None if state is None else state.checkouts.problems,
        "ended": dict(ended),
    }


def processes(now: Look, before: Look) -> list[dict[str, Any]]:
    """What runs, by the supervisor's word where there is one, and else by whether it answered."""
    scrapes = {scrape.process: scrape for scrape in now.scrapes}
    supervisor = scrapes.get("supervisor")
    if supervisor is None or not supervisor.answered:
        return [
            {
                "name": name,
                "up": scrape.answered,
                "cpu": None,
                "memoryBytes": None,
                "starts": None,
            }
            for name, scrape in scrapes.items()
        ]
    earlier = next((one for one in before.scrapes if one.process == "supervisor"), None)
    seconds = now.at - before.at

    def cpu(child: str) -> float | None:
        if earlier is None or not earlier.answered:
            return None
        name = "plaza_child_cpu_seconds_total"
        used = supervisor.sum(name, child=child) - earlier.sum(name, child=child)
        return round(max(0.0, used) / seconds, 3)

    return [
        {
            "name": child,
            "up": bool(up),
            "cpu": cpu(child),
            "memoryBytes": int(supervisor.sum("plaza_child_memory_bytes", child=child)),
            "starts": int(supervisor.sum("plaza_child_starts_total", child=child)),
        }
        for child, up in by_label(supervisor.of("plaza_child_up"), "child").items()
    ]


def by_label(series: Mapping[Labels, float], label: str) -> dict[str, float]:
    return {dict(labels)[label]: value for labels, value in series.items()}
