"""Seeded random histories of the square, as the deciders would have recorded them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from domain.events import AnyEvent
from domain.shared.identifiers import id_text
from domain.shared.message import tag_of
from domain.shared.personal import Personal
from domain.social.engagement.events import (
    PostLiked,
    PostReposted,
    PostUnliked,
    RepostRemoved,
)
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
from domain.social.session.events import SessionEnded, SessionStarted
from infra.ports.log import Recorded

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

ACTIONS = {
    "post": 24,
    "reply": 14,
    "delete": 5,
    "like": 12,
    "repost": 8,
    "follow": 20,
    "block": 2,
    "mute": 2,
    "profile": 3,
    "session": 2,
    "erase": 0.2,
}


@dataclass
class History:
    """What has happened so far; positions are those of a log without gaps, from 1."""

    seed: int
    members_max: int = 12
    dice: random.Random = field(init=False)
    members: list[str] = field(default_factory=list)
    erased: set[str] = field(default_factory=set)
    posts: dict[str, tuple[PostPublished, int]] = field(default_factory=dict)
    standing: list[str] = field(default_factory=list)
    follows: set[tuple[str, str]] = field(default_factory=set)
    hides: set[tuple[str, str, str]] = field(default_factory=set)
    likes: set[tuple[str, str]] = field(default_factory=set)
    reposts: set[tuple[str, str]] = field(default_factory=set)
    position: int = 0

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def events(self, count: int) -> Iterator[Recorded]:
        for _ in range(self.members_max):
            yield self._recorded(self._registered())
        while self.position < count:
            yield self._recorded(self._next())

    def _recorded(self, event: AnyEvent) -> Recorded:
        self.position += 1
        return Recorded(
            stream=f"test:{self.seed}-{self.position}",
            version=1,
            recorded_at=NOON + timedelta(seconds=self.position),
            event=event,
            position=self.position,
        )

    def _registered(self) -> MemberRegistered:
        number = len(self.members) + 1
        self.members.append(id_text(self.seed * 1000 + number))
        return MemberRegistered(
            member_id=self.members[-1],
            username_key=f"key{number}",
            username=sealed(f"name{number}"),
            display_name=sealed(f"Name {number}"),
            bio=Personal(),
            email=Personal(),
            created_at=NOON,
        )

    def _next(self) -> AnyEvent:
        while True:
            action = self.dice.choices(list(ACTIONS), list(ACTIONS.values()))[0]
            member = self.dice.choice([m for m in self.members if m not in self.erased])
            event: AnyEvent | None = getattr(self, f"_{action}")(member)
            if event is not None:
                return event

    def _other(self, member: str) -> str:
        return self.dice.choice([m for m in self.members if m != member])

    def _post(self, member: str, above: PostPublished | None = None) -> AnyEvent:
        post_id = id_text(10**9 + self.seed * 10**6 + self.position)
        parent = PostReference(above.post_id, above.author_id) if above else None
        continues = bool(
            above
            and above.author_id == member
            and (above.reply_to is None or above.continues_thread)
        )
        event = PostPublished(
            post_id=post_id,
            author_id=member,
            content=sealed(f"post {self.position} by {member}"),
            created_at=NOON - timedelta(microseconds=self.position),
            media_urls=Personal(sealed=b"sealed media") if self.dice.randrange(3) else Personal(()),
            reply_to=parent,
            root=above.root or parent if above else None,
            continues_thread=continues,
        )
        self.posts[post_id] = event, self.position + 1
        self.standing.append(post_id)
        return event

    def _reply(self, member: str) -> AnyEvent | None:
        own = [p for p in self.standing if self.posts[p][0].author_id == member]
        choices = own if own and self.dice.random() < 0.5 else self.standing
        return self._post(member, self.posts[self.dice.choice(choices)][0]) if choices else None

    def _delete(self, _member: str) -> AnyEvent | None:
        if not self.standing:
            return None
        post_id = self.dice.choice(self.standing)
        self.standing.remove(post_id)
        post = self.posts[post_id][0]
        return PostDeleted(post_id=post_id, author_id=post.author_id, reply_to=post.reply_to)

    def _like(self, member: str) -> AnyEvent | None:
        if not self.standing:
            return None
        post = self.posts[self.dice.choice(self.standing[-9:])][0]
        names = {"post_id": post.post_id, "author_id": post.author_id, "member_id": member}
        if toggled(self.likes, (post.post_id, member)):
            return PostLiked(**names)
        return PostUnliked(**names)

    def _repost(self, member: str) -> AnyEvent | None:
        if not self.standing:
            return None
        post, position = self.posts[self.dice.choice(self.standing[-9:])]
        names = {"post_id": post.post_id, "author_id": post.author_id, "member_id": member}
        if toggled(self.reposts, (post.post_id, member)):
            return PostReposted(**names, post_position=position)
        return RepostRemoved(**names)

    def _follow(self, member: str) -> AnyEvent:
        other = self._other(member)
        if toggled(self.follows, (member, other)):
            return Followed(follower_id=member, followee_id=other)
        return Unfollowed(follower_id=member, followee_id=other)

    def _block(self, member: str) -> AnyEvent:
        other = self._other(member)
        if toggled(self.hides, (member, other, "block")):
            return Blocked(blocker_id=member, blocked_id=other)
        return Unblocked(blocker_id=member, blocked_id=other)

    def _mute(self, member: str) -> AnyEvent:
        other = self._other(member)
        if toggled(self.hides, (member, other, "mute")):
            return Muted(muter_id=member, muted_id=other)
        return Unmuted(muter_id=member, muted_id=other)

    def _profile(self, member: str) -> AnyEvent:
        bio = sealed(f"bio at {self.position}") if self.dice.random() < 0.8 else None
        return ProfileChanged(
            member_id=member, bio=bio, display_name=sealed(f"Name at {self.position}")
        )

    def _session(self, member: str) -> AnyEvent:
        session_id = id_text(2 * 10**9 + self.position)
        if self.dice.random() < 0.5:
            return SessionStarted(session_id=session_id, member_id=member, expires_at=NOON)
        return SessionEnded(session_id=session_id, member_id=member, expires_at=NOON)

    def _erase(self, member: str) -> AnyEvent | None:
        if len(self.erased) > self.members_max // 3:
            return None
        self.erased.add(member)
        return MemberErased(member_id=member)


def sealed(text: str) -> Personal[str]:
    """Stands for an encrypted text: tables must copy it as it is."""
    return Personal(sealed=text.encode())


def toggled(known: set[Any], one: Any) -> bool:
    """Put one in, or take it out if it is in; answers whether it is in now."""
    known.symmetric_difference_update({one})
    return one in known


def as_lines(events: list[Recorded]) -> list[dict[str, Any]]:
    """Events in the form of `plaza log tail`, as the oracle reads them."""
    return [
        {
            "type": tag_of(type(recorded.event)),
            "position": recorded.position,
            "data": camel(msgspec.to_builtins(recorded.event)),
        }
        for recorded in events
    ]


def camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            first + "".join(part.title() for part in rest): camel(one)
            for name, one in value.items()
            for first, *rest in [name.split("_")]
        }
    return value
