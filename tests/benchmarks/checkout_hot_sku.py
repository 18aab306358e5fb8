"""Completed checkouts a second of one SKU that everybody wants, beside those of many SKUs."""

from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from tests.benchmarks.buying_world import Shoppers, shop
from tests.benchmarks.harness import Result, interleaved

NAME = "checkout_hot_sku"
TARGET = 0.8


def run(rounds: int) -> Result:
    with shop(at_once=True) as (shoppers, _):
        return interleaved(
            NAME,
            unit="checkouts/s",
            target=TARGET,
            rounds=rounds,
            measure=lambda: hot(shoppers),
            probe=lambda: uvloop.run(shoppers.buy()),
        )


def hot(shoppers: Shoppers) -> float:
    with only_one(shoppers):
        return uvloop.run(shoppers.buy())


@contextmanager
def only_one(shoppers: Shoppers) -> Iterator[None]:
    every, shoppers.products = shoppers.products, shoppers.products[:1]
    try:
        yield
    finally:
        shoppers.products = every
