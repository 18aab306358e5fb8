"""How long a search of 100,000 products with all facets takes, beside the bare query with the same.

Half of the questions have a filter, which each facet but its own has to hold.
"""

from typing import Any

import uvloop

from infra.ports.search_documents import PRODUCTS
from tests.benchmarks import search_world
from tests.benchmarks.harness import Result
from tests.benchmarks.search_world import SearchWorld

NAME = "search_facets"
COUNT = 100_000
QUESTIONS = 300
RANGES = [{"from": 0, "to": 1_000}, {"from": 1_000, "to": 5_000}, {"from": 5_000}]
FACETS = {
    "category": {"terms": {"field": "category", "size": 100}},
    "price": {"range": {"field": "price", "ranges": RANGES}},
    "available": {"terms": {"field": "available"}},
    "seller": {"terms": {"field": "shopId", "size": 50}},
    "attributes": {"terms": {"field": "attributes", "size": 1_000}},
}

Question = dict[str, Any]


def run(rounds: int, count: int = COUNT) -> Result:
    with search_world.stores() as settings:
        world = uvloop.run(search_world.made(settings, (search_world.products_written, count)))
        return measured(world, rounds)


def measured(world: SearchWorld, rounds: int) -> Result:
    client = search_world.bare(world.settings)
    questions = [asked(world, number) for number in range(QUESTIONS)]

    def bare(question: Question) -> None:
        matching = {"match": {"stemmed": {"query": question["q"], "operator": "and"}}}
        filters = [{"term": {"category": question["category"]}}] if "category" in question else []
        query = {"bool": {"must": matching, "filter": filters}}
        client.search(index=PRODUCTS.alias, body={"size": 20, "query": query, "aggs": FACETS})

    with search_world.service(world) as service:
        return search_world.beside(
            NAME,
            questions,
            lambda one: service.get("/api/search", type="products", **one),
            bare,
            rounds,
        )


def asked(world: SearchWorld, number: int) -> Question:
    question = {"q": world.question(words_max=2)}
    return question | ({"category": f"Category {number % 8 + 1}"} if number % 2 else {})
