"""An erased member with thousands of traces is gone from every table within ten seconds."""

# ruff: noqa: ASYNC110 -- another process moves on, and nothing here could be waited for.

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import pytest
from msgspec.structs import replace

from domain.commerce.product.commands import ListProduct
from domain.commerce.product.events import ProductWithdrawn
from domain.deciders import DECIDERS
from domain.shared.identifiers import id_number, id_text
from domain.shared.message import Command
from domain.shared.money import Money
from domain.social.engagement.commands import LikePost, RepostPost
from domain.social.member.commands import RegisterMember, erasure, registration
from domain.social.member.events import MemberErased
from domain.social.post.commands import PublishPost, SeenPost
from domain.social.post.events import PostDeleted, PostPublished
from domain.social.relation.commands import FollowMember
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.migrations import migrate
from infra.adapters.processes.process_progress import PostgresProgress
from infra.adapters.reads.member_traces import PostgresMemberTraces
from infra.adapters.secrets.keyring import PostgresKeyring
from infra.composition.operations import dead_letters
from infra.composition.services.projection_worker import erasing, serve
from infra.composition.settings import Settings
from infra.ports.frames import SOCIAL_PARTITIONS, Frame, FrameTarget, partition_of
from infra.ports.log import Recorded
from infra.ports.processes import Parked, Trace
from infra.runtime.commands.execute import Executor
from infra.runtime.frames.embedded import EmbeddedRunner
from infra.runtime.projecting.dead_letters import NotSetAside
from infra.runtime.projecting.projection import Projection
from infra.runtime.reacting import react
from infra.runtime.reacting.react import Process, ProcessRunner
from projections import engagement, graph, posts, products
from tests.integration.tables import projector
from tests.searching import comes_to_hold

TRACES_EACH = 600
"""Of every kind: own posts, follows in both directions, likes, reposts."""

SECONDS_MAX = 30.0
ANN, BOB = id_text(1), id_text(2)


@dataclass
class System:
    url: str
    log: PostgresEventLog
    keyring: PostgresKeyring
    traces: PostgresMemberTraces
    progress: PostgresProgress
    executor: Executor

    async def all(self, commands: list[Command]) -> int:
        outcomes = await asyncio.gather(*map(self.executor.execute, commands))
        return max(outcome.position for outcome in outcomes)

    async def shown(self, position: int) -> None:
        async with asyncio.timeout(30):
            while await self.traces.position() < position:
                await asyncio.sleep(0.02)

    async def standing(self, member_id: str) -> list[Trace]:
        return [trace async for page in self.traces.of(member_id) for trace in page]


@pytest.fixture
async def system(postgres_url: str) -> AsyncIterator[System]:
    await migrate(postgres_url)
    async with AsyncExitStack() as stack:
        log = await PostgresEventLog.open(postgres_url)
        stack.push_async_callback(log.close)
        keyring = await PostgresKeyring.connect(postgres_url)
        stack.push_async_callback(keyring.close)
        traces = await PostgresMemberTraces.open(postgres_url)
        stack.push_async_callback(traces.close)
        progress = await PostgresProgress.open(postgres_url)
        stack.push_async_callback(progress.close)
        executor = Executor(log, keyring, DECIDERS, lambda: datetime.now(UTC))
        yield System(postgres_url, log, keyring, traces, progress, executor)


