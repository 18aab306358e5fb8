"""Operators verify, mend and rebuild indices while they are written, searched, and cut off."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from infra.adapters.search.opensearch_index import OpenSearchStore
from infra.adapters.search.search_client import search_client
from infra.composition.operations import dead_letters
from infra.composition.operations.search_keeper import SearchKeeper
from infra.composition.settings import Settings
from infra.ports.keepers import Wishes
from infra.ports.search_documents import POSTS
from infra.ports.tables import StoreUnavailable
from projections.search import SEARCH_POSTS
from tests.integration.proxy import proxied
from tests.searching import Searching, assert_is_the_fold, comes_to_hold, happen, searching

SOCIAL_NAMES = ("search_posts", "search_members")


def keeper_of(postgres_url: str, search_url: str) -> SearchKeeper:
    settings = Settings(postgres_url=postgres_url, opensearch_url=search_url)
    return SearchKeeper(settings, SEARCH_POSTS, look_seconds=0.1, patience_seconds=2.0)


async def test_an_index_is_verified_mended_rebuilt_and_switched(
    postgres_url: str, search_url: str
) -> None:
    async with searching(postgres_url, search_url) as world:
        await happen(world.square, random.Random(7), 30)
        await world.apply()
        await world.start(*SOCIAL_NAMES)
        await world.settle()
        await world.nobody_fills("search_posts")
        keeper = keeper_of(postgres_url, search_url)
        known = await world.expected("search_posts")
        found = await keeper.verify(nothing)
        assert (found.different, found.documents, found.build) == (0, len(known), 1)
        (row,) = await keeper.overview()
        assert (row["status"], row["build"], row["lagEvents"]) == ("live", 1, 0)

        wrong, missing, *_ = sorted(known)
        superfluous = world.square.new_id()
        await tamper(world, wrong, missing, superfluous)
        found = await keeper.verify(nothing)
        assert found.different == 3
        places = {one.place.rpartition("/")[2]: one for one in found.examples}
        assert set(places) == {wrong, missing, superfluous}
        assert (places[wrong].computed, places[missing].served) == (known[wrong], None)
        assert places[superfluous].computed is None
        rebuilt = await keeper.rebuild(nothing, Wishes())
        assert (rebuilt.build, rebuilt.switched) == (2, False)
        assert (await keeper.verify(nothing, repair=True)).repaired == 3
        await assert_is_the_fold(world, "search_posts")
        assert (await keeper.verify(nothing)).different == 0

        # The build that waited is gone on with, and brought to where the log is by now.
        await world.square.post(await world.square.member("new"), "new")
        await world.apply()
        rebuilt = await keeper.rebuild(nothing, Wishes(accept_different=True))
        assert (rebuilt.build, rebuilt.switched) == (2, True)
        await assert_is_the_fold(world, "search_posts")
        assert [row["status"] for row in await keeper.overview()] == ["built", "live"]

        # Workers follow to the build that is served.
        await world.square.post(await world.square.member("newer"), "newer")
        await world.apply()
        await comes_to_hold(lambda: world.is_the_fold("search_posts"))
        assert await keeper.switch(None, nothing) == 1
        await assert_is_the_fold(world, "search_posts")


def nothing(_what: str, _reached: int, _end: int) -> None:
    pass


async def tamper(world: Searching, wrong: str, missing: str, superfluous: str) -> None:
    index = "plaza-posts-b1-*"
    hits = (await world.client.search(index=index, body={"size": 1000}))["hits"]["hits"]
    places = {hit["_id"]: hit for hit in hits}
    changed = {**places[wrong]["_source"], "likes": 77}
    await world.client.index(index=places[wrong]["_index"], id=wrong, body=changed)
    await world.client.delete(index=places[missing]["_index"], id=missing)
    another = {**places[wrong]["_source"], "postId": superfluous}
    await world.client.index(index=places[wrong]["_index"], id=superfluous, body=another)


async def test_a_rebuild_under_writes_is_switched_to_without_a_search_failing(
    postgres_url: str, search_url: str
) -> None:
    async with searching(postgres_url, search_url) as world:
        await happen(world.square, random.Random(3), 30)
        await world.apply()
        await world.start("search_posts")
        await world.settle()
        await world.nobody_fills("search_posts")
        known = len(await world.found("search_posts"))
        anna = await world.square.member("anna")
        async with searched(world) as answers, posting(world, anna):
            keeper = keeper_of(postgres_url, search_url)
            # What is being written all the while may be found different: that is not the question.
            rebuilt = await keeper.rebuild(nothing, Wishes(accept_different=True))
            assert (rebuilt.build, rebuilt.switched) == (2, True)
            answered = len(answers)
            await comes_to_hold(lambda: longer(answers, answered + 3))
        assert min(answers) >= known
        # The last of what was posted went to the build before, or to the new one already.
        await comes_to_hold(lambda: world.is_the_fold("search_posts"))


async def longer(answers: list[int], than: int) -> bool:
    return len(answers) > than


@contextlib.asynccontextmanager
async def searched(world: Searching) -> AsyncIterator[list[int]]:
    """Readers who ask again and again; how much each of them found. Fails with any of them."""
    answers: list[int] = []

    async def ask() -> None:
        body = {"size": 0, "query": {"match_all": {}}, "track_total_hits": True}
        while True:
            answer = await world.client.search(index=POSTS.alias, body=body)
            answers.append(answer["hits"]["total"]["value"])

    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask()) for _ in range(2)]
        yield answers
        for task in asking:
            task.cancel()


@contextlib.asynccontextmanager
async def posting(world: Searching, author: str) -> AsyncIterator[None]:
    """Somebody who posts again and again; all of it is folded in the end."""
    ends = asyncio.Event()

    async def post() -> None:
        while not ends.is_set():
            await world.square.post(author, "and on")
            await world.apply()
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        group.create_task(post())
        yield
        ends.set()


async def test_a_rebuild_that_loses_its_server_leaves_what_is_served_and_is_begun_again(
    postgres_url: str, search_url: str
) -> None:
    async with searching(postgres_url, search_url) as world, proxied(search_url) as line:
        await happen(world.square, random.Random(4), 30)
        await world.apply()
        await world.start("search_posts")
        await world.settle()
        await world.nobody_fills("search_posts")
        keeper = keeper_of(postgres_url, line.url.replace("@", ""))
        line.request_lost = lambda data: b"/_bulk" in data and b"plaza-posts-b2" in data
        with pytest.raises(StoreUnavailable):
            await keeper.rebuild(nothing, Wishes())
        statuses = [(row["build"], row["status"]) for row in await keeper.overview()]
        assert statuses == [(1, "live"), (2, "building")]
        await assert_is_the_fold(world, "search_posts")
        await world.square.post(await world.square.member("new"), "goes on")
        await world.apply()
        await world.settle()
        line.request_lost = lambda _: False
        assert (await keeper.rebuild(nothing, Wishes())).switched
        await assert_is_the_fold(world, "search_posts")
        statuses = [(row["build"], row["status"]) for row in await keeper.overview()]
        assert statuses == [(1, "built"), (2, "live")]


async def test_bulks_that_are_cut_off_leave_nothing_out(postgres_url: str, search_url: str) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with searching(postgres_url, search_url) as world, proxied(search_url) as line:
        # Some reach the server, and nobody hears of it.
        line.request_lost = lambda data: b"/_bulk" in data and chance.random() < 0.3
        line.answer_lost = lambda data: b"/_bulk" in data and chance.random() < 0.3
        client = search_client(line.url.replace("@", ""))
        store = OpenSearchStore(client, POSTS, patience_seconds=0.2)
        await world.start("search_posts", store=store)
        for _ in range(5):
            await happen(world.square, chance, 10)
            await world.apply()
        await comes_to_hold(lambda: world.is_the_fold("search_posts"))
        await world.settle()
        await world.stop()
        await client.close()


async def test_a_document_that_a_mapping_refuses_waits_until_an_operator_mended_that(
    postgres_url: str, search_url: str
) -> None:
    async with searching(postgres_url, search_url) as world:
        await world.start("search_posts")
        anna = await world.square.member("anna")
        await world.apply()
        await world.settle()
        old = datetime(2021, 3, 1, 12, tzinfo=UTC)
        await without_stems(world, POSTS.slice_of(1, old))
        event = msgspec.structs.replace(world.square.published(anna, "walking"), created_at=old)
        await world.square.record(f"post:{event.post_id}", event)
        await world.square.post(anna, "and others")
        await world.apply()
        await world.settle()
        assert event.post_id not in await world.found("search_posts")
        settings = Settings(postgres_url=postgres_url, opensearch_url=search_url)
        async with dead_letters.opened(settings) as operator:
            (letter,) = await operator.list()
            assert (letter["projection"], letter["key"]) == ("search_posts", event.post_id)
            assert "stemmed" in letter["error"]
            outcome = await operator.retry(letter["id"])
            assert (outcome["applied"], outcome["remaining"]) == (0, 1)
            body = {"properties": {"stemmed": POSTS.properties["stemmed"]}}
            await world.client.indices.put_mapping(index=POSTS.slice_of(1, old), body=body)
            outcome = await operator.retry(letter["id"])
            assert (outcome["applied"], outcome["remaining"]) == (1, 0)
            assert [letter["status"] for letter in await operator.list()] == ["retried"]
        await assert_is_the_fold(world, "search_posts")


async def without_stems(world: Searching, name: str) -> None:
    """An index made by somebody else, whose mapping lacks a field."""
    template: dict[str, Any] = POSTS.template()["template"]
    lacking = {key: value for key, value in POSTS.properties.items() if key != "stemmed"}
    mappings = {**template["mappings"], "properties": lacking}
    alias = POSTS.alias
    await world.client.indices.delete_index_template(name=alias)
    await world.client.indices.create(index=name, body={**template, "mappings": mappings})
    await world.client.indices.put_alias(index=name, name=alias)
    await world.client.indices.put_index_template(name=alias, body=POSTS.template())
