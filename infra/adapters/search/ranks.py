"""Ranks posts and members here, as the bodies of `opensearch_bodies` have the search server do it.

The embedded server takes a tenth of a millisecond for each hit whose score functions change, and
a twentieth of that to list what matches. So it is asked for the likeliest, and what they are listed
with is enough to rank them.

Nor is it asked for the beginning of a word that many names have: it takes each of these words for
itself, in each of its segments. It lists names, and those that begin so are picked out here.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from domain.shared.identifiers import known_id_number
from infra.adapters.search.opensearch_bodies import ENGAGEMENT, FOLLOWERS, milliseconds
from infra.ports.search_reads import PostRanking

DAY_MILLISECONDS = 86_400_000


def ranked_posts(
    hits: Iterable[Any], ranking: PostRanking, now: datetime, limit: int
) -> Sequence[int]:
    """The best of what `newest_posts_body` listed."""
    half_life = ranking.half_life_days * DAY_MILLISECONDS
    moment = milliseconds(now)

    def rank(hit: Any) -> tuple[float, str]:
        created_at, score, post_id = hit["sort"]
        recent = ranking.recency_weight * 0.5 ** (abs(moment - created_at) / half_life)
        engaged = sum(math.log1p(hit["_source"][name]) for name in ENGAGEMENT)
        return score * (1 + recent) * (1 + ranking.engagement_weight * engaged), post_id

    return best(map(rank, hits), limit)


def ranked_members(hits: Iterable[Any], limit: int) -> Sequence[int]:
    """The best of what `likeliest_members_body` listed."""

    def rank(hit: Any) -> tuple[float, str]:
        score, followers, member_id = hit["sort"]
        return score * (1 + FOLLOWERS * math.log1p(followers)), member_id

    return best(map(rank, hits), limit)


def named_so(hits: Iterable[Any], prefixes: Sequence[str], limit: int) -> Sequence[int]:
    """The first of these, listed with their `words`, in whose names each prefix begins a word."""
    found = (
        known_id_number(hit["sort"][1])
        for hit in hits
        if all(
            any(word.startswith(prefix) for word in hit["_source"]["words"]) for prefix in prefixes
        )
    )
    return list(islice(found, limit))


def best(ranks: Iterable[tuple[float, str]], limit: int) -> Sequence[int]:
    return [known_id_number(one) for _, one in sorted(ranks, reverse=True)[:limit]]
