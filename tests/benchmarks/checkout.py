"""Completed checkouts a second over many SKUs, from the HTTP command until every page shows the
confirmation, with payments answered in the worker's own process."""

import uvloop

from tests.benchmarks.buying_world import BUYERS, shop
from tests.benchmarks.harness import Result, interleaved
from tests.benchmarks.same_writes import make_tables, three_transactions

NAME = "checkout"
TARGET = 0.3


def run(rounds: int) -> Result:
    return beside_the_same_writes(NAME, TARGET, rounds, at_once=True)


def beside_the_same_writes(
    name: str, target: float, rounds: int, *, at_once: bool, buyers: int = BUYERS
) -> Result:
    with shop(at_once=at_once, buyers=buyers) as (shoppers, url):
        make_tables(url)
        return interleaved(
            name,
            unit="checkouts/s",
            target=target,
            rounds=rounds,
            measure=lambda: uvloop.run(shoppers.buy()),
            probe=lambda: three_transactions(url),
        )
