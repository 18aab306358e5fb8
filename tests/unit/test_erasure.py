"""What the erasure of a member takes back, and when it is over."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime

import pytest

from domain.commerce.product.commands import ChangeProduct
from domain.deciders import DECIDERS
from domain.shared.message import Command
from domain.social.engagement.commands import LikePost, RemoveRepost, RepostPost, UnlikePost
from domain.social.engagement.events import PostLiked, PostReposted, PostUnliked, RepostRemoved
from domain.social.member.commands import EraseMember, RegisterMember
from domain.social.member.events import MemberErased
from domain.social.post.commands import DeletePost, PublishPost, SeenPost
from domain.social.post.events import PostDeleted, PostPublished
from domain.social.relation.commands import FollowMember, UnfollowMember
from domain.social.relation.events import Followed, Unfollowed
from infra.adapters.log.memory_event_log import MemoryEventLog
from infra.adapters.processes.memory_progress import MemoryProgress
from infra.adapters.secrets.memory_keyring import MemoryKeyring
from infra.ports.frames import Frame
from infra.ports.log import Recorded
from infra.ports.processes import Trace
from infra.runtime.commands.execute import Executor
from infra.runtime.reacting.react import ProcessRunner
from processes import erasure as erasure_process
from processes.erasure import ERASURES_AT_ONCE_MAX, Erasure, take_back
from tests.unit.test_react import StoredRows
from tests.waiting import PATIENCE_SECONDS, until

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BOBS = SeenPost(post_id="b1", author_id="bob", position=1)


@pytest.mark.parametrize(
    ("trace", "command"),
    [
        (
            Trace("following", "bob"),
            UnfollowMember(follower_id="ann", followee_id="bob", because_of="erasure"),
        ),
        (
            Trace("follower", "bob"),
            UnfollowMember(follower_id="bob", followee_id="ann", because_of="erasure"),
        ),
        (Trace("post", "p"), DeletePost(post_id="p", member_id="ann", because_of="erasure")),
        (Trace("like", "p"), UnlikePost(post_id="p", member_id="ann")),
        (Trace("repost", "p"), RemoveRepost(post_id="p", member_id="ann", because_of="erasure")),
        (
            Trace("product", "p"),
            ChangeProduct(product_id="p", seller_id="ann", for_sale=False, because_of="erasure"),
        ),
    ],
)
def test_each_trace_is_taken_back_by_the_command_that_a_member_would_give(
    trace: Trace, command: Command
) -> None:
    assert take_back("ann", trace) == command


class LateTables:
    """Traces folded from the log, some events late: each look shows a few events more."""

    def __init__(self, log: MemoryEventLog, events_a_look: int) -> None:
        self.log = log
        self.events_a_look = events_a_look
        self.shown = 0
        self.asked = 0
        self.swept = 0
        self.between_looks: list[Command] = []
        self.executor: Executor | None = None

    async def of(self, member_id: str) -> AsyncIterator[Sequence[Trace]]:
        self.swept += 1
        traces = standing(member_id, await self.log.read(0, self.shown))
        for start in range(0, len(traces), 3):
            yield traces[start : start + 3]

    async def position(self) -> int:
        self.asked += 1
        if self.executor and self.between_looks:
            await self.executor.execute(self.between_looks.pop(0))
        self.shown = min(self.shown + self.events_a_look, await self.log.head())
        return self.shown


def standing(member_id: str, events: Iterable[Recorded]) -> list[Trace]:
    found: dict[Trace, None] = {}
    for one in events:
        match one.event:
            case Followed(follower_id=follower, followee_id=followee):
                found[
                    Trace("following", followee)
                    if follower == member_id
                    else Trace("follower", follower)
                ] = None
            case Unfollowed(follower_id=follower, followee_id=followee):
                found.pop(
                    Trace("following", followee)
                    if follower == member_id
                    else Trace("follower", follower)
                )
            case PostPublished(author_id=author, post_id=post) if author == member_id:
                found[Trace("post", post)] = None
            case PostDeleted(post_id=post):
                found.pop(Trace("post", post), None)
            case PostLiked(post_id=post, member_id=liker) if liker == member_id:
                found[Trace("like", post)] = None
            case PostUnliked(post_id=post):
                found.pop(Trace("like", post))
            case PostReposted(post_id=post, member_id=bringer) if bringer == member_id:
                found[Trace("repost", post)] = None
            case RepostRemoved(post_id=post):
                found.pop(Trace("repost", post))
    return list(found)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure_process, "POLL_SECONDS", 0)


@pytest.fixture
async def keyring() -> MemoryKeyring:
    keyring = MemoryKeyring()
    for person in ("ann", "bob"):
        await keyring.create(person)
    return keyring


@pytest.fixture
async def log() -> MemoryEventLog:
    return MemoryEventLog()


@pytest.fixture
async def executor(log: MemoryEventLog, keyring: MemoryKeyring) -> Executor:
    executor = Executor(log, keyring, DECIDERS, lambda: NOON)
    register = RegisterMember(member_id="ann", username_key="k", username="ann", display_name="A")
    await executor.execute(register)
    for number in range(5):
        await executor.execute(PublishPost(post_id=f"a{number}", author_id="ann", content="hi"))
        await executor.execute(FollowMember(follower_id="ann", followee_id=f"m{number}"))
        await executor.execute(FollowMember(follower_id=f"m{number}", followee_id="ann"))
    await executor.execute(PublishPost(post_id="b1", author_id="bob", content="stays"))
    await executor.execute(LikePost(post=BOBS, member_id="ann"))
    await executor.execute(RepostPost(post=BOBS, member_id="ann"))
    return executor


async def erase(
    executor: Executor, keyring: MemoryKeyring, tables: LateTables
) -> tuple[Erasure, Recorded]:
    (erased,) = (await executor.execute(EraseMember(member_id="ann"))).events
    return Erasure(executor.execute, keyring, tables, settle_seconds=0), erased


@pytest.mark.parametrize("events_a_look", [1, 7, 1_000])
async def test_nothing_of_an_erased_member_is_left_standing_however_late_the_tables_are(
    executor: Executor, log: MemoryEventLog, keyring: MemoryKeyring, events_a_look: int
) -> None:
    erasure, erased = await erase(executor, keyring, LateTables(log, events_a_look))
    await erasure.react(erased)
    events = await log.read(0, 1_000)
    assert standing("ann", events) == []
    taken_back = [one for one in events if one.position > erased.position]
    assert len(taken_back) == 17
    assert {one.causation_id for one in taken_back} == {str(erased.position)}


async def test_what_others_wrote_stays(
    executor: Executor, log: MemoryEventLog, keyring: MemoryKeyring
) -> None:
    erasure, erased = await erase(executor, keyring, LateTables(log, 1_000))
    await erasure.react(erased)
    assert (await executor.state("post:b1")).value.exists


async def test_repeating_an_erasure_records_nothing_more(
    executor: Executor, log: MemoryEventLog, keyring: MemoryKeyring
) -> None:
    tables = LateTables(log, 1_000)
    erasure, erased = await erase(executor, keyring, tables)
    await erasure.react(erased)
    head = await log.head()
    await erasure.react(erased)
    assert await log.head() == head


async def test_a_follow_that_was_recorded_just_after_the_erasure_is_taken_back_too(
    executor: Executor, log: MemoryEventLog, keyring: MemoryKeyring
) -> None:
    tables = LateTables(log, 1_000)
    erasure, erased = await erase(executor, keyring, tables)
    tables.executor = executor
    tables.between_looks = [FollowMember(follower_id="late", followee_id="ann")]
    await erasure.react(erased)
    assert standing("ann", await log.read(0, 1_000)) == []


async def test_the_key_is_destroyed_so_that_no_copy_can_be_read(
    executor: Executor, log: MemoryEventLog, keyring: MemoryKeyring
) -> None:
    erasure, erased = await erase(executor, keyring, LateTables(log, 1_000))
    await erasure.react(erased)
    published = next(one.event for one in await log.read(0, 50) if one.stream == "post:a0")
    assert isinstance(published, PostPublished)
    assert keyring.open("ann", published.content.sealed) is None


async def test_those_that_wait_for_tables_keep_nobody_from_being_taken_back(
    executor: Executor, log: MemoryEventLog, keyring: MemoryKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure_process, "SWEEPS_AT_ONCE_MAX", 1)
    tables = LateTables(log, 0)
    tables.shown = await log.head()
    erasure, erased = await erase(executor, keyring, tables)
    waiting = [asyncio.create_task(erasure.react(erased)) for _ in range(3)]
    await until(lambda: tables.asked >= len(waiting))
    assert standing("ann", await log.read(0, 1_000)) == []
    assert not any(one.done() for one in waiting)
    tables.events_a_look = 1_000
    await asyncio.gather(*waiting)


async def test_those_that_wait_for_tables_ask_together_and_hold_up_no_frame(
    executor: Executor, log: MemoryEventLog, keyring: MemoryKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure_process, "POLL_SECONDS", 3_600)
    count = ERASURES_AT_ONCE_MAX + 200
    tables = LateTables(log, 0)
    process = erasure_process.erasure(executor.execute, keyring, tables)
    runner = ProcessRunner(process, StoredRows([]), MemoryProgress())
    erased = [
        Recorded(
            stream=f"member:m{position}",
            version=2,
            recorded_at=NOON,
            event=MemberErased(member_id=f"m{position}"),
            position=position,
        )
        for position in range(1, count + 1)
    ]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await runner.apply([Frame(0, 0, 1, count, erased)])
    await until(lambda: tables.asked and tables.swept == ERASURES_AT_ONCE_MAX)
    assert tables.asked == 1
    await runner.close()
