"""Completed checkouts a second through Adyen's library, the stand-in over HTTP and its webhooks."""

import uvloop

from tests.benchmarks.buying_world import shop
from tests.benchmarks.harness import Result, interleaved
from tests.benchmarks.same_writes import make_tables, three_transactions

NAME = "checkout_provider"
TARGET = 0.1
BUYERS = 400
SKUS = 200


def run(rounds: int) -> Result:
    with shop(BUYERS, SKUS, at_once=False) as (shoppers, url):
        uvloop.run(shoppers.buy())
        make_tables(url)
        return interleaved(
            NAME,
            unit="checkouts/s",
            target=TARGET,
            rounds=rounds,
            measure=lambda: uvloop.run(shoppers.buy()),
            probe=lambda: three_transactions(url),
        )
