"""A small square for tests: real events in a real log, folded into real read tables on demand."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Self

from domain.shared.identifiers import id_number, make_id
from domain.shared.personal import Personal
from domain.social.engagement.events import PostLiked, PostReposted, PostUnliked, RepostRemoved
from domain.social.member.events import MemberErased, MemberRegistered, ProfileChanged
from domain.social.post.events import PostDeleted, PostPublished, PostReference
from domain.social.relation.events import (
    Blocked,
    Followed,
    Muted,
    Unblocked,
    Unfollowed,
    Unmuted,
)
from domain.social.session.events import SessionEnded
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.migrations import migrate
from infra.adapters.reads.postgres_timeline_sources import PostgresTimelineSources
from infra.adapters.secrets.keyring import PostgresKeyring, secret
from infra.adapters.tables.postgres_projections import PostgresProjections
from infra.adapters.timelines.redis_timelines import RedisTimelines
from infra.formats.codec import seal_event, username_key
from infra.http.authentication import Session, Tokens
from infra.ports.frames import SOCIAL_PARTITIONS, Frame, partition_of
from infra.ports.log import Recorded
from infra.runtime.projecting.projection import Projection
from infra.runtime.timelines.fanout import Limits, TimelineFanout
from projections import COMMERCE, SOCIAL
from projections.home_timeline import effect_of

EVENTS_MAX = 5_000


@dataclass
class Square:
    """Appends what members do and answers its position; nothing is decided, all of it happens."""

    url: str
    log: PostgresEventLog
    keyring: PostgresKeyring
    tables: PostgresProjections
    names: bytes
    tokens: Tokens
    now: datetime
    versions: dict[str, int] = field(default_factory=dict)
    posts: dict[str, tuple[PostPublished, int]] = field(default_factory=dict)
    history: list[Recorded] = field(default_factory=list)
    applied: int = 0
    fanout: TimelineFanout | None = None
    chances: Iterator[int] = field(default_factory=count)
    projections: Sequence[Projection] = SOCIAL

    @classmethod
    async def open(cls, url: str, *, commerce: bool = False) -> Self:
        """With `commerce`, what is sold is folded too."""
        await migrate(url)
        projections = (*SOCIAL, *COMMERCE) if commerce else SOCIAL
        square = cls(
            url,
            await PostgresEventLog.open(url),
            await PostgresKeyring.connect(url),
            PostgresProjections(url, projections),
            await secret(url, "username"),
            Tokens(await secret(url, "token")),
            datetime.now(UTC).replace(microsecond=0) - timedelta(hours=12),
            projections=projections,
        )
        await square.tables.checkpoints()
        return square

    async def close(self) -> None:
        await self.tables.close()
        await self.log.close()
        await self.keyring.close()

    # What happens.

    async def record(self, stream: str, event: Any) -> int:
        return (await self.record_all([(stream, event)]))[0]

    async def record_all(self, happened: Sequence[tuple[str, Any]]) -> Sequence[int]:
        recorded = []
        for stream, event in happened:
            version = self.versions[stream] = self.versions.get(stream, 0) + 1
            self.now += timedelta(milliseconds=10)
            sealed = seal_event(event, self.keyring)
            recorded.append(
                Recorded(stream=stream, version=version, recorded_at=self.now, event=sealed)
            )
        return await self.log.append(recorded)

    def new_id(self) -> str:
        return make_id(int(self.now.timestamp() * 1000), next(self.chances))

    async def member(self, name: str) -> str:
        member_id = self.new_id()
        await self.keyring.create(member_id)
        event = MemberRegistered(
            member_id=member_id,
            username_key=username_key(self.names, name),
            username=Personal(name),
            display_name=Personal(name.title()),
            bio=Personal(f"I am {name}"),
            email=Personal(f"{name}@example.org"),
            created_at=self.now,
        )
        await self.record(f"member:{member_id}", event)
        return member_id

    async def rename(self, member_id: str, display_name: str) -> int:
        event = ProfileChanged(member_id=member_id, display_name=Personal(display_name))
        return await self.record(f"member:{member_id}", event)

    async def erase(self, member_id: str) -> int:
        await self.keyring.destroy(member_id)
        return await self.record(f"member:{member_id}", MemberErased(member_id=member_id))

    def published(self, author: str, text: str, **members: Any) -> PostPublished:
        return PostPublished(
            post_id=self.new_id(),
            author_id=author,
            content=Personal(text),
            created_at=self.now,
            **members,
        )

    async def post(self, author: str, text: str = "hello", **members: Any) -> str:
        event = self.published(author, text, **members)
        position = await self.record(f"post:{event.post_id}", event)
        self.posts[event.post_id] = event, position
        return event.post_id

    async def reply(self, author: str, parent: str, text: str = "a reply") -> str:
        above, _ = self.posts[parent]
        continues = above.author_id == author and (above.reply_to is None or above.continues_thread)
        return await self.post(
            author,
            text,
            reply_to=PostReference(parent, above.author_id),
            root=above.root or PostReference(parent, above.author_id),
            continues_thread=continues,
        )

    async def delete(self, post_id: str) -> int:
        post, _ = self.posts[post_id]
        event = PostDeleted(post_id=post_id, author_id=post.author_id, reply_to=post.reply_to)
        return await self.record(f"post:{post_id}", event)

    async def _engage(self, kind: type, verb: str, member: str, post_id: str, **more: Any) -> int:
        post, _ = self.posts[post_id]
        event = kind(post_id=post_id, author_id=post.author_id, member_id=member, **more)
        return await self.record(f"{verb}:{post_id}:{member}", event)

    async def like(self, member: str, post_id: str) -> int:
        return await self._engage(PostLiked, "like", member, post_id)

    async def unlike(self, member: str, post_id: str) -> int:
        return await self._engage(PostUnliked, "like", member, post_id)

    async def repost(self, member: str, post_id: str) -> int:
        position = self.posts[post_id][1]
        return await self._engage(PostReposted, "repost", member, post_id, post_position=position)

    async def unrepost(self, member: str, post_id: str) -> int:
        return await self._engage(RepostRemoved, "repost", member, post_id)

    async def follow(self, follower: str, followee: str) -> int:
        event = Followed(follower_id=follower, followee_id=followee)
        return await self.record(f"relation:{follower}:{followee}", event)

    async def unfollow(self, follower: str, followee: str) -> int:
        event = Unfollowed(follower_id=follower, followee_id=followee)
        return await self.record(f"relation:{follower}:{followee}", event)

    async def hide(self, viewer: str, target: str, kind: str) -> int:
        event = (
            Blocked(blocker_id=viewer, blocked_id=target)
            if kind == "block"
            else Muted(muter_id=viewer, muted_id=target)
        )
        return await self.record(f"relation:{viewer}:{target}", event)

    async def unhide(self, viewer: str, target: str, kind: str) -> int:
        event = (
            Unblocked(blocker_id=viewer, blocked_id=target)
            if kind == "block"
            else Unmuted(muter_id=viewer, muted_id=target)
        )
        return await self.record(f"relation:{viewer}:{target}", event)

    # Who asks.

    def session(self, member_id: str) -> Session:
        expiry = int(datetime.now(UTC).timestamp()) + 3600
        return Session(self.new_id(), member_id, expiry)

    async def end_session(self, session: Session) -> int:
        expires = datetime.fromtimestamp(session.expires_at, UTC)
        event = SessionEnded(
            session_id=session.session_id, member_id=session.member_id, expires_at=expires
        )
        return await self.record(f"session:{session.session_id}", event)

    # What is read.

    async def apply(self, until: int | None = None) -> int:
        """Fold what has happened (up to a position) into the read tables; answers how far it is."""
        head = await self.log.head() if until is None else until
        while self.applied < head:
            events = [
                e for e in await self.log.read(self.applied, EVENTS_MAX) if e.position <= head
            ]
            reached = events[-1].position if len(events) == EVENTS_MAX else head
            for sealed in self.projections:
                projection = sealed.with_texts(self.keyring)
                await projection.prepare(events)
                name, partitions = projection.name, projection.partitions
                folded = [
                    (e.position, projection.fold(e)) for e in events if projection.folds(e.event)
                ]
                async with self.tables.transaction([name], partitions) as transaction:
                    await transaction.write(name, folded)
                    transaction.advance(name, dict.fromkeys(partitions, reached))
            if self.fanout is not None:
                await self.fanout.apply(frames(events, self.applied, reached))
            self.history += events
            self.applied = reached
        return self.applied


def frames(events: Sequence[Recorded], after: int, last: int) -> list[Frame]:
    """One frame a partition for a stretch of the log."""
    by_partition: dict[int, list[Recorded]] = {p: [] for p in SOCIAL_PARTITIONS}
    for recorded in events:
        by_partition[partition_of(recorded.event)].append(recorded)
    return [Frame(p, after, after + 1, last, found) for p, found in by_partition.items()]


@asynccontextmanager
async def pushing(square: Square, redis_url: str, celebrities_from: int) -> AsyncIterator[None]:
    """Have everything that is applied to the tables pushed to timelines too."""
    store = RedisTimelines(redis_url)
    sources = PostgresTimelineSources(square.url)
    await store.open()
    try:
        assert await store.wait_until_reachable(5)
        limits = Limits(celebrities_from=celebrities_from)
        square.fanout = TimelineFanout(store, sources, square.log, effect_of, limits=limits)
        await square.fanout.catch_up()
        yield
    finally:
        square.fanout = None
        await sources.close()
        await store.close()


def numbers(ids: Sequence[str]) -> list[int]:
    return [id_number(text) for text in ids]
