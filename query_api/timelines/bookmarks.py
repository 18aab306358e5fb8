"""What the cursors of a feed hold: the position that a walk began at, and where it is.

A cursor pins the log position of the first page: later pages show what was in the timeline then,
less what has been deleted, hidden or taken back since. It also carries the old posts that were
shown because somebody reposted them, since an older entry may bring them again.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from struct import Struct

from query_api.timelines.items import Item

PLACE = Struct("<QQ")
NUMBER_BYTES = 8


@dataclass(frozen=True)
class Bookmark:
    """What a cursor of the feed holds. `served` are positions of posts older than `last`."""

    position: int
    last: int
    served: Sequence[int] = ()

    @classmethod
    def decode(cls, payload: bytes) -> "Bookmark":
        position, last = PLACE.unpack_from(payload)
        before = last
        served = []
        for gap in numbers_in(payload[PLACE.size :]):
            before -= gap
            served.append(before)
        return cls(position, last, served)

    def next(self, shown: Sequence[Item], entries: Sequence[int]) -> "Bookmark":
        """The bookmark after a page. A post that stands above its last entry cannot come again."""
        last = entries[-1]
        served = {post for post in self.served if post < last}
        served.update(found.post_position for found in shown if found.post_position < last)
        return Bookmark(self.position, last, sorted(served))


def bookmark_of_recommended(left: Sequence[int]) -> bytes:
    """The payload of a cursor of recommended posts: those that are left, by their positions. It
    begins with a position that no timeline has."""
    return PLACE.pack(0, 0) + b"".join(post.to_bytes(NUMBER_BYTES, "little") for post in left)


def recommended_in(payload: bytes) -> list[int] | None:
    """The posts that are left, if this is such a cursor."""
    if PLACE.unpack_from(payload) != (0, 0):
        return None
    return [
        int.from_bytes(payload[start : start + NUMBER_BYTES], "little")
        for start in range(PLACE.size, len(payload), NUMBER_BYTES)
    ]


def encoded(position: int, last: int, served: Collection[int]) -> bytes:
    """The payload of a cursor; see `Bookmark`."""
    if not served:
        return PLACE.pack(position, last)
    gaps = []
    before = last
    for post in sorted(served, reverse=True):
        gaps.append(before - post)
        before = post
    return PLACE.pack(position, last) + varints(gaps)


def varints(numbers: Sequence[int]) -> bytes:
    """Seven bits a byte, the lowest first, the highest bit on all but a number's last byte."""
    out = bytearray()
    for number in numbers:
        left = number
        while left > 127:
            out.append(left & 127 | 128)
            left >>= 7
        out.append(left)
    return bytes(out)


def numbers_in(payload: bytes) -> list[int]:
    numbers, number, shift = [], 0, 0
    for byte in payload:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(number)
            number = shift = 0
    return numbers
