"""The example of docs/examples/analysis.py finds in an export what the events say."""

import importlib.util
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from domain.commerce.cart.events import CartItemPut
from domain.commerce.order.events import OrderConfirmed, OrderCreated
from domain.social.member.events import MemberRegistered
from domain.social.post.events import PostPublished
from domain.social.relation.events import Followed, Unfollowed
from infra.ports.log import Recorded
from tests.weeks import EXAMPLE, PICTURE, Weeks, exported


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("analysis", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def followers(events: Sequence[Recorded]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for one in events:
        if isinstance(one.event, Followed | Unfollowed):
            counts[one.event.followee_id] += 1 if isinstance(one.event, Followed) else -1
    return counts


def funnel(events: Sequence[Recorded]) -> dict[str, int]:
    shown: set[tuple[str | None, str]] = set()
    put: set[tuple[str, str | None, str]] = set()
    paid = {one.event.order_id for one in events if isinstance(one.event, OrderConfirmed)}
    orders: dict[str, OrderCreated] = {}
    for one in events:
        match one.event:
            case PostPublished() as post:
                shown |= {(post.post_id, product) for product in post.product_ids}
            case CartItemPut() as found:
                put.add((found.member_id, found.item.source_post_id, found.item.product_id))
            case OrderCreated() as order:
                orders[order.order_id] = order
            case _:
                pass
    attributed = {
        order.order_id: sum(
            line.quantity * line.price.value
            for line in order.lines
            if (line.source_post_id, line.product_id) in shown
        )
        for order in orders.values()
    }
    from_posts = {order_id for order_id, value in attributed.items() if value}
    return {
        "posts_with_products": len({post for post, _ in shown}),
        "put_into_carts": sum((post, product) in shown for _, post, product in put),
        "orders": len(from_posts),
        "confirmed_orders": len(from_posts & paid),
        "minor_units": sum(attributed[order_id] for order_id in from_posts & paid),
        "orders_without_a_post": sum(
            any(line.source_post_id is None for line in order.lines) for order in orders.values()
        ),
    }


def retention(events: Sequence[Recorded]) -> dict[tuple[date, int], tuple[int, int]]:
    joined = {
        one.event.member_id: one.recorded_at
        for one in events
        if isinstance(one.event, MemberRegistered)
    }
    sizes: Counter[date] = Counter()
    active: defaultdict[tuple[date, int], set[str]] = defaultdict(set)
    for at in joined.values():
        sizes[at.date() - timedelta(days=at.weekday())] += 1
    for one in events:
        event: Any = one.event
        if isinstance(event, MemberRegistered | Unfollowed | OrderCreated | OrderConfirmed):
            continue
        member = next(
            getattr(event, name)
            for name in ("follower_id", "member_id", "author_id")
            if hasattr(event, name)
        )
        at = joined[member]
        cohort = at.date() - timedelta(days=at.weekday())
        # Times are taken to whole seconds, as clocks show them.
        seconds = int(one.recorded_at.timestamp()) - int(at.timestamp())
        active[cohort, seconds // 604_800].add(member)
    end = events[-1].recorded_at
    return {
        (cohort, week): (sizes[cohort], len(found))
        for (cohort, week), found in active.items()
        if datetime.combine(cohort, time.min, UTC) + timedelta(weeks=week + 2) <= end
    }


async def test_it_finds_what_the_events_say(postgres_url: str, tmp_path: Path) -> None:
    events = await exported(postgres_url, Weeks(seed=11), tmp_path / "export")
    analysis = example()
    database = analysis.opened(tmp_path / "export")
    newest: dict[str, tuple[date, int]] = {}
    for row in analysis.rows(database, analysis.FOLLOWERS):
        known = newest.get(row["member"])
        if known is None or row["day"] > known[0]:
            newest[row["member"]] = row["day"], row["followers"]
    assert {member: count for member, (_, count) in newest.items()} == followers(events)
    (found,) = analysis.rows(database, analysis.FUNNEL)
    assert found == funnel(events)
    assert found["put_into_carts"] > found["orders"] > found["confirmed_orders"] > 0
    assert {
        (row["cohort"], row["week"]): (row["joined"], row["active"])
        for row in analysis.rows(database, analysis.RETENTION)
    } == retention(events)
    database.close()

    picture = tmp_path / "retention.png"
    words = [sys.executable, str(EXAMPLE), str(tmp_path / "export"), "--plot", str(picture)]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout  # noqa: ASYNC221
    assert f"{found['confirmed_orders']:,}" in said
    for file in (picture, PICTURE):
        assert file.read_bytes().startswith(b"\x89PNG")
