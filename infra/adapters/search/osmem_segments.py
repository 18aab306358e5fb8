"""Spares osmem-server, the embedded search server, work that it would make for itself.

It keeps what one request wrote as a segment, and merges segments of fewer than a thousand documents
by indexing all of these anew, a thousand to a segment. The first document of such a segment that is
replaced makes it small again; so in an index of 10,000 documents any request that replaces some
would have it index all of them. But it leaves alone what is older than the last change of mapping,
even to the same: so the mapping is put anew whenever a thousand documents were written.

What is replaced then stays in memory until everything in its segment was: `worn` says when that has
become so much that all should be written anew.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from opensearchpy import AsyncOpenSearch

OSMEM = "osmem"
SEGMENT_DOCUMENTS = 1_000
REPLACED_MIN = 20_000


class OsmemSegments:
    """Of the indices of one build. Does nothing where the server is another one."""

    def __init__(self, client: AsyncOpenSearch, properties: Mapping[str, Any]) -> None:
        self._client = client
        self._properties = properties
        self._is_osmem: bool | None = None
        self._written: Counter[str] = Counter()
        self._documents = 0
        self._replaced = 0

    async def wrote(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Say what the server answered to one bulk. Raises `OpenSearchException`."""
        if self._is_osmem is None:
            about = await self._client.info()
            self._is_osmem = about["version"].get("build_hash") == OSMEM
        if not self._is_osmem:
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
                await self._client.indices.put_mapping(
                    index=name, body={"properties": self._properties}
                )
                del self._written[name]

    def worn(self, documents: int) -> bool:
        """Whether more was replaced than there is, if there were so many `documents` at first."""
        return self._replaced > max(REPLACED_MIN, documents, self._documents)

    def renewed(self) -> None:
        """Everything has been written anew, or there is nothing yet."""
        self._replaced = 0
