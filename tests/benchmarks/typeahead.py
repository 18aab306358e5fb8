"""How long it takes to complete what is typed, letter by letter, at a million members."""

from functools import partial

import uvloop

from tests.benchmarks import search_world
from tests.benchmarks.harness import Result
from tests.benchmarks.search_world import SearchWorld, milliseconds, percentile

NAME = "typeahead"
MILLISECONDS_MAX = 50.0
COUNT = 1_000_000
NAMES = 150


def run(rounds: int, count: int = COUNT) -> Result:
    with search_world.stores() as settings:
        parts = (search_world.members_written, count), (search_world.products_written, count // 20)
        return measured(uvloop.run(search_world.made(settings, *parts)), rounds)


def measured(world: SearchWorld, rounds: int) -> Result:
    typed = [
        name[:length]
        for name in world.chance.choices(world.vocabulary, k=NAMES)
        for length in range(1, len(name) + 1)
    ]
    with search_world.service(world) as service:
        for beginning in typed[: len(typed) // 4]:
            service.get("/api/typeahead", q=beginning)
        values = [
            percentile(
                [milliseconds(partial(service.get, "/api/typeahead", q=one)) for one in typed],
                0.99,
            )
            for _ in range(rounds)
        ]
    return search_world.at_most(NAME, "ms p99", MILLISECONDS_MAX, values)
