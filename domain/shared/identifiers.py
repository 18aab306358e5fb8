"""Ids: 64 bits of time and chance, written as 13 characters that sort by creation time.

The upper 42 bits are milliseconds since 2020, the lower 22 are random. Two ids made in one
millisecond collide once in four million pairs; the log refuses the second, and its maker tries
again. What is older than 2020 comes with imports; the years from 1970 to 2020 share the first 26
minutes of the ids, a quarter of an hour each millisecond, so that they stay in order.
"""

DIGITS = "0123456789abcdefghijklmnopqrstuv"
LENGTH = 13
EPOCH_MS = 1_577_836_800_000
RANDOM_BITS = 22
OLDER_BITS = 20
_PAIRS = [high + low for high in DIGITS for low in DIGITS]


def make_id(now_ms: int, chance: int) -> str:
    """An id for something created at `now_ms` (milliseconds since 1970); `chance` adds 22 bits."""
    elapsed = now_ms - EPOCH_MS if now_ms >= EPOCH_MS else max(now_ms, 0) >> OLDER_BITS
    return id_text((elapsed << RANDOM_BITS) | (chance & ((1 << RANDOM_BITS) - 1)))


def id_text(number: int) -> str:
    pairs = _PAIRS
    return (
        DIGITS[number >> 60]
        + pairs[number >> 50 & 1023]
        + pairs[number >> 40 & 1023]
        + pairs[number >> 30 & 1023]
        + pairs[number >> 20 & 1023]
        + pairs[number >> 10 & 1023]
        + pairs[number & 1023]
    )


def id_number(text: str) -> int:
    """The 63-bit number behind an id, as read tables keep it. Raises `ValueError` on all else."""
    if (
        len(text) != LENGTH
        or not text.isascii()
        or not text.isalnum()
        or not text.islower() | text.isdigit()
    ):
        raise ValueError(text)
    number = int(text, 32)
    if number >= 1 << 63:
        raise ValueError(text)
    return number


def known_id_number(text: str) -> int:
    """The same for what is known to be an id, as those in events are; takes a third of the time."""
    return int(text, 32)
