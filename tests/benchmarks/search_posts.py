"""How long a search of a million posts takes, ranked and filtered, beside a bare query.

The bare query is what a program of ten lines would ask: all words, twenty hits, by text alone.
"""

import uvloop

from infra.ports.search_documents import POSTS
from tests.benchmarks import search_world
from tests.benchmarks.harness import Result
from tests.benchmarks.search_world import SearchWorld

NAME = "search_posts"
MILLISECONDS_MAX = 200.0
COUNT = 1_000_000
QUESTIONS = 300


def run(rounds: int, count: int = COUNT) -> list[Result]:
    with search_world.stores() as settings:
        world = uvloop.run(search_world.made(settings, (search_world.posts_written, count)))
        return measured(world, rounds)


def measured(world: SearchWorld, rounds: int) -> list[Result]:
    client = search_world.bare(world.settings)
    questions = [world.question(words_max=3) for _ in range(QUESTIONS)]

    def bare(question: str) -> None:
        matching = {"match": {"stemmed": {"query": question, "operator": "and"}}}
        client.search(index=POSTS.alias, body={"size": 20, "query": matching})

    with search_world.service(world) as service:
        result = search_world.beside(
            NAME, questions, lambda one: service.get("/api/search", q=one), bare, rounds
        )
    return [
        result,
        search_world.at_most(f"{NAME}_p95", "ms", MILLISECONDS_MAX, [result.value]),
    ]
