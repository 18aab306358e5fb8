"""From what is shown to the bytes of a page."""

from collections.abc import Sequence

from query_api.timelines.items import Item
from query_api.timelines.viewers import Viewer

Page = list[tuple[bytes, bytes]]


def posts_json(shown: Sequence[Item], viewer: Viewer) -> bytes:
    """The items of a page, joined, with the flags of this reader."""
    liked, reposted = viewer.liked, viewer.reposted
    parts = [
        found.plain
        if found.post_position not in liked and found.post_position not in reposted
        else found.json((found.post_position in liked, found.post_position in reposted))
        for found in shown
    ]
    return b",".join(parts)


def post_page(
    shown: Sequence[Item], viewer: Viewer, next_cursor: str | None, *, degraded: bool = False
) -> bytes:
    return page_json(posts_json(shown, viewer), next_cursor, degraded=degraded)


def page_json(posts: bytes, next_cursor: str | None, *, degraded: bool = False) -> bytes:
    end = (
        b'],"nextCursor":null,"hasMore":false'
        if next_cursor is None
        else b'],"nextCursor":"' + next_cursor.encode() + b'","hasMore":true'
    )
    flag = b',"degraded":true}' if degraded else b"}"
    return b'{"posts":[' + posts + end + flag
