"""When the embedded search server is told to leave segments alone, and when it is worn."""

from typing import Any, cast

from opensearchpy import AsyncOpenSearch

from infra.adapters.search.osmem import OSMEM, REPLACED_MIN, UNCHANGED, Osmem, lean
from infra.ports.search_documents import POSTS


class Server:
    """Says which server it is, and remembers the mappings that were put."""

    def __init__(self, build_hash: str) -> None:
        self.build_hash = build_hash
        self.put: list[str] = []
        self.indices = self

    async def info(self) -> dict[str, Any]:
        return {"version": {"build_hash": self.build_hash}}

    async def put_mapping(self, index: str, body: dict[str, Any]) -> None:
        assert body == UNCHANGED
        self.put.append(index)


def written(count: int, result: str = "created", index: str = "a") -> list[dict[str, Any]]:
    return [{"index": {"_index": index, "status": 200, "result": result}}] * count


def segments(server: Server) -> Osmem:
    return Osmem(cast("AsyncOpenSearch", server))


async def test_a_mapping_is_put_for_each_thousand_documents_of_an_index() -> None:
    server = Server(OSMEM)
    kept = segments(server)
    await kept.wrote([*written(999), *written(10, index="b")])
    assert server.put == []
    await kept.wrote(written(1, "updated"))
    assert server.put == ["a"]
    await kept.wrote(written(1_500))
    assert server.put == ["a", "a"]


async def test_another_server_is_left_alone() -> None:
    server = Server("4f1f7c6")
    kept = segments(server)
    await kept.wrote(written(REPLACED_MIN * 2, "updated"))
    assert server.put == []
    assert not kept.worn(0)


async def test_a_server_is_worn_when_more_was_replaced_than_there_is() -> None:
    kept = segments(Server(OSMEM))
    await kept.wrote([*written(REPLACED_MIN), *written(REPLACED_MIN, "updated")])
    assert not kept.worn(0)
    await kept.wrote(written(1, "deleted"))
    assert kept.worn(REPLACED_MIN)
    assert not kept.worn(REPLACED_MIN + 1)
    kept.renewed()
    assert not kept.worn(0)


async def test_what_was_refused_counts_for_nothing() -> None:
    server = Server(OSMEM)
    kept = segments(server)
    refused = {"index": {"_index": "a", "status": 409, "error": {"type": "version_conflict"}}}
    await kept.wrote([refused] * 2_000)
    assert server.put == []


def test_it_indexes_nothing_that_hits_are_only_ranked_by() -> None:
    template = POSTS.template()
    properties = lean(template)["template"]["mappings"]["properties"]
    assert properties["likes"] == {"type": "integer", "index": False, "doc_values": False}
    assert properties["createdAt"] == POSTS.properties["createdAt"]
    assert list(properties) == list(POSTS.properties)
    assert template == POSTS.template()
