"""Completed checkouts a second through Adyen's library, the stand-in over HTTP and its webhooks."""

from tests.benchmarks.checkout import beside_the_same_writes
from tests.benchmarks.harness import Result

NAME = "checkout_provider"
TARGET = 0.1
BUYERS = 400


def run(rounds: int) -> Result:
    return beside_the_same_writes(NAME, TARGET, rounds, at_once=False, buyers=BUYERS)
