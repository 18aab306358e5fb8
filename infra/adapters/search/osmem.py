"""Spares osmem-server, the embedded search server, work that it would make for itself.

It keeps what one request wrote as a segment, and merges segments of fewer than a thousand documents
by indexing all of these anew, a thousand to a segment. The first document of such a segment that is
replaced makes it small again; so in an index of 10,000 documents any request that replaces some
would have it index all of them. But it leaves alone what is older than the last change of mapping,
even to the same: so the mapping is put anew whenever a thousand documents were written.

What is replaced then stays in memory until everything in its segment was: `worn` says when that has
become so much that all should be written anew.

It indexes a number that has doc values by sixteen terms, whatever its mapping says of `index`; but
what hits are ranked by it takes from their sources. So there such numbers have no doc values.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from opensearchpy import AsyncOpenSearch

OSMEM = "osmem"
SEGMENT_DOCUMENTS = 1_000
REPLACED_MIN = 20_000
UNCHANGED: Mapping[str, Any] = {"properties": {}}


class Osmem:
    """The indices of one build. Does nothing where the server is another one."""

    def __init__(self, client: AsyncOpenSearch) -> None:
        self._client = client
        self._serves: bool | None = None
        self._written: Counter[str] = Counter()
        self._documents = 0
        self._replaced = 0

    async def serves(self) -> bool:
        """Whether the server is osmem-server. Raises `OpenSearchException`."""
        if self._serves is None:
            about = await self._client.info()
            self._serves = about["version"].get("build_hash") == OSMEM
        return self._serves

    async def wrote(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Say what the server answered to one bulk. Raises `OpenSearchException`."""
        if not await self.serves():
            return
        for item in items:
            (done,) = item.values()
            result = done.get("result")
            if result is not None:
                self._written[done["_index"]] += 1
                self._documents += result == "created"
                self._replaced += result != "created"
        for name, written in list(self._written.items()):
            if written >= SEGMENT_DOCUMENTS:
                await self._client.indices.put_mapping(index=name, body=UNCHANGED)
                del self._written[name]

    def worn(self, documents: int) -> bool:
        """Whether more was replaced than there is, if there were so many `documents` at first."""
        return self._replaced > max(REPLACED_MIN, documents, self._documents)

    def renewed(self) -> None:
        """Everything has been written anew, or there is nothing yet."""
        self._replaced = 0


def lean(template: Mapping[str, Any]) -> dict[str, Any]:
    """A template by which it indexes nothing that nobody looks for."""
    inner = template["template"]
    fields: Mapping[str, Mapping[str, Any]] = inner["mappings"]["properties"]
    properties = {
        name: {**field, "doc_values": False} if field.get("index") is False else field
        for name, field in fields.items()
    }
    mappings = {**inner["mappings"], "properties": properties}
    return {**template, "template": {**inner, "mappings": mappings}}
