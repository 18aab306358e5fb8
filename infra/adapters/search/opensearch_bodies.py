"""What the search server is sent: typed queries become bodies here, and nowhere else.

Texts are cut into tokens as those of documents are, and go into `term`, `match_phrase` and the like
alone: no query language of the server's ever sees what somebody typed.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, assert_never

from domain.shared.identifiers import id_text
from domain.shared.text import folded
from infra.adapters.search.text_analysis import query_stems, tokens
from infra.ports.search_reads import (
    Choice,
    Facets,
    Kind,
    PostRanking,
    PriceRange,
    ProductFilters,
    ProductOrder,
    ProductPlace,
    Query,
    ShopChoice,
)

Body = dict[str, Any]
Clauses = list[Body]

FUZZY_LENGTH_MIN, FUZZIER_LENGTH_MIN = 4, 8
FUZZY_EXPANSIONS_MAX = 50

EVERYTHING: Body = {"match_all": {}}

ENGAGEMENT = ("likes", "reposts", "replies")

PRICES = (0, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000)
CATEGORIES_MAX, SHOPS_MAX = 100, 50
PAIRS_MAX, NAMES_MAX, VALUES_MAX = 2_000, 20, 20
SHOP_FACET = 3

# Weights of where a word is found.
USERNAME, NAME, BIO = 8.0, 4.0, 1.0
FOLLOWERS = 0.2
TITLE, SHOP = 2.0, 1.0
OTHER_PLACES = 0.3


def listed(query: Body, order: Clauses, limit: int) -> Body:
    """Nothing is wanted of a hit but what it is sorted by, which saves reading it."""
    return {
        "size": limit,
        "query": query,
        "sort": order,
        "stored_fields": "_none_",
        "track_total_hits": False,
    }


def listed_with(fields: Sequence[str], query: Body, order: Clauses, limit: int) -> Body:
    """Of a hit these fields are wanted, and what it is sorted by."""
    return {
        "size": limit,
        "query": query,
        "sort": order,
        "_source": list(fields),
        "track_total_hits": False,
    }


def filtered(clauses: Clauses) -> Body:
    return {"bool": {"filter": clauses}}


def leaving_out(query: Body, field: str, ids: Collection[int]) -> Body:
    if not ids:
        return query
    return {"bool": {"must": [query], "must_not": [one_of(field, ids)]}}


def one_of(field: str, ids: Collection[int]) -> Body:
    return {"terms": {field: [id_text(number) for number in ids]}}


def begins(field: str, prefix: str) -> Body:
    return {"prefix": {field: {"value": prefix}}}


def term(field: str, value: Any, boost: float = 1.0) -> Body:
    return {"term": {field: {"value": value, "boost": boost}}}


def phrase(field: str, text: str, boost: float = 1.0) -> Body:
    """These words in this order; of one word, this word."""
    cut = tokens(text)
    if len(cut) == 1:
        return one_token(field, cut[0], boost)
    return {"match_phrase": {field: {"query": " ".join(cut), "boost": boost}}}


def one_token(field: str, token: str, boost: float = 1.0) -> Body:
    if len(token) == 1 and not token.isascii():
        # A letter of a script without spaces stands at the beginning or the end of bigrams.
        return {"prefix": {field: {"value": token, "boost": boost}}}
    return term(field, token, boost)


def best_of(clauses: Clauses, others: float = 0.0) -> Body:
    if len(clauses) == 1:
        return clauses[0]
    return {"dis_max": {"queries": clauses, "tie_breaker": others}}


def stems(field: str, word: str, boost: float = 1.0) -> Clauses:
    cut = tokens(word)
    if len(cut) != 1:
        return [phrase(field, word, boost)]
    return [one_token(field, stem, boost) for stem in query_stems(word)]


def may_be_misspelt(word: str) -> bool:
    """Whether it is long enough for that to be told."""
    cut = tokens(word)
    return len(cut) == 1 and len(cut[0]) >= FUZZY_LENGTH_MIN


def misspelt(field: str, word: str) -> Clauses:
    """The word with a letter or two wrong."""
    if not may_be_misspelt(word):
        return []
    cut = tokens(word)
    similar = {
        "value": cut[0],
        "fuzziness": 1 if len(cut[0]) < FUZZIER_LENGTH_MIN else 2,
        "prefix_length": 1,
        "max_expansions": FUZZY_EXPANSIONS_MAX,
    }
    # What is spelt as asked for has a score of its own, which is more than this one.
    return [{"constant_score": {"filter": {"fuzzy": {field: similar}}, "boost": 0.1}}]


def posts_matching(query: Query) -> Body:
    wanted, unwanted = query.wanted, query.unwanted
    words = [post_word(word, guessed=word in query.misspelt) for word in wanted.words]
    must = enough(words, query)
    must += [phrase("text", " ".join(words)) for words in wanted.phrases]
    certain: Clauses = [term("tags", tag) for tag in wanted.tags]
    certain += [term("mentions", name) for name in wanted.mentions]
    if wanted.authors:
        certain.append({"terms": {"author": list(wanted.authors)}})
    if query.since is not None or query.until is not None:
        certain.append(created(query.since, query.until))
    not_so: Clauses = [phrase("text", word) for word in unwanted.words]
    not_so += [phrase("text", " ".join(words)) for words in unwanted.phrases]
    not_so += [term("tags", tag) for tag in unwanted.tags]
    not_so += [term("mentions", name) for name in unwanted.mentions]
    not_so += [term("author", name) for name in unwanted.authors]
    return {"bool": {"must": must, "filter": certain, "must_not": not_so}}


def enough(words: Clauses, query: Query) -> Clauses:
    """What has to hold of the words: all of them, or all but one."""
    if not query.most or len(words) < 2:
        return words
    return [{"bool": {"should": words, "minimum_should_match": len(words) - 1}}]


def post_word(word: str, *, guessed: bool = False) -> Body:
    return best_of([*stems("stemmed", word), *(misspelt("text", word) if guessed else [])])


def created(since: datetime | None, until: datetime | None) -> Body:
    bounds = {}
    if since is not None:
        bounds["gte"] = milliseconds(since)
    if until is not None:
        bounds["lt"] = milliseconds(until)
    return {"range": {"createdAt": bounds}}


def milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def best_posts_body(
    matching: Body, ranking: PostRanking, now: datetime, after: datetime | None, limit: int
) -> Body:
    if after is not None:
        matching = {"bool": {"must": [matching], "filter": [created(after, None)]}}
    recent = {
        "origin": milliseconds(now),
        "scale": f"{int(ranking.half_life_days * 86_400)}s",
        "decay": 0.5,
    }
    engaged = [
        {
            "field_value_factor": {"field": field, "modifier": "ln1p", "missing": 0},
            "weight": ranking.engagement_weight,
        }
        for field in ENGAGEMENT
    ]
    by_recency = factor(
        matching, [{"exp": {"createdAt": recent}, "weight": ranking.recency_weight}]
    )
    order = [{"_score": "desc"}, {"postId": "desc"}]
    return listed(factor(by_recency, engaged), order, limit)


def newest_posts_body(matching: Body, limit: int) -> Body:
    """The newest that match, with all that they are ranked by."""
    order: Clauses = [{"createdAt": "desc"}, {"_score": "desc"}, {"postId": "desc"}]
    return listed_with(ENGAGEMENT, matching, order, limit)


def factor(query: Body, functions: Clauses) -> Body:
    """The score times one plus what these functions add up to."""
    return {
        "function_score": {
            "query": query,
            "functions": [{"weight": 1}, *functions],
            "score_mode": "sum",
            "boost_mode": "multiply",
        }
    }


def members_matching(query: Query) -> Body:
    wanted, unwanted = query.wanted, query.unwanted
    spoken = [*wanted.words, *wanted.tags]
    must = enough([member_word(word, guessed=word in query.misspelt) for word in spoken], query)
    for words in wanted.phrases:
        text = " ".join(words)
        must.append(best_of([phrase("displayName", text, NAME), phrase("bio", text, BIO)]))
    must += [sure(term("username", name), USERNAME) for name in wanted.mentions]
    not_so: Clauses = []
    for word in [*unwanted.words, *unwanted.tags, *map(" ".join, unwanted.phrases)]:
        not_so += [phrase("displayName", word), phrase("bio", word), term("words", folded(word))]
    not_so += [term("username", name) for name in unwanted.mentions]
    return {"bool": {"must": must, "must_not": not_so}}


def member_word(word: str, *, guessed: bool = False) -> Body:
    places = [
        sure(term("username", word), USERNAME),
        sure(term("words", folded(word)), NAME),
        sure(phrase("bio", word), BIO),
    ]
    if guessed:
        places += [*misspelt("displayName", word), *misspelt("username", word)]
    return best_of(places)


def best_members_body(matching: Body, limit: int) -> Body:
    followers = {"field": "followers", "modifier": "ln1p", "missing": 0}
    functions = [{"field_value_factor": followers, "weight": FOLLOWERS}]
    order = [{"_score": "desc"}, {"memberId": "desc"}]
    return listed(factor(matching, functions), order, limit)


def likeliest_members_body(matching: Body, limit: int) -> Body:
    """Those whose names fit best, of these the most followed, with all that they are ranked by."""
    order: Clauses = [{"_score": "desc"}, {"followers": "desc"}, {"memberId": "desc"}]
    return listed(matching, order, limit)


def sure(clause: Body, score: float) -> Body:
    return {"constant_score": {"filter": clause, "boost": score}}


def products_matching(query: Query) -> Body:
    wanted, unwanted = query.wanted, query.unwanted
    words = [product_word(word, guessed=word in query.misspelt) for word in query.spoken]
    must = enough(words, query)
    must += [
        best_of(
            [phrase("title", text, TITLE), phrase("description", text), phrase("shopWords", text)]
        )
        for text in map(" ".join, wanted.phrases)
    ]
    not_so: Clauses = []
    for text in words_of(
        unwanted.words, unwanted.tags, unwanted.mentions, map(" ".join, unwanted.phrases)
    ):
        not_so += [phrase(field, text) for field in ("title", "description", "shopWords")]
    return {"bool": {"must": must, "must_not": not_so}}


def words_of(*kinds: Iterable[str]) -> list[str]:
    return [word for kind in kinds for word in kind]


def product_word(word: str, *, guessed: bool = False) -> Body:
    places = stems("stemmed", word)
    places += [phrase("title", word, TITLE), phrase("shopWords", word, SHOP)]
    if guessed:
        places += [
            *misspelt("title", word),
            *misspelt("description", word),
            *misspelt("shopWords", word),
        ]
    return best_of(places, OTHER_PLACES)


def guessable(kind: Kind, query: Query) -> dict[str, Body]:
    """What finds each of the words that may be misspelt: those that are neither tags nor names."""
    wanted = query.wanted
    match kind:
        case "posts":
            found = {word: post_word(word) for word in wanted.words}
        case "users":
            found = {word: member_word(word) for word in (*wanted.words, *wanted.tags)}
        case "products":
            found = {word: product_word(word) for word in query.spoken}
        case _:
            assert_never(kind)
    return {word: clause for word, clause in found.items() if may_be_misspelt(word)}


def is_there(clause: Body) -> Body:
    """Whether anything matches; the server stops at the first that does."""
    return {"size": 0, "query": clause, "terminate_after": 1, "track_total_hits": True}


def count_up_to(most: int, matching: Body, since: datetime) -> Body:
    """How many posts match from a moment on; no slice counts more than these."""
    query = filtered([matching, created(since, None)])
    return {"size": 0, "query": query, "terminate_after": most, "track_total_hits": True}


ORDERS: Mapping[ProductOrder, Clauses] = {
    "relevance": [{"_score": "desc"}, {"productId": "desc"}, {"price": "asc"}],
    "price": [{"price": "asc"}, {"productId": "desc"}],
    "price_desc": [{"price": "desc"}, {"productId": "desc"}],
    "newest": [{"productId": "desc"}, {"price": "asc"}],
}


def products_body(  # noqa: PLR0913
    query: Query,
    filters: ProductFilters,
    order: ProductOrder,
    limit: int,
    *,
    after: ProductPlace | None,
    without: Collection[int],
) -> Body:
    matching = leaving_out(products_matching(query), "productId", without)
    body = listed(matching, ORDERS[order], limit)
    # Facets count what the filters leave out too, each without its own.
    body["post_filter"] = filtered(list(conditions(filters).values()))
    if after is not None:
        values = {"productId": id_text(after.product_id), "price": after.price}
        body["search_after"] = [values[field] for part in ORDERS[order] for field in part]
    return body


def conditions(filters: ProductFilters) -> dict[str, Body]:
    """The clause of each filter that is set, by the facet that it belongs to."""
    found: dict[str, Body] = {}
    if filters.category is not None:
        found["category"] = term("category", filters.category)
    if filters.shop_id is not None:
        found["shop"] = term("shopId", filters.shop_id)
    if filters.price_min is not None or filters.price_max is not None:
        bounds = {"gte": filters.price_min, "lte": filters.price_max}
        found["price"] = {
            "range": {"price": {name: value for name, value in bounds.items() if value is not None}}
        }
    if filters.available is not None:
        found["available"] = term("available", filters.available)
    for name, values in filters.attributes:
        pairs = [f"{name}={value}" for value in values]
        found[attribute_facet(name)] = {"terms": {"attributes": pairs}}
    return found


def attribute_facet(name: str) -> str:
    return f"attribute {name}"


def facets_body(filters: ProductFilters) -> Body:
    """Every facet, together with those that the same filters hold for: each is counted without its
    own. Names of facets come from clients, and those of aggregations may not be just anything."""
    holding = conditions(filters)
    body: Body = {"all": {"filter": {"match_all": {}}}}
    for at, (name, counts) in enumerate(counted(filters).items()):
        own = name if name in holding else ""
        others = [clause for other, clause in holding.items() if other != own]
        group = body
        if others:
            place = f"without {list(holding).index(own)}" if own else "with all"
            group = body.setdefault(place, {"filter": filtered(others), "aggs": {}})["aggs"]
        group[f"facet{at}"] = counts
    return body


def counted(filters: ProductFilters) -> dict[str, Body]:
    """What is counted for each facet, by its name."""
    pairs = {"terms": {"field": "attributes", "size": PAIRS_MAX}}
    return {
        "category": {"terms": {"field": "category", "size": CATEGORIES_MAX}},
        "price": {"range": {"field": "price", "ranges": price_ranges()}},
        "available": {"terms": {"field": "available"}},
        "shop": {"terms": {"field": "shopId", "size": SHOPS_MAX}},
        "attributes": pairs,
        **{attribute_facet(name): pairs for name, _ in filters.attributes},
    }


def price_ranges() -> Clauses:
    bounds = [*PRICES, None]
    return [
        {"from": low} if high is None else {"from": low, "to": high}
        for low, high in pairwise(bounds)
    ]


def shop_names_body(shop_ids: Sequence[str]) -> Body:
    """Asks what these shops are called."""
    names = {"name": {"terms": {"field": "seller", "size": 1}}}
    return {
        "size": 0,
        "query": filtered([{"terms": {"shopId": shop_ids}}]),
        "track_total_hits": False,
        "aggs": {"shops": {"terms": {"field": "shopId", "size": len(shop_ids)}, "aggs": names}},
    }


def shop_names_of(found: Mapping[str, Any]) -> dict[str, str]:
    return {
        bucket["key"]: bucket["name"]["buckets"][0]["key"] for bucket in found["shops"]["buckets"]
    }


def facet(found: Mapping[str, Any], at: int) -> Sequence[Mapping[str, Any]]:
    """What was counted for a facet, by its place among those of `counted`."""
    name = f"facet{at}"
    counts: Sequence[Mapping[str, Any]]
    counts = next(group[name] for group in (found, *found.values()) if name in group)["buckets"]
    return counts


def shops_of(found: Mapping[str, Any]) -> list[str]:
    return [bucket["key"] for bucket in facet(found, SHOP_FACET)]


def facets_of(
    found: Mapping[str, Any], filters: ProductFilters, shop_names: Mapping[str, str]
) -> Facets:
    """Shops without a name are left out: nothing of theirs has been there since."""

    def buckets(at: int) -> Sequence[Mapping[str, Any]]:
        return facet(found, at)

    available = {bucket["key"]: bucket["doc_count"] for bucket in buckets(2)}
    by_name = by_attribute(buckets(4))
    for at, (name, _) in enumerate(filters.attributes, start=5):
        by_name[name] = by_attribute(buckets(at)).get(name, [])
    most_used = sorted(by_name, key=lambda name: (-sum(c.products for c in by_name[name]), name))
    return Facets(
        categories=[Choice(bucket["key"], bucket["doc_count"]) for bucket in buckets(0)],
        prices=[
            PriceRange(
                int(bucket["from"]),
                int(bucket["to"]) - 1 if "to" in bucket else None,
                bucket["doc_count"],
            )
            for bucket in buckets(1)
            if bucket["doc_count"]
        ],
        available=available.get(1, 0),
        unavailable=available.get(0, 0),
        shops=[
            ShopChoice(bucket["key"], called, bucket["doc_count"])
            for bucket in buckets(SHOP_FACET)
            if (called := shop_names.get(bucket["key"])) is not None
        ],
        attributes={name: by_name[name][:VALUES_MAX] for name in most_used[:NAMES_MAX]},
    )


def by_attribute(buckets: Iterable[Mapping[str, Any]]) -> dict[str, list[Choice]]:
    found: defaultdict[str, list[Choice]] = defaultdict(list)
    for bucket in buckets:
        name, _, value = bucket["key"].partition("=")
        found[name].append(Choice(value, bucket["doc_count"]))
    return found
