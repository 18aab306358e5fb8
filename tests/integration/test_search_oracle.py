"""What is found is what a plain look at everything that was written finds.

The corpus and the questions come from a seed; the oracle knows texts, and no index.
"""

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from domain.shared.text import folded, hashtags, mentions, words
from tests.finding import Finding, finding

POSTS, PRODUCTS, MEMBERS, QUESTIONS = 120, 70, 40, 12

# Words that are their own stems in all four languages, so that a plain look finds the same.
PLAIN = ["alp", "zug", "brot", "kiwi", "sol", "luz", "mar", "vin", "pont", "velo", "fuchs", "bo"]
TAGS = ["Alp", "Straße", "café", "東京", "हिन्दी", "q4"]
NAMES = ["Ann", "Anna", "Andy", "Zoë", "Éloi", "Ben", "Ø-Lars", "Łukasz", "Kim Ann", "kim"]
CATEGORIES, SHOPS = ["Bags", "Boots", "Ropes & Co"], ["Alpine", "Bergsport", "Alpine"]
COLOURS, SIZES = ["red", "blue", "=x"], [1, 2.5, True, "L"]


@dataclass
class Corpus:
    finding: Finding
    chance: random.Random
    posts: dict[str, str] = field(default_factory=dict)
    products: dict[str, dict[str, Any]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    async def write(self) -> None:
        square, chance = self.finding.square, self.chance
        for number in range(MEMBERS):
            member = await square.member(f"{chance.choice(['ann', 'kim', 'zed'])}_{number}")
            name = chance.choice(NAMES)
            await square.rename(member, name)
            self.names[member] = name
        authors = list(self.names)
        for _ in range(POSTS):
            text = " ".join(
                [
                    *chance.choices(PLAIN, k=chance.randint(1, 5)),
                    *(f"#{tag}" for tag in chance.choices(TAGS, k=chance.randint(0, 2))),
                    *(["@ann_0"] if chance.random() < 0.2 else []),
                ]
            )
            author = chance.choice(authors)
            self.posts[await square.post(author, text)] = text
        for post in chance.sample(list(self.posts), 20):
            await square.delete(post)
            del self.posts[post]
        shops = [(await self.finding.shop(name), name) for name in SHOPS]
        for _ in range(PRODUCTS):
            shop, name = chance.choice(shops)
            asked: dict[str, Any] = {
                "description": " ".join(chance.choices(PLAIN, k=3)),
                "category": chance.choice(CATEGORIES),
                "price": chance.choice(
                    [999, 1_000, 2_499, 2_500, 60_000, chance.randint(1, 9_999)]
                ),
                "units": chance.choice([0, 0, 1, 7]),
            }
            attributes: dict[str, Any] = {
                **({"colour": chance.choice(COLOURS)} if chance.random() < 0.8 else {}),
                **({"size": chance.choice(SIZES)} if chance.random() < 0.5 else {}),
            }
            title = " ".join(chance.choices(PLAIN, k=2))
            key = await self.finding.product(shop, title, **asked, **attributes)
            self.products[key] = {
                **asked,
                "title": title,
                "shop": shop,
                "seller": name,
                "attributes": attributes,
            }
        await self.finding.settled()

    def posts_where(self, holds: Callable[[str], bool]) -> set[str]:
        return {key for key, text in self.posts.items() if holds(text)}


def has(text: str, asked: Iterable[str]) -> bool:
    found = words(text)
    return all(word in found for word in asked)


def has_phrase(text: str, phrase: list[str]) -> bool:
    found = words(text)
    return any(found[at : at + len(phrase)] == phrase for at in range(len(found)))


def has_tag(text: str, tag: str) -> bool:
    return tag in hashtags(text)


def names_ann(text: str) -> bool:
    return "ann_0" in mentions(text)


@pytest.fixture
async def corpus(postgres_url: str, search_url: str) -> AsyncIterator[Corpus]:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    async with finding(postgres_url, search_url) as found:
        corpus = Corpus(found, random.Random(seed))
        await corpus.write()
        yield corpus


async def test_everything_that_is_found_is_what_a_plain_look_finds(corpus: Corpus) -> None:
    await check_posts(corpus)
    await check_tags(corpus)
    await check_facets(corpus)
    await check_typing(corpus)


async def check_posts(corpus: Corpus) -> None:
    chance, search = corpus.chance, corpus.finding
    for _ in range(QUESTIONS):
        asked = chance.sample(PLAIN, chance.randint(1, 2))
        phrase = chance.choices(PLAIN, k=2)
        without = chance.choice(PLAIN)
        with_first = corpus.posts_where(partial(has, asked=asked[:1]))
        wanted = {
            " ".join(asked): corpus.posts_where(partial(has, asked=asked)),
            f'"{" ".join(phrase)}"': corpus.posts_where(partial(has_phrase, phrase=phrase)),
            f"{asked[0]} -{without}": with_first
            - corpus.posts_where(partial(has, asked=[without])),
            f"{asked[0]} @ann_0": with_first & corpus.posts_where(names_ann),
        }
        for query, expected in wanted.items():
            if expected:
                found = await search.posts(query, limit=chance.randint(1, 40))
                assert sorted(found) == sorted(expected), query


async def check_tags(corpus: Corpus) -> None:
    for tag in [*TAGS, "STRASSE", "CAFÉ", "cafe", "alps"]:
        (asked,) = hashtags(f"#{tag}")
        expected = corpus.posts_where(partial(has_tag, tag=asked))
        assert set(await corpus.finding.posts(f"#{tag}")) == expected, tag


def holds(product: dict[str, Any], filters: dict[str, Any], but: str = "") -> bool:
    """Whether a product fits all filters, but those of one facet."""
    checks: dict[str, bool] = {
        "category": product["category"] == filters.get("category", product["category"]),
        "price": filters.get("minPrice", 0) <= product["price"] <= filters.get("maxPrice", 10**9),
        "available": "available" not in filters
        or (product["units"] > 0) == (filters["available"] == "true"),
        "shopId": product["shop"] == filters.get("shopId", product["shop"]),
        "attribute": "attribute" not in filters or filters["attribute"] in pairs(product),
    }
    return all(fits for name, fits in checks.items() if name != but)


def pairs(product: dict[str, Any]) -> list[str]:
    return [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in product["attributes"].items()
    ]


async def check_facets(corpus: Corpus) -> None:
    chance, search = corpus.chance, corpus.finding
    for _ in range(QUESTIONS):
        word = chance.choice(PLAIN)
        matching = {
            key: one
            for key, one in corpus.products.items()
            if has(f"{one['title']} {one['description']} {one['seller']}", [word])
        }
        if not matching:
            continue
        one = chance.choice(list(matching.values()))
        every = {
            "category": one["category"],
            "minPrice": one["price"] - chance.randint(0, 500),
            "maxPrice": one["price"] + 3_000,
            "available": chance.choice(["true", "false"]),
            "shopId": one["shop"],
            "attribute": chance.choice(pairs(one) or ["colour=red"]),
        }
        every["minPrice"] = max(every["minPrice"], 0)
        filters = {name: every[name] for name in chance.sample(list(every), chance.randint(0, 3))}
        sort = chance.choice(["relevance", "price", "price_desc", "newest"])
        found = await search.found(word, type="products", sort=sort, **filters, limit=50)
        shown = [product["productId"] for product in found]
        assert sorted(shown) == sorted(k for k, p in matching.items() if holds(p, filters)), filters
        if sort.startswith("price"):
            prices = [product["price"]["value"] for product in found]
            assert prices == sorted(prices, reverse=sort == "price_desc")
        facets = (await search.page(word, type="products", **filters))["facets"]
        left = {
            name: [p for p in matching.values() if holds(p, filters, name)]
            for name in ("category", "price", "available", "shopId", "attribute")
        }
        counted = Counter(p["category"] for p in left["category"])
        assert {c["value"]: c["count"] for c in facets["category"]} == counted
        stocked = Counter(p["units"] > 0 for p in left["available"])
        assert facets["available"] == {"true": stocked[True], "false": stocked[False]}
        sellers = Counter((p["shop"], p["seller"]) for p in left["shopId"])
        assert {(c["value"], c["name"]): c["count"] for c in facets["seller"]} == sellers
        for bucket in facets["price"]:
            high = bucket["to"] if bucket["to"] is not None else 10**9
            inside = [p for p in left["price"] if bucket["from"] <= p["price"] <= high]
            assert len(inside) == bucket["count"]
        assert sum(bucket["count"] for bucket in facets["price"]) == len(left["price"])
        check_attributes(facets, matching, filters)
        await check_click(search, word, filters, facets)


def check_attributes(
    facets: dict[str, Any], matching: dict[str, dict[str, Any]], filters: dict[str, Any]
) -> None:
    chosen = filters.get("attribute", "=").partition("=")[0]
    expected: Counter[str] = Counter()
    for product in matching.values():
        for pair in pairs(product):
            but = "attribute" if pair.partition("=")[0] == chosen else ""
            if holds(product, filters, but):
                expected[pair] += 1
    found = {
        f"{names['name']}={value['value']}": value["count"]
        for names in facets["attributes"]
        for value in names["values"]
    }
    assert found == expected


async def check_click(
    search: Finding, word: str, filters: dict[str, Any], facets: dict[str, Any]
) -> None:
    """One choice of each facet, as somebody who clicks it sees what it leaves."""
    clicks: list[tuple[dict[str, Any], int]] = []
    clicks += [({"category": c["value"]}, c["count"]) for c in facets["category"][:1]]
    clicks += [({"shopId": c["value"]}, c["count"]) for c in facets["seller"][:1]]
    for bucket in facets["price"][:1]:
        bounds = {"minPrice": bucket["from"]}
        if bucket["to"] is not None:
            bounds["maxPrice"] = bucket["to"]
        clicks.append((bounds, bucket["count"]))
    clicks.append(({"available": "true"}, facets["available"]["true"]))
    for names in facets["attributes"][:1]:
        value = names["values"][0]
        clicks.append(({"attribute": f"{names['name']}={value['value']}"}, value["count"]))
    for click, count in clicks:
        left = {name: one for name, one in filters.items() if name not in click}
        if "minPrice" in click:
            left.pop("maxPrice", None)
        # Another attribute than the one chosen narrows further instead of replacing it.
        asked = {**left, **click}
        if "attribute" in click and "attribute" in filters:
            mine, others = click["attribute"], filters["attribute"]
            if mine.partition("=")[0] != others.partition("=")[0]:
                asked["attribute"] = [mine, others]
        shown = await search.found(word, type="products", **asked, limit=100)
        assert len(shown) == count, (filters, click)


async def check_typing(corpus: Corpus) -> None:
    members = {
        member: (await corpus.finding.asking.get(f"/api/users/{member}"))["username"]
        for member in corpus.names
    }
    for typed in ["a", "an", "ann", "z", "zoe", "él", "elo", "KIM", "kim an", "la", "łu", "o", "9"]:
        prefixes = words(folded(typed))
        expected = {
            name
            for member, name in members.items()
            if all(
                any(word.startswith(prefix) for word in name_words(name, corpus.names[member]))
                for prefix in prefixes
            )
        }
        found = await corpus.finding.asking.get("/api/typeahead", q=typed)
        shown = {account["username"] for account in found["accounts"]}
        assert shown <= expected, typed
        assert len(shown) == min(5, len(expected)), typed
        titles = {
            key
            for key, one in corpus.products.items()
            if all(any(w.startswith(p) for w in words(one["title"])) for p in prefixes)
        }
        products = {product["productId"] for product in found["products"]}
        assert products <= titles
        assert len(products) == min(5, len(titles)), typed


def name_words(*names: str) -> list[str]:
    return [part for name in names for word in words(name) for part in (word, *word.split("_"))]
