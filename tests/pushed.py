"""A small square for tests of pushed timelines: its log, its tables and its law in plain lists."""

# ruff: noqa: ARG002 -- Its ports name what these plain lists do not need.

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from domain.shared.identifiers import id_text
from domain.shared.personal import Personal
from domain.social.engagement.events import PostReposted, RepostRemoved
from domain.social.post.events import PostDeleted, PostPublished, PostReference
from domain.social.relation.events import Followed, Unfollowed
from infra.formats.packed_timeline import brought_since, decode, merge
from infra.ports.frames import SOCIAL_PARTITIONS, Frame, partition_of
from infra.ports.log import Recorded
from infra.ports.timelines import Brought, Members, PackedTimeline, TimelineReader

CAP = 800
BEFORE_FOLLOW = 20
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

Entry = tuple[int, int]


@dataclass
class PushedSquare:
    """The log as a list; position is place in it, times `stride`, plus `base`.

    It answers what a fan-out asks of tables and log (`TimelineSources`, and `EventLog` in part).
    """

    base: int = 0
    log: list[Recorded] = field(default_factory=list)
    posts: list[tuple[str, int, int]] = field(default_factory=list)
    following: set[tuple[int, int]] = field(default_factory=set)
    reposted: set[tuple[int, str]] = field(default_factory=set)
    brought: dict[int, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    relations: list[tuple[int, int, int, bool]] = field(default_factory=list)

    # What happens.

    @property
    def position(self) -> int:
        return self.log[-1].position if self.log else self.base

    def record(self, event: Any) -> int:
        position = self.position + 1
        self.log.append(
            Recorded(stream="s", version=1, recorded_at=NOON, event=event, position=position)
        )
        return position

    def post(self, author: int, *, reply_to: tuple[str, int] | None = None) -> int:
        post_id = id_text(1 << 40 | len(self.log))
        parent = None if reply_to is None else PostReference(reply_to[0], id_text(reply_to[1]))
        position = self.record(
            PostPublished(
                post_id=post_id,
                author_id=id_text(author),
                content=Personal(),
                created_at=NOON,
                reply_to=parent,
                continues_thread=reply_to is not None and reply_to[1] == author,
            )
        )
        self.posts.append((post_id, author, position))
        if reply_to is None or reply_to[1] == author:
            self.brought[author].append((position, position))
        return position

    def repost(self, member: int, post: tuple[str, int, int]) -> int:
        self.reposted.add((member, post[0]))
        position = self.record(
            PostReposted(
                post_id=post[0],
                author_id=id_text(post[1]),
                member_id=id_text(member),
                post_position=post[2],
            )
        )
        self.brought[member].append((position, post[2]))
        return position

    def follow(self, follower: int, followee: int) -> None:
        if follower != followee and (follower, followee) not in self.following:
            self.following.add((follower, followee))
            event = Followed(follower_id=id_text(follower), followee_id=id_text(followee))
            self.relations.append((self.record(event), follower, followee, True))

    def unfollow(self, follower: int, followee: int) -> None:
        if (follower, followee) in self.following:
            self.following.remove((follower, followee))
            event = Unfollowed(follower_id=id_text(follower), followee_id=id_text(followee))
            self.relations.append((self.record(event), follower, followee, False))

    def happen(self, chance: random.Random, members: Sequence[int]) -> None:
        """One random thing."""
        one, other = chance.choice(members), chance.choice(members)
        match chance.choices(
            ["post", "reply", "repost", "back", "delete", "follow", "unfollow"],
            [40, 10, 15, 3, 3, 14, 10],
        )[0]:
            case "reply" if self.posts:
                answered = chance.choice(self.posts)
                self.post(one, reply_to=answered[:2])
            case "repost" if self.posts:
                post = chance.choice(self.posts[-50:])
                if (one, post[0]) not in self.reposted:
                    self.repost(one, post)
            case "back" if self.reposted:
                member, post_id = chance.choice(sorted(self.reposted))
                self.reposted.remove((member, post_id))
                self.record(
                    RepostRemoved(post_id=post_id, author_id=id_text(0), member_id=id_text(member))
                )
            case "delete" if self.posts:
                post = chance.choice(self.posts)
                self.record(PostDeleted(post_id=post[0], author_id=id_text(post[1])))
            case "follow":
                self.follow(one, other)
            case "unfollow" if self.following:
                self.unfollow(*chance.choice(sorted(self.following)))
            case _:
                self.post(one)

    def frames(self, after: int, last: int | None = None) -> list[Frame]:
        """One frame per partition for a stretch of the log."""
        end = self.position if last is None else last
        found: dict[int, list[Recorded]] = {p: [] for p in SOCIAL_PARTITIONS}
        for recorded in self.log[after - self.base : end - self.base]:
            found[partition_of(recorded.event)].append(recorded)
        return [Frame(p, after, after + 1, end, events) for p, events in found.items()]

    # The law, in the plainest way there is.

    def entries_of(self, author: int, at: int) -> list[Entry]:
        return [entry for entry in self.brought[author] if entry[0] <= at]

    def follows_of(self, member: int, at: int) -> dict[int, int]:
        since: dict[int, int] = {}
        for position, follower, followee, follows in self.relations:
            if follower == member and position <= at:
                if follows:
                    since[followee] = position
                else:
                    del since[followee]
        return since

    def timeline(self, member: int, at: int | None = None) -> list[Entry]:
        """Newest first, before anything is subtracted."""
        end = self.position if at is None else at
        found = set(self.entries_of(member, end))
        for author, since in self.follows_of(member, end).items():
            entries = self.entries_of(author, end)
            found.update([e for e in entries if e[0] <= since][-BEFORE_FOLLOW:])
            found.update([e for e in entries if e[0] > since])
        return sorted(found, reverse=True)[:CAP]

    def followers_of(self, author: int, at: int) -> set[int]:
        found: set[int] = set()
        for position, follower, followee, follows in self.relations:
            if followee == author and position <= at:
                (found.add if follows else found.discard)(follower)
        return found

    # `TimelineSources`, always at the end of the log.

    async def followers(
        self, partition: int, position: int, author_ids: Collection[int], limit: int
    ) -> Mapping[int, Members]:
        found = {author: self.followers_of(author, position) for author in author_ids}
        return {a: np.array(sorted(f)[:limit], np.int64) for a, f in found.items() if f}

    async def follower_count(self, partition: int, position: int, author_id: int) -> int:
        return len(self.followers_of(author_id, position))

    async def entries(
        self, partition: int, position: int, author_id: int, limit: int
    ) -> Sequence[Brought]:
        return [Brought(*entry) for entry in self.entries_of(author_id, position)[-limit:]]

    async def checkpoints(self) -> Mapping[int, int]:
        return dict.fromkeys(SOCIAL_PARTITIONS, self.position)

    async def gone(self, positions: Collection[int]) -> Collection[int]:
        deleted = {r.event.post_id for r in self.log if isinstance(r.event, PostDeleted)}
        posts = {position for post_id, _, position in self.posts if post_id in deleted}
        taken_back: set[int] = set()
        standing: dict[tuple[str, str], int] = defaultdict(int)
        for recorded in self.log:
            event = recorded.event
            if isinstance(event, PostReposted):
                standing[event.member_id, event.post_id] = recorded.position
                if event.post_position in posts:
                    taken_back.add(recorded.position)
            elif isinstance(event, RepostRemoved):
                taken_back.add(standing[event.member_id, event.post_id])
        return [p for p in positions if p in posts or p in taken_back]

    # `EventLog`, as far as a fan-out needs it.

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        start = after - self.base
        return self.log[start : start + limit]

    async def head(self) -> int:
        return self.position


async def shown(
    reader: TimelineReader, square: PushedSquare, member: int, *, keep: bool = True
) -> list[Entry] | None:
    """What a page would be made of; where nothing is kept, pulls and keeps it.

    None if it can be read neither way at this moment.
    """
    follows = square.follows_of(member, square.position) | {member: 0}

    def followed(celebrities: frozenset[int]) -> Collection[int]:
        return [author for author in follows if author in celebrities]

    packed = await reader.read(member, followed)
    if packed is None:
        building = await reader.begin(member) if keep else None
        pulled = square.timeline(member)
        if building is not None:
            await reader.finish(building, square.position, pulled)
        return None if keep else pulled
    return unpacked(packed, follows, square.position)


def unpacked(packed: PackedTimeline, follows: Mapping[int, int], now: int) -> list[Entry]:
    lists = [decode(packed.slots, now)]
    for author, slots in packed.celebrities.items():
        lists.append(brought_since(decode(slots, now), follows[author], BEFORE_FOLLOW))
    positions, posts = merge(lists)
    return list(zip(positions.tolist(), posts.tolist(), strict=True))