@pytest.fixture
async def worker(system: System) -> AsyncIterator[None]:
    settings = Settings(postgres_url=system.url)
    running = asyncio.ensure_future(
        serve(
            settings,
            ["members", "graph", "posts", "engagement", "sessions", "products"],
            ["erasure"],
        )
    )
    yield
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def settle(system: System) -> int:
    """Two members, and what the first has done on the square; answers the last position."""
    for person in (ANN, BOB):
        await register(system, person)
    numbers = range(TRACES_EACH)
    await system.all(
        [PublishPost(post_id=id_text(10_000 + n), author_id=BOB, content="Bob") for n in numbers]
    )
    bobs = [
        SeenPost(post_id=id_text(10_000 + n), author_id=BOB, position=1_000 + n) for n in numbers
    ]
    return await system.all(
        [sold(id_text(50_000), ANN), sold(id_text(50_001), BOB)]
        + [PublishPost(post_id=id_text(20_000 + n), author_id=ANN, content="Ann") for n in numbers]
        + [FollowMember(follower_id=ANN, followee_id=id_text(30_000 + n)) for n in numbers]
        + [FollowMember(follower_id=id_text(40_000 + n), followee_id=ANN) for n in numbers]
        + [LikePost(post=post, member_id=ANN) for post in bobs]
        + [RepostPost(post=post, member_id=ANN) for post in bobs]
    )


async def register(system: System, person: str) -> None:
    await system.keyring.create(person)
    await system.executor.execute(
        *registration(
            RegisterMember(
                member_id=person,
                username_key=f"key-{person}",
                username="somebody",
                display_name="Somebody",
            )
        )
    )


def sold(product_id: str, seller_id: str) -> Command:
    return ListProduct(
        product_id=product_id,
        shop_id=id_text(60_000),
        seller_id=seller_id,
        title="Mug",
        description="",
        category="Kitchen",
        price=Money(currency="EUR", value=100),
    )


@pytest.mark.usefixtures("worker")
async def test_an_erased_member_leaves_nothing_standing(system: System) -> None:
    await system.shown(await settle(system))
    assert len(await system.standing(ANN)) == 5 * TRACES_EACH + 1
    began = time.perf_counter()
    erased = await system.executor.execute(*erasure(ANN, f"key-{ANN}"))
    async with asyncio.timeout(60):
        while await system.standing(ANN):
            await asyncio.sleep(0.05)
    seconds = time.perf_counter() - began
    print(f"{5 * TRACES_EACH} traces in {seconds:.1f} s")
    assert seconds < SECONDS_MAX
    standing = await system.standing(BOB)
    assert len(standing) == TRACES_EACH + 1
    assert standing[-1] == Trace("product", id_text(50_001))
    # The checkpoint passes the erasure only once all is done.
    async with asyncio.timeout(30):
        while min((await system.progress.checkpoints("erasure")).values(), default=0) < (
            erased.position
        ):
            await asyncio.sleep(0.05)
    posts = [one.event for one in await system.log.load(f"post:{id_text(20_000)}")]
    assert [type(post).__name__ for post in posts] == ["PostPublished", "PostDeleted"]
    reader = await PostgresKeyring.connect(system.url)
    await reader.fetch([ANN, BOB])
    assert isinstance(posts[0], PostPublished)
    assert reader.open(ANN, posts[0].content.sealed) is None
    await reader.close()


SQUARE = [graph.PROJECTION, posts.PROJECTION, engagement.PROJECTION]
SHOPS = [products.PROJECTION]


async def test_an_erasure_waits_for_the_half_that_sells_and_ends_when_that_is_back(
    system: System,
) -> None:
    post, early, late = id_text(7), id_text(50_000), id_text(50_001)
    await register(system, ANN)
    before = await system.all(
        [sold(early, ANN), PublishPost(post_id=post, author_id=ANN, content="Ann")]
    )
    async with folding(system, SQUARE), folding(system, SHOPS):
        await system.shown(before)
        # Where there are no tables of shops at all, an erasure would not wait for such.
        await comes_to_hold(lambda: shows(system, {"post", "product"}))
    async with folding(system, SQUARE), erasing_members(system):
        # Nobody folds it now, so that the erasure cannot know of it.
        await system.all([sold(late, ANN)])
        erased = await system.executor.execute(*erasure(ANN, f"key-{ANN}"))
        await comes_to_hold(lambda: is_last(system, f"product:{early}", ProductWithdrawn))
        await comes_to_hold(lambda: is_last(system, f"post:{post}", PostDeleted))
        assert not await is_last(system, f"product:{late}", ProductWithdrawn)
        assert not await is_done(system, erased.position)
        async with folding(system, SHOPS):
            await comes_to_hold(lambda: is_done(system, erased.position))
        assert await is_last(system, f"product:{late}", ProductWithdrawn)


