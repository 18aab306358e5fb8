"""What a reader is shown whose timeline is empty: posts of popular accounts, and on what trends.

The same few hundred posts are chosen for everybody and kept for a moment; each reader is shown
those that may be shown to them. They are no part of the timeline: as soon as that has an entry,
nothing is recommended any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby, zip_longest

import msgspec

from infra.http.consistency import Applied
from infra.ports.discovery import WINDOW, Discovery, PopularPost, TaggedPost
from infra.ports.log import Clock
from query_api.caches.kept import Kept
from query_api.context import Context
from query_api.suggestions import popular_with
from query_api.timelines.items import TAIL_BYTES, Flags, Item, tail
from query_api.timelines.viewers import Viewer
from query_api.trends.board import Board

POPULAR_MAX = 60
POSTS_EACH = 3
TOPICS_MAX = 20
TAGGED_MAX = 100
RECOMMENDED_MAX = 200
ANY_REASON = "Popular on Plaza"


@dataclass(frozen=True)
class Chosen:
    """Positions of posts, best first, each with its author and why it was chosen."""

    authors: dict[int, int]
    reasons: dict[int, str]


class Recommendations:
    def __init__(self, discovery: Discovery, board: Board, applied: Applied, clock: Clock) -> None:
        self._discovery = discovery
        self._board = board
        self._clock = clock
        self._kept = Kept(self._choose, applied)

    async def for_reader(self, viewer: Viewer, after: int) -> Sequence[int]:
        """What this reader may be shown: nothing of their own, by somebody hidden from them, or by
        an account that they have left."""
        chosen = await self._kept.get(after)
        left = await self._discovery.ever_followed(
            viewer.number, frozenset(chosen.authors.values())
        )
        return [
            position
            for position, author in chosen.authors.items()
            if author not in left and author not in viewer.hidden and author != viewer.number
        ]

    async def reason(self, position: int) -> str:
        return (await self._kept.get()).reasons.get(position, ANY_REASON)

    async def _choose(self) -> Chosen:
        moment = self._clock()
        accounts = await self._discovery.popular(POPULAR_MAX)
        popular = await self._discovery.posts_of_popular(accounts, POSTS_EACH)
        topics = [topic.name for topic in (await self._board.now()).trends[:TOPICS_MAX]]
        tagged = await self._discovery.tagged(topics, moment - WINDOW, TAGGED_MAX) if topics else ()
        return blended(popular, tagged, topics)


def blended(
    popular: Sequence[PopularPost], tagged: Sequence[TaggedPost], topics: Sequence[str]
) -> Chosen:
    """Posts of the two kinds in turn; of each popular account the newest before its second one, and
    of nobody more than `POSTS_EACH`."""
    by_account = groupby(
        sorted(popular, key=lambda post: (-post.followers, post.author_id, -post.position)),
        key=lambda post: post.author_id,
    )
    rounds = zip_longest(*(list(posts) for _, posts in by_account))
    first = [
        (post.position, post.author_id, popular_with(post.followers))
        for post in chain.from_iterable(rounds)
        if post is not None
    ]
    second = [(post.position, post.author_id, trending(post, topics)) for post in tagged]
    authors: dict[int, int] = {}
    reasons: dict[int, str] = {}
    counts: dict[int, int] = {}
    for one in chain.from_iterable(zip_longest(first, second)):
        if one is None or len(authors) == RECOMMENDED_MAX:
            continue
        position, author, reason = one
        if position not in authors and counts.get(author, 0) < POSTS_EACH:
            counts[author] = counts.get(author, 0) + 1
            authors[position], reasons[position] = author, reason
    return Chosen(authors, reasons)


def trending(post: TaggedPost, topics: Sequence[str]) -> str:
    return f"Trending: #{next(topic for topic in topics if topic in post.tags)}"


async def recommended_posts(
    context: Context,
    recommendations: Recommendations,
    viewer: Viewer,
    left: Sequence[int],
    wanted: int,
) -> tuple[bytes, Sequence[int]]:
    """The JSON of the next `wanted` posts that still stand, and those that are left, if any of
    them stands."""
    shown: list[Item] = []
    # One more than is shown tells whether there is a next page.
    while left and len(shown) <= wanted:
        taken = wanted + 1 - len(shown)
        items = await context.items.by_position(left[:taken])
        shown += [
            item
            for position in left[:taken]
            if (item := items.get(position)) is not None
            and item.post_stands
            and item.author_id not in viewer.hidden
        ]
        left = left[taken:]
    left = [item.post_position for item in shown[wanted:]] + [*left]
    del shown[wanted:]
    await context.viewers.know(viewer, [item.post_position for item in shown])
    parts = [
        recommended(
            item,
            viewer.flags(item.post_position),
            await recommendations.reason(item.post_position),
        )
        for item in shown
    ]
    return b",".join(parts), left


def recommended(item: Item, flags: Flags, reason: str) -> bytes:
    head = item.plain[:-TAIL_BYTES]
    return head + b'"reason":' + msgspec.json.encode(reason) + b"," + tail("recommended", flags)
