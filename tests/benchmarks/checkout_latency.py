"""How long `POST /api/checkouts` takes to 202 while half as many begin as can be completed."""

import math
from statistics import median

import uvloop

from tests.benchmarks.buying_world import Shoppers, shop
from tests.benchmarks.harness import Result

NAME = "checkout_latency"
TARGET = 0.5


def run(rounds: int) -> Result:
    with shop(at_once=True) as (shoppers, _):
        found = [p99(shoppers) for _ in range(rounds)]
    value = median(found)
    return Result(
        name=NAME,
        value=value,
        unit="s (p99)",
        probe=math.nan,
        ratio=math.nan,
        target=TARGET,
        spread=(min(found), max(found)),
    )


def p99(shoppers: Shoppers) -> float:
    rate = uvloop.run(shoppers.buy())
    took = sorted(uvloop.run(shoppers.latencies(rate / 2)))
    return took[len(took) * 99 // 100]
