"""How well products are found, in numbers: judged questions about a real catalogue.

`tests/relevance` holds judgements alone: for each question, products by their number in the
catalogue of eShop (github.com/dotnet/eShop, `catalog.json`, MIT), from 3 (what was meant) to 1
(somewhat like it). The catalogue itself is read where it lies beside the project.
"""

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import msgspec
import pytest
from opensearchpy import AsyncOpenSearch

from domain.shared.identifiers import id_number, make_id
from infra.adapters.search.opensearch_search import OpenSearchReads
from infra.adapters.search.search_client import search_client
from infra.adapters.search.search_guard import Guard
from infra.adapters.search.text_analysis import analysed, prefix_words, tokens
from infra.ports.search_documents import PRODUCTS, ProductDocument
from infra.ports.search_reads import PostRanking, ProductFilters
from query_api.searching.search_query import parse
from tests.finding import PATIENT
from tests.searching import empty

ROOT = Path(__file__).parents[2]
CATALOGUE = ROOT.parent / "shared" / "data" / "products_outdoor.json"
JUDGED = ROOT / "tests" / "relevance" / "outdoor_judgements.json"
PLAIN = "plain-products"
DEPTH = 10
NDCG_MIN = 0.9
"""What was reached is more; below this something was broken."""

MOST_NDCG_MIN = 0.6
WORD_MIN = 4

Judgements = Mapping[str, Mapping[str, Sequence[int]]]
Ask = Callable[[str], Awaitable[Sequence[int]]]

if not CATALOGUE.exists():
    pytest.skip(f"there is no {CATALOGUE.name} beside the project", allow_module_level=True)


def gain(grades: Sequence[int]) -> float:
    parts = ((2**grade - 1) / math.log2(at + 2) for at, grade in enumerate(grades[:DEPTH]))
    return float(sum(parts))


def ndcg(found: Sequence[int], judged: Mapping[str, Sequence[int]]) -> float:
    grades = {number: int(grade) for grade, numbers in judged.items() for number in numbers}
    ideal = gain(sorted(grades.values(), reverse=True))
    return gain([grades.get(number, 0) for number in found]) / ideal


async def measured(judgements: Judgements, ask: Ask) -> dict[str, float]:
    return {text: ndcg(await ask(text), judged) for text, judged in judgements.items()}


def product_id(number: int) -> str:
    return make_id(1_700_000_000_000 + number, number)


def document(listed: Mapping[str, Any]) -> ProductDocument:
    """As the index of products holds it."""
    title, description, shop = listed["Name"], listed["Description"], listed["Brand"]
    language, _, stemmed = analysed(f"{title}\n{description}")
    return ProductDocument(
        product_id=product_id(listed["Id"]),
        shop_id=make_id(1, len(shop)),
        seller_id=make_id(2, len(shop)),
        seller=shop,
        shop_words=" ".join(tokens(shop)),
        language=language,
        title=" ".join(tokens(title)),
        description=" ".join(tokens(description)),
        stemmed=" ".join(stemmed),
        words=list(prefix_words(title)),
        category=listed["Type"],
        price=round(listed["Price"] * 100),
        currency="USD",
        available=True,
        attributes=[],
        created_at=1_700_000_000_000 + listed["Id"],
        position=listed["Id"],
    )


@pytest.fixture
async def client(search_url: str) -> AsyncIterator[AsyncOpenSearch]:
    client = search_client(search_url)
    await empty(client)
    await client.indices.delete(index=PLAIN, ignore_unavailable=True)
    await client.indices.put_index_template(name=PRODUCTS.alias, body=PRODUCTS.template())
    await client.indices.create(
        index=PRODUCTS.build_name(1), body={"aliases": {PRODUCTS.alias: {}}}
    )
    await client.indices.create(index=PLAIN, body={"settings": {"number_of_shards": 1}})
    lines: list[Any] = []
    for listed in msgspec.json.decode(CATALOGUE.read_bytes()):
        ours = document(listed)
        lines += [{"index": {"_index": PRODUCTS.build_name(1), "_id": ours.id}}, ours]
        text = f"{listed['Brand']} {listed['Name']} {listed['Description']}"
        lines += [{"index": {"_index": PLAIN, "_id": str(listed["Id"])}}, {"text": text}]
    body = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    answer = await client.bulk(body=body, refresh=True)
    assert not answer["errors"]
    yield client
    await empty(client)
    await client.indices.delete(index=PLAIN)
    await client.close()


async def test_the_default_order_beats_a_plain_match(client: AsyncOpenSearch) -> None:
    judgements: Judgements = msgspec.json.decode(JUDGED.read_bytes())
    reads = OpenSearchReads(client, Guard(PATIENT), PostRanking())
    numbers = {id_number(product_id(number)): number for number in range(1, 200)}

    async def ours(text: str) -> Sequence[int]:
        query = parse(text)
        found = await reads.products(query, ProductFilters(), "relevance", DEPTH)
        if not found.places:
            guessed = replace(query, misspelt=tuple(await reads.unknown("products", query)))
            found = await reads.products(guessed, ProductFilters(), "relevance", DEPTH)
        return [numbers[place.product_id] for place in found.places]

    async def plain(text: str) -> Sequence[int]:
        body = {"size": DEPTH, "query": {"match": {"text": text}}}
        found = await client.search(index=PLAIN, body=body)
        return [int(hit["_id"]) for hit in found["hits"]["hits"]]

    by_ours, by_plain = await measured(judgements, ours), await measured(judgements, plain)
    for text in judgements:
        print(f"{text:<22} {by_ours[text]:.3f} {by_plain[text]:.3f}")
    reached, beside = mean(by_ours.values()), mean(by_plain.values())
    print(f"NDCG@{DEPTH} {reached:.3f}; plain match {beside:.3f}")
    assert reached > beside
    assert reached >= NDCG_MIN


async def test_one_word_too_many_need_not_leave_the_page_empty(client: AsyncOpenSearch) -> None:
    """Each judged question with a word of the catalogue that nothing has besides all of its own."""
    judgements: Judgements = msgspec.json.decode(JUDGED.read_bytes())
    reads = OpenSearchReads(client, Guard(PATIENT), PostRanking())
    numbers = {id_number(product_id(number)): number for number in range(1, 200)}
    chance = random.Random(1)
    listed = msgspec.json.decode(CATALOGUE.read_bytes())
    said = sorted({word for one in listed for word in tokens(one["Name"]) if len(word) >= WORD_MIN})
    reached = []
    for text, judged in judgements.items():
        query = parse(f"{text} {chance.choice(said)}")
        if not (await reads.products(query, ProductFilters(), "relevance", DEPTH)).places:
            most = replace(query, most=True)
            found = await reads.products(most, ProductFilters(), "relevance", DEPTH)
            reached.append(ndcg([numbers[place.product_id] for place in found.places], judged))
    print(f"NDCG@{DEPTH} {mean(reached):.3f} for {len(reached)} questions that find nothing else")
    assert mean(reached) >= MOST_NDCG_MIN
