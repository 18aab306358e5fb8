"""Two logs of a day to fold trends from: what demos record, and posts alone."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count

from domain.events import AnyEvent
from domain.shared.identifiers import id_text
from domain.shared.personal import Personal
from domain.social.engagement.events import PostLiked, PostReposted
from domain.social.member.events import MemberRegistered, UsernameClaimed
from domain.social.post.events import PostPublished, PostReference
from domain.social.relation.events import Followed
from domain.social.session.events import SessionStarted
from infra.command_line.demo_world import Said, make_world
from infra.formats.codec import seal_event
from infra.ports.log import Recorded
from infra.ports.secrets import Keyring
from tests.benchmarks.rebuild import NOON

MEMBERS = 8_000
TAGS = 20_000
WORDS = "the garden was quiet after rain and somebody had left a kettle on near the open window"
DAY = timedelta(hours=23, minutes=59)


def recorded(events: Iterator[AnyEvent], keyring: Keyring, length: int) -> Iterator[Recorded]:
    """So many of these events, spread over a day; the keys that seal them are in memory."""
    for position in range(1, length + 1):
        yield Recorded(
            stream=f"bench:{position}",
            version=1,
            recorded_at=moment(position, length),
            event=seal_event(next(events), keyring),
            position=position,
        )


def moment(position: int, length: int) -> datetime:
    return NOON + DAY * position / length


def member(number: int) -> str:
    return id_text(1_000_000 + number % MEMBERS * 7919)


def post(number: int) -> str:
    return id_text(10**15 + number * 4_000_037)


def demos(length: int) -> Iterator[AnyEvent]:
    """What the small demo records, in one world after the other, which know nothing of each other.

    Of 100 events 53 are likes, 16 posts, 13 follows, 9 reposts, and 8 what it takes to join; 47
    of 100 posts have tags.
    """
    demo = Demo(length)
    for seed in count():
        yield from demo.happen(seed)


class Demo:
    """Counts members, posts and positions from one world to the next."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._members = 0
        self._posts = 0
        self._position = 0

    def happen(self, seed: int) -> Iterator[AnyEvent]:
        for event in self._world(seed):
            self._position += 1
            yield event

    def _world(self, seed: int) -> Iterator[AnyEvent]:
        world = make_world(seed, "small")
        first_member, first_post = self._members, self._posts
        self._members += len(world.people)
        self._posts += len(world.said)
        people = [member(first_member + number) for number in range(len(world.people))]
        posts = [post(first_post + number) for number in range(len(world.said))]
        authors = [people[said.author] for said in world.said]
        for number, person in enumerate(world.people):
            yield from self._joins(people[number], person.username, person.bio)
        for follower, followee in world.follows:
            yield Followed(follower_id=people[follower], followee_id=people[followee])
        first_position = self._position
        for number, said in enumerate(world.said):
            yield self._says(posts, authors, number, said)
        for who, which in world.likes:
            yield PostLiked(post_id=posts[which], author_id=authors[which], member_id=people[who])
        for who, which in world.reposts:
            yield PostReposted(
                post_id=posts[which],
                author_id=authors[which],
                member_id=people[who],
                post_position=first_position + which + 1,
            )

    def _joins(self, member_id: str, username: str, bio: str) -> Iterator[AnyEvent]:
        key = member_id.zfill(32)
        yield UsernameClaimed(username_key=key, member_id=member_id)
        yield MemberRegistered(
            member_id=member_id,
            username_key=key,
            username=Personal(username),
            display_name=Personal(username.title()),
            bio=Personal(bio),
            email=Personal(f"{username}@example.org"),
            created_at=moment(self._position, self._length),
        )
        yield SessionStarted(
            session_id=member_id, member_id=member_id, expires_at=NOON + timedelta(days=30)
        )

    def _says(self, posts: list[str], authors: list[str], number: int, said: Said) -> AnyEvent:
        above, quoted = (
            None if one is None else PostReference(posts[one], authors[one])
            for one in (said.reply_to, said.quote_of)
        )
        return PostPublished(
            post_id=posts[number],
            author_id=authors[number],
            content=Personal(said.content),
            created_at=moment(self._position, self._length),
            reply_to=above,
            root=above,
            quote_of=quoted,
        )


def posts_alone(length: int) -> Iterator[AnyEvent]:
    """By members of unequal activity with tags of unequal renown; three quarters have some."""
    dice = random.Random(1)
    for position in count(1):
        used = [f"#tag{int(TAGS * dice.random() ** 3)}" for _ in range(dice.randrange(4))]
        yield PostPublished(
            post_id=post(position),
            author_id=member(int(5_000 * dice.random() ** 2)),
            content=Personal(" ".join([WORDS, *used])),
            created_at=moment(position, length),
        )
