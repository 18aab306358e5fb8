"""Histories for tests, appended to a real log."""

from datetime import UTC, datetime

from domain.shared.identifiers import id_text
from domain.social.relation.events import Followed
from infra.adapters.log.event_log import PostgresEventLog
from infra.ports.log import Recorded

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def follow(follower: int, followee: int) -> Recorded:
    event = Followed(follower_id=id_text(follower), followee_id=id_text(followee))
    stream = f"relation:{event.follower_id}:{event.followee_id}"
    return Recorded(stream=stream, version=1, recorded_at=NOON, event=event)


async def append_follows(postgres_url: str, count: int, followees: int = 500) -> list[int]:
    """Append follows of many different accounts; answers their positions."""
    log = await PostgresEventLog.open(postgres_url)
    events = [follow(1_000_000 + n, 1 + n % followees) for n in range(count)]
    positions: list[int] = []
    for start in range(0, count, 1000):
        positions += await log.append(events[start : start + 1000])
    await log.close()
    return positions
