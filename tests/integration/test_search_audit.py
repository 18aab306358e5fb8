"""The audit of search indices: what somebody changed in one is named, what only lags is not."""

import random

import pytest
from prometheus_client import CollectorRegistry

from infra.composition.services import auditing
from infra.composition.services.auditing import SearchSlices
from infra.composition.settings import Settings
from infra.ports.keepers import CannotVerify
from infra.ports.search import SearchProjection
from infra.runtime.rebuilding.audit import AGAIN_EVERY, Audit, Budget
from projections.search import SEARCH, SEARCH_MEMBERS, SEARCH_POSTS, SEARCH_PRODUCTS
from tests.integration.test_search_indexing import Halting, sell
from tests.searching import Searching, assert_is_the_fold, happen, searching

AT_ONCE = Budget(1.0)
AT_A_TIME = 10


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditing, "INDEX_LAG_SECONDS", 0.05)
    monkeypatch.setattr(auditing, "DOCUMENTS_AT_ONCE", AT_A_TIME)


def slices(world: Searching, projection: SearchProjection, repair: str = "off") -> SearchSlices:
    settings = Settings(
        postgres_url=world.square.url,
        opensearch_url=world.url,
        audit_repair=repair,  # type: ignore[arg-type]
    )
    return SearchSlices(settings, projection, AT_ONCE)


async def drifting(looks: SearchSlices, documents: int) -> set[tuple[str, str]]:
    """Which documents are wrong, where there are about so many; each is looked at."""
    looked = [await looks.look() for _ in range(documents // AT_A_TIME + 2)]
    assert sum(one.documents for one in looked if one) >= documents
    return {(drift.place, drift.key) for one in looked if one for drift in one.drifts}


async def test_what_was_changed_in_an_index_is_named_and_mended(
    postgres_url: str, search_url: str
) -> None:
    async with searching(postgres_url, search_url) as world:
        await happen(world.square, random.Random(11), 20)
        await sell(world.square, random.Random(11), 8)
        await world.apply()
        await world.start()
        await world.settle()
        for name, projection in SEARCH.items():
            known = await world.expected(name)
            assert await drifting(slices(world, projection), len(known)) == set()
            alias = projection.index.alias
            superfluous = world.square.new_id()
            wrong, missing = await tamper(world, projection, superfluous)
            named = {(alias, f"id={one}") for one in (wrong, missing, superfluous)}
            assert await drifting(slices(world, projection), len(known)) == named
            assert await drifting(slices(world, projection, "on"), len(known)) == named
            await assert_is_the_fold(world, name)


async def tamper(
    world: Searching, projection: SearchProjection, superfluous: str
) -> tuple[str, str]:
    """Change a document, remove another, and add one; answers the first two."""
    index, client = projection.index, world.client
    await client.indices.refresh(index=index.alias)
    hits = (await client.search(index=index.alias, body={"size": 1000}))["hits"]["hits"]
    wrong, *_, missing = sorted(hits, key=lambda hit: str(hit["_id"]))
    source = wrong["_source"]
    await client.index(
        index=wrong["_index"], id=wrong["_id"], body={**source, "position": source["position"] + 1}
    )
    body = {**source, index.id_field: superfluous}
    await client.index(index=wrong["_index"], id=superfluous, body=body)
    await client.delete(index=missing["_index"], id=missing["_id"])
    await client.indices.refresh(index=index.alias)
    return wrong["_id"], missing["_id"]


async def test_an_index_that_lags_is_left_alone_until_it_has_caught_up(
    postgres_url: str, search_url: str
) -> None:
    async with searching(postgres_url, search_url) as world:
        store = Halting(world.client, SEARCH_POSTS.index)
        author = await world.square.member("anna")
        posts = [await world.square.post(author, f"number {number}") for number in range(3)]
        await world.apply()
        await world.start("search_posts", store=store)
        await world.settle()
        store.goes.clear()
        await world.square.like(author, posts[0])
        await world.square.delete(posts[1])
        new = await world.square.post(author, "one more")
        await world.apply()
        looks = slices(world, SEARCH_POSTS)
        registry = CollectorRegistry()
        audit = Audit([looks.look], AT_ONCE, registry)
        with pytest.raises(CannotVerify, match="is behind"):
            await looks.look()
        for _ in range(AGAIN_EVERY):
            await audit.step()
        labels = {"projection": "search_posts"}
        assert registry.get_sample_value("plaza_audit_drift_found_total", labels) in (None, 0)
        store.goes.set()
        await world.settle()
        assert await drifting(looks, 3) == set()
        await world.client.delete(index=await place_of(world, new), id=new)
        await world.client.indices.refresh(index="plaza-posts")
        await audit.step()
        assert registry.get_sample_value("plaza_audit_drift_found_total", labels) == 1
        assert registry.get_sample_value("plaza_audit_drifting", labels) == 1


async def place_of(world: Searching, post_id: str) -> str:
    body = {"query": {"terms": {"postId": [post_id]}}}
    await world.client.indices.refresh(index="plaza-posts")
    (hit,) = (await world.client.search(index="plaza-posts", body=body))["hits"]["hits"]
    return str(hit["_index"])


async def test_nothing_is_found_while_members_change_their_minds_all_the_time(
    postgres_url: str, search_url: str
) -> None:
    chance = random.Random(12)
    async with searching(postgres_url, search_url) as world:
        fans = [await world.square.member(f"fan{number}") for number in range(4)]
        posts = [await world.square.post(fan, "here") for fan in fans]
        await world.apply()
        await world.start("search_posts", "search_members")
        await world.settle()
        looks = [slices(world, one) for one in (SEARCH_POSTS, SEARCH_MEMBERS)]
        liked: set[tuple[str, str]] = set()
        for _ in range(6):
            for _ in range(3):
                one = chance.choice(fans), chance.choice(posts)
                await (world.square.unlike if one in liked else world.square.like)(*one)
                liked ^= {one}
            await world.apply()
            for look in looks:
                try:
                    looked = await look.look()
                except CannotVerify:
                    continue
                assert looked is not None
                assert looked.drifts == []


async def test_an_index_that_is_being_made_or_is_away_is_not_looked_at(
    postgres_url: str, search_url: str
) -> None:
    async with searching(postgres_url, search_url) as world:
        await happen(world.square, random.Random(13), 10)
        await world.apply()
        assert await slices(world, SEARCH_PRODUCTS).look() is None
        away = SearchSlices(
            Settings(postgres_url=postgres_url, opensearch_url="http://127.0.0.1:9"),
            SEARCH_POSTS,
            AT_ONCE,
        )
        registry = CollectorRegistry()
        await Audit([away.look], AT_ONCE, registry).step()
        labels = {"projection": "search_posts"}
        assert registry.get_sample_value("plaza_audit_documents_total", labels) is None