@asynccontextmanager
async def folding(system: System, projections: Sequence[Projection]) -> AsyncIterator[None]:
    partitions = sorted({part for one in projections for part in one.partitions})
    async with projector(system.url, projections) as target, running(system, target, partitions):
        yield


@asynccontextmanager
async def erasing_members(system: System) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        runner = await erasing(Settings(postgres_url=system.url), system.log, stack)
        await stack.enter_async_context(running(system, runner, SOCIAL_PARTITIONS))
        yield


@asynccontextmanager
async def running(
    system: System, target: FrameTarget, partitions: Sequence[int]
) -> AsyncIterator[None]:
    following = asyncio.create_task(EmbeddedRunner(system.log, target, partitions).run())
    try:
        yield
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


async def shows(system: System, kinds: set[str]) -> bool:
    return {trace.kind for trace in await system.standing(ANN)} == kinds


async def is_last(system: System, stream: str, kind: type) -> bool:
    return isinstance((await system.log.load(stream))[-1].event, kind)


async def is_done(system: System, position: int) -> bool:
    reached = await system.progress.checkpoints("erasure")
    return min(reached.values(), default=0) >= position


async def test_progress_never_goes_back_and_parks_an_event_once(system: System) -> None:
    progress = system.progress
    assert await progress.checkpoints("erasure") == {}
    await progress.advance("erasure", {0: 7, 3: 9})
    await progress.advance("erasure", {0: 5, 3: 11})
    assert await progress.checkpoints("erasure") == {0: 7, 3: 11}
    assert await progress.checkpoints("another") == {}
    parked = Parked(
        position=7,
        stream=f"member:{ANN}",
        version=2,
        tag="member.erased.v1",
        key=ANN,
        partition=0,
        state=b"\x00\xff",
        error="poison",
        trace="line 1",
        attempts=5,
    )
    await progress.park("erasure", parked)
    await progress.park("erasure", parked)
    async with await psycopg.AsyncConnection.connect(system.url) as connection:
        rows = await connection.execute(
            "SELECT projection, position, key, state, error, attempts, status FROM dead_letters"
        )
        assert await rows.fetchall() == [("erasure", 7, ANN, b"\x00\xff", "poison", 5, "parked")]


async def test_an_operator_sees_what_the_process_set_aside_and_gives_it_up(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(react, "BACKOFF_SECONDS", 0.001)
    runner = ProcessRunner(
        Process("erasure", frozenset({MemberErased}), poisoned), system.log, system.progress
    )
    erased = Recorded(
        stream=f"member:{ANN}",
        version=2,
        recorded_at=datetime.now(UTC),
        event=MemberErased(member_id=ANN),
        position=1,
    )
    for position in (1, 2):
        recorded = replace(erased, position=position)
        await runner.apply([Frame(partition_of(erased.event), 0, 1, position, [recorded])])
    await runner.idle()
    async with dead_letters.opened(Settings(postgres_url=system.url)) as operator:
        first, second = [letter["id"] for letter in await operator.list()]
        assert (await operator.discard(first, "a test"))["remaining"] == 0
        shown = await operator.show(second)
        assert shown["event"]["data"] == {"memberId": ANN}
        with pytest.raises(NotSetAside):
            await operator.retry(first)
        statuses = [letter["status"] for letter in await operator.list()]
        assert statuses == ["discarded", "parked"]


async def poisoned(_recorded: Recorded) -> None:
    raise RuntimeError("poison")


async def test_where_there_are_no_tables_yet_nothing_is_complete(system: System) -> None:
    await system.keyring.create(ANN)
    await system.all([PublishPost(post_id=id_text(7), author_id=ANN, content="x")])
    assert await system.traces.position() == 0
    assert id_number(ANN) == 1
