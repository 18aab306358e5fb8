"""Completed checkouts a second over many SKUs, from the HTTP command to the confirmation, with
payments answered in the worker's own process."""

import uvloop

from tests.benchmarks.buying_world import shop
from tests.benchmarks.harness import Result, interleaved
from tests.benchmarks.same_writes import make_tables, three_transactions

NAME = "checkout"
TARGET = 0.3
BUYERS = 600
SKUS = 200


def run(rounds: int) -> Result:
    with shop(BUYERS, SKUS, at_once=True) as (shoppers, url):
        uvloop.run(shoppers.buy())  # Warms up: each session's first request asks the log about it.
        make_tables(url)
        return interleaved(
            NAME,
            unit="checkouts/s",
            target=TARGET,
            rounds=rounds,
            measure=lambda: uvloop.run(shoppers.buy()),
            probe=lambda: three_transactions(url),
        )
