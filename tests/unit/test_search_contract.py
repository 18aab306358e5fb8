"""What the contract says of searching."""

from typing import Any, cast

import msgspec

from infra.http.openapi import document
from query_api import search, search_kinds, typeahead

NOTHING = cast(Any, None)


def test_searches_are_in_the_contract_with_all_that_they_take_and_answer() -> None:
    routes = [
        *search.routes(NOTHING, NOTHING, search_kinds.Products(NOTHING, None)),
        *typeahead.routes(NOTHING, NOTHING, None, None),
    ]
    contract = msgspec.json.decode(document("Plaza", "1", routes))
    found = contract["paths"]["/api/search"]["get"]
    names = {parameter["name"] for parameter in found["parameters"]}
    assert names >= {"q", "type", "category", "minPrice", "maxPrice", "available", "sort", "cursor"}
    answers = found["responses"]["200"]["content"]["application/json"]["schema"]["anyOf"]
    schemas = contract["components"]["schemas"]
    results = [schemas[one["$ref"].rpartition("/")[2]]["properties"]["results"] for one in answers]
    assert [one["items"]["$ref"].rpartition("/")[2] for one in results] == [
        "FeedItem",
        "Profile",
        "ProductPage",
    ]
    assert {"422", "503"} <= set(found["responses"])
    completed = contract["paths"]["/api/typeahead"]["get"]["responses"]["200"]
    assert "Completions" in str(completed)
    assert set(schemas["Completions"]["required"]) == {"accounts", "hashtags", "products"}
