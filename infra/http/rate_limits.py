"""How much one caller may ask for: a token bucket per caller and route, in this process's memory.

Taking from a bucket is one step without an await, so that no two requests can take one token.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from infra.http.problems import Problem

BUCKETS_MAX = 200_000


@dataclass(frozen=True)
class Limit:
    """At most `burst` at once, and `per_minute` in the long run."""

    per_minute: float
    burst: int


class RateLimits:
    """The buckets of all callers. `now` is a monotonic clock in seconds.

    A route that the table does not name has no limit of its own and shares `*`; with an empty
    table nothing is limited.
    """

    def __init__(self, table: Mapping[str, Limit], now: Callable[[], float]) -> None:
        self._table = dict(table)
        self._now = now
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}

    def take(self, route: str, caller: str) -> None:
        """Take one from the caller's bucket for a route. Raises a 429 problem when it is empty."""
        name = route if route in self._table else "*"
        limit = self._table.get(name)
        if limit is None:
            return
        seconds = self._take(limit, (name, caller))
        if seconds > 0:
            raise too_many(seconds)

    def _take(self, limit: Limit, key: tuple[str, str]) -> float:
        """Take a token; answers the seconds until there is one if there is none now."""
        now = self._now()
        rate = limit.per_minute / 60
        tokens, since = self._buckets.pop(key, (float(limit.burst), now))
        tokens = min(float(limit.burst), tokens + (now - since) * rate)
        allowed = tokens >= 1
        # Put back at the end, so that the first bucket is always the one used longest ago.
        self._buckets[key] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > BUCKETS_MAX:
            del self._buckets[next(iter(self._buckets))]
        return 0.0 if allowed else (1 - tokens) / rate


class Failures:
    """Failed attempts at a name from an address: too many, and further ones are refused unseen."""

    def __init__(self, limit: Limit, now: Callable[[], float]) -> None:
        self._limit = limit
        self._now = now
        self._levels: dict[tuple[str, str], tuple[float, float]] = {}

    def begin(self, name: str, address: str) -> None:
        """Count an attempt. Raises a 429 problem when too many have failed at this name from here.

        Counted before the password is looked at, so that attempts at once are not more than one
        after another; `clear` it when it was right.
        """
        key = (name, address)
        level = self._level(key)
        if level > self._limit.burst - 1:
            raise too_many((level - self._limit.burst + 1) / self._rate)
        self._levels.pop(key, None)
        self._levels[key] = (level + 1, self._now())
        if len(self._levels) > BUCKETS_MAX:
            del self._levels[next(iter(self._levels))]

    def clear(self, name: str, address: str) -> None:
        """Forget what failed: the right password was given."""
        self._levels.pop((name, address), None)

    @property
    def _rate(self) -> float:
        return self._limit.per_minute / 60

    def _level(self, key: tuple[str, str]) -> float:
        level, since = self._levels.get(key, (0.0, 0.0))
        return max(0.0, level - (self._now() - since) * self._rate)


def too_many(seconds: float) -> Problem:
    whole = max(1, math.ceil(seconds))
    detail = f"Wait {whole} s before the next one."
    headers = {"Retry-After": str(whole)}
    return Problem(429, "too-many-requests", "Too many requests", detail, headers=headers)
