"""What `plaza top` shows of two looks at a system."""

from io import StringIO
from typing import cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from infra.adapters.system_view import SystemView
from infra.command_line.top import screen
from infra.composition.operations.top import overview
from infra.composition.operations.watching import Look, Scrape, Watcher, parsed, quantile
from infra.composition.supervision.process_metrics import Target
from infra.ports.log import LogUnavailable

COUNT = 'plaza_http_request_seconds_count{method="GET",route="/api/feed",status="200"}'
BUCKET = 'plaza_http_request_seconds_bucket{method="GET",route="/api/feed",status="200",le="%s"}'
CPU = 'plaza_child_cpu_seconds_total{child="postgres"}'


def service(pages: float, slow: float = 0.0) -> Scrape:
    text = "\n".join(
        [
            "# TYPE plaza_http_request_seconds histogram",
            f"{BUCKET % '0.1'} {pages - slow}",
            f"{BUCKET % '1.0'} {pages}",
            f"{BUCKET % '+Inf'} {pages}",
            f"{COUNT} {pages}",
            'plaza_http_request_seconds_count{method="GET",route="/metrics",status="200"} 900',
        ]
    )
    return Scrape("query-api", "query-api", parsed(f"{text}\n"))


def supervisor(cpu_seconds: float) -> Scrape:
    text = f'plaza_child_up{{child="postgres"}} 1\n{CPU} {cpu_seconds}\n'
    return Scrape("supervisor", "supervisor", parsed(text))


def test_rates_are_of_what_was_asked_between_two_looks() -> None:
    before = Look(100.0, None, [service(50)])
    found = overview(Look(104.0, None, [service(90)]), before)
    assert (found["rates"]["queries"], found["rates"]["feedPages"]) == (10.0, 10.0)
    assert found["rates"]["events"] is None


def test_a_process_that_did_not_answer_before_is_not_counted_as_all_new() -> None:
    silent = [
        Scrape("query-api", "query-api", answered=False),
        Scrape("supervisor", "supervisor", answered=False),
    ]
    now = Look(104.0, None, [service(90), supervisor(500.0)])
    found = overview(now, Look(100.0, None, silent))
    assert found["rates"]["queries"] == 0.0
    assert found["processes"][0]["cpu"] is None


def test_the_share_of_a_processor_is_of_the_time_between() -> None:
    before = Look(100.0, None, [supervisor(8.0)])
    found = overview(Look(104.0, None, [supervisor(9.0)]), before)
    assert [(row["name"], row["up"], row["cpu"]) for row in found["processes"]] == [
        ("postgres", True, 0.25)
    ]


def test_percentiles_are_of_the_window_where_there_is_one() -> None:
    first, now = Look(0.0, None, [service(1_000)]), Look(60.0, None, [service(1_100, slow=100)])
    (of_window,) = overview(now, first, first)["pages"]
    assert (of_window["requests"], of_window["p50"]) == (100, 0.55)
    (of_all,) = overview(now, first)["pages"]
    assert of_all["requests"] == 1_100
    assert of_all["p50"] < 0.1


def test_a_restarted_process_counts_from_nothing() -> None:
    first, now = Look(0.0, None, [service(1_000)]), Look(60.0, None, [service(10)])
    (page,) = overview(now, first, first)["pages"]
    assert page["requests"] == 10


@pytest.mark.parametrize(("share", "expected"), [(0.25, 0.5), (0.5, 1.0), (0.75, 1.5), (1.0, 2.0)])
def test_quantiles_are_estimated_as_prometheus_does(share: float, expected: float) -> None:
    found = quantile(share, [(1.0, 50.0), (2.0, 100.0), (float("inf"), 100.0)])
    assert found == pytest.approx(expected)


def test_of_a_histogram_without_anything_in_it_no_quantile_is_known() -> None:
    assert quantile(0.5, []) is None
    assert quantile(0.5, [(1.0, 0.0), (float("inf"), 0.0)]) is None
    # Of what is beyond the last limit no more is known than that.
    assert quantile(0.5, [(1.0, 0.0), (float("inf"), 9.0)]) == 1.0


def test_a_screen_is_drawn_of_a_system_of_which_nothing_is_known() -> None:
    nothing = Look(1.0, None, [Scrape("query-api", "query-api", answered=False)])
    assert screen(overview(nothing, Look(0.0, None, [])), height=20)


def test_search_indices_are_among_those_who_follow_the_log() -> None:
    text = """\
plaza_search_indexing_delay_seconds{index="search_posts"} 2.5
plaza_search_fill_ratio{index="search_posts"} 0.25
plaza_projection_lag_seconds{projection="search_posts",partition="3"} 2.0
plaza_projection_lag_seconds{projection="tables",partition="3"} 0.0
"""
    look = Look(4.0, None, [Scrape("worker", "worker", parsed(text))])
    found = overview(look, Look(0.0, None, []))
    (row,) = found["followers"]
    assert (row["kind"], row["name"], row["lagSeconds"]) == ("index", "search_posts", 2.5)
    assert (row["partitions"], row["filled"]) == ({"3": 2.0}, 0.25)
    shown = StringIO()
    Console(file=shown, width=100).print(screen(found, height=20))
    assert "search_posts 25%" in shown.getvalue()


class Away:
    async def look(self) -> None:
        raise LogUnavailable


async def test_a_long_answer_is_read_to_its_end() -> None:
    series = 10_000
    text = "".join(f'plaza_long_total{{n="{n}"}} 1\n' for n in range(series))

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        target = Target([f"127.0.0.1:{server.port}"], {"process": "long", "job": "long"})
        seen = await Watcher(cast(SystemView, Away()), http, [target]).look()
    assert seen.sum("plaza_long_total") == series
