"""What people find, and what they do not: over real indices and read tables."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from domain.shared.identifiers import known_id_number
from domain.shared.text import words
from infra.adapters.search import opensearch_search
from infra.adapters.search.opensearch_search import OpenSearchReads
from infra.adapters.search.search_guard import Guard
from infra.ports.search_reads import PostRanking
from query_api.searching.search_query import parse
from tests.finding import PATIENT, Finding, finding


@pytest.fixture
async def world(postgres_url: str, search_url: str) -> AsyncIterator[Finding]:
    async with finding(postgres_url, search_url) as found:
        yield found


def reads_of(world: Finding, *, ranks_slowly: bool) -> OpenSearchReads:
    """What asks the server as if it were the embedded one, or as if it were not."""
    reads = OpenSearchReads(world.world.client, Guard(PATIENT), PostRanking())
    reads._is_osmem = ranks_slowly
    return reads


async def test_posts_are_found_by_all_their_words_newest_first(world: Finding) -> None:
    square = world.square
    ann = await square.member("ann")
    old = await square.post(ann, "Hiking boots for the Alps")
    new = await square.post(ann, "Hiking boots for the Alps")
    await square.post(ann, "Boots for the city")
    running = await square.post(ann, "We were running in red shoes #Café")
    await world.settled()
    assert await world.posts("alps hiking") == [new, old]
    assert await world.posts("boot alps") == [new, old]
    assert await world.posts('"boots for the alps"') == [new, old]
    assert await world.posts('"alps the for"') == []
    assert await world.posts("run shoe") == [running]
    assert await world.posts("#CAFÉ") == [running]
    assert await world.posts("#cafe") == []
    assert await world.posts("boots -alps -city") == []
    assert await world.posts("from:ANN boots -city") == [new, old]
    assert await world.posts("hikng") == [new, old]


async def test_deleted_erased_blocked_and_muted_posts_are_not_shown(world: Finding) -> None:
    square = world.square
    ann, bob, eve, kim = [await square.member(name) for name in ("ann", "bob", "eve", "kim")]
    posts = {
        name: await square.post(member, "tea time")
        for name, member in {"ann": ann, "bob": bob, "eve": eve, "kim": kim}.items()
    }
    gone = await square.post(ann, "tea time too")
    await square.hide(ann, bob, "mute")
    await square.hide(eve, ann, "block")
    await world.settled()
    assert set(await world.posts("tea")) == {*posts.values(), gone}
    assert set(await world.posts("tea", ann)) == {posts["ann"], posts["kim"], gone}
    # The index is not told: what is shown is read from the tables.
    await square.delete(gone)
    await square.erase(kim)
    await world.world.apply(hand_over=False)
    assert set(await world.posts("tea", ann)) == {posts["ann"]}


async def test_walking_shows_nothing_twice_and_skips_nothing(world: Finding) -> None:
    square = world.square
    ann = await square.member("ann")
    posts = {await square.post(ann, f"tea {'time ' * (n % 7)}") for n in range(130)}
    await world.settled()
    first = await world.page("tea", limit=30)
    shown = [post["postId"] for post in first["results"]]
    # Likes and new posts change every rank meanwhile.
    for post in list(posts)[:20]:
        await square.like(ann, post)
    new = await square.post(ann, "tea")
    await world.settled()
    rest = await world.posts("tea", limit=30, cursor=first["nextCursor"])
    assert len(shown) + len(rest) == len({*shown, *rest})
    assert {*shown, *rest} - {new} == posts
    refused = await world.refused(q="other", cursor=first["nextCursor"])
    assert refused["errors"][0]["parameter"] == "cursor"


async def test_of_what_is_in_many_posts_the_newest_are_ranked_first(
    world: Finding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opensearch_search, "RANKED_MAX", 5)
    square = world.square
    ann = await square.member("ann")
    square.now -= timedelta(days=10)
    old = [await square.post(ann, "tea time") for _ in range(20)]
    square.now += timedelta(days=10)
    new = [await square.post(ann, "tea time") for _ in range(15)]
    await world.settled()
    for _ in range(2):
        # The second time it is known how many there are.
        page = await world.page("tea", limit=4)
        assert [post["postId"] for post in page["results"]] == new[:-5:-1]
        # Where there are not enough, everything is ranked.
        page = await world.page("tea", limit=30)
        assert [post["postId"] for post in page["results"]][:15] == new[::-1]
        for limit in (4, 30):
            assert set(await world.posts("tea", limit=limit)) == {*old, *new}


async def test_of_what_is_in_very_many_posts_lately_the_newest_are_ranked(
    world: Finding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opensearch_search, "RANKED_MAX", 5)
    monkeypatch.setattr(opensearch_search, "LATELY_MAX", 20)
    square = world.square
    ann = await square.member("ann")
    square.now -= timedelta(hours=30)
    before = [await square.post(ann, "tea") for _ in range(20)]
    square.now += timedelta(hours=30)
    lately = [await square.post(ann, "tea") for _ in range(18)]
    await world.settled()
    for _ in range(2):
        page = await world.page("tea", limit=5)
        assert [post["postId"] for post in page["results"]] == lately[:-6:-1]
        assert sorted(await world.posts("tea", limit=5)) == sorted([*before, *lately])


async def test_what_is_ranked_here_is_ranked_as_by_the_server(world: Finding) -> None:
    square = world.square
    chance = random.Random(seed := random.randrange(10**6))
    print(f"seed {seed}")
    members = [await square.member(f"tea_{number}") for number in range(12)]
    for number, member in enumerate(members):
        for follower in members[:number]:
            await square.follow(follower, member)
    square.now -= timedelta(days=9)
    for _ in range(40):
        square.now += timedelta(hours=5)
        text = " ".join(["tea"] * chance.randint(1, 4) + ["time"] * chance.randint(0, 6))
        post = await square.post(chance.choice(members), text)
        for member in members[: chance.choice([0, 0, 3, 12])]:
            await square.like(member, post)
    await world.settled()
    here, there = reads_of(world, ranks_slowly=True), reads_of(world, ranks_slowly=False)
    now = square.now + timedelta(hours=1)
    for query in (parse("tea"), parse("tea time"), parse('"tea tea" -time')):
        ranked = await here.best_posts(query, now, 60)
        assert ranked == await there.best_posts(query, now, 60)
        assert ranked[5:] == await here.best_posts(query, now, 60, ranked[:5])
        assert await here.best_members(query, 60) == await there.best_members(query, 60)
    assert len(await here.best_members(parse("tea"), 60)) == len(members)
    assert len(await here.best_posts(parse("tea"), now, 60)) == 40


async def test_names_read_here_are_those_that_the_server_finds_by_their_beginnings(
    world: Finding, monkeypatch: pytest.MonkeyPatch
) -> None:
    square = world.square
    chance = random.Random(seed := random.randrange(10**6))
    print(f"seed {seed}")
    members = [await square.member(f"m_{number:03}_{chance.choice('ab')}") for number in range(24)]
    for member in members:
        for follower in chance.sample(members, chance.choice([0, 0, 1, 5])):
            if follower != member:
                await square.follow(follower, member)
    shop = await world.shop()
    for number in range(12):
        await world.product(shop, f"Pot {number} {chance.choice(['Ash', 'Birch'])}")
    await world.settled()
    here, there = reads_of(world, ranks_slowly=True), reads_of(world, ranks_slowly=False)
    among = [known_id_number(member) for member in chance.sample(members, 8)]
    for read_max in (2_000, 8, 3, 0):
        monkeypatch.setattr(opensearch_search, "READ_HERE_MAX", read_max)
        for beginning in ("m", "m_", "m_00", "m_001", "00", "b", "m a", "m_01 b", "x"):
            prefixes = words(beginning)
            for limit in (1, 5, 30):
                found = await there.members_named(prefixes, limit)
                assert await here.members_named(prefixes, limit) == found, beginning
                friends = await there.members_named(prefixes, limit, among)
                assert await here.members_named(prefixes, limit, among) == friends, beginning
        for beginning in ("p", "pot", "1", "bi", "pot 1", "ash 1", "x"):
            prefixes = words(beginning)
            titles = await there.products_named(prefixes, 5)
            assert await here.products_named(prefixes, 5) == titles, beginning


async def test_where_most_words_are_enough_one_may_be_missing(world: Finding) -> None:
    square = world.square
    ann = await square.member("ann")
    tea = await square.post(ann, "green tea in the garden #spring")
    await square.post(ann, "tea")
    shop = await world.shop("Pots")
    pot = await world.product(shop, "Red teapot", description="of clay")
    await world.settled()
    assert await world.posts("green garden tea coffee") == await world.posts("garden coffee") == []
    assert await world.posts("green garden tea coffe", match="most") == [tea]
    either = await world.posts("garden tea", match="most", limit=1)
    assert sorted(either) == sorted(await world.posts("tea"))
    # What is not a single word has to be there.
    assert await world.posts("green tea #autumn", match="most") == []
    assert await world.posts('green "tea garden"', match="most") == []
    assert await world.posts("coffee", match="most") == []
    assert await world.users("ann jones", match="most") == ["ann"]
    assert await world.products("blue teapot clay", match="most") == [pot]
    page = await world.page("garden tea", match="most", limit=1)
    refused = await world.refused(q="garden tea", cursor=page["nextCursor"])
    assert refused["errors"][0]["parameter"] == "cursor"
    assert (await world.refused(q="tea", match="some"))["errors"][0]["parameter"] == "match"


async def test_accounts_are_found_by_name_and_bio(world: Finding) -> None:
    square = world.square
    ann, bob = await square.member("ann_lee"), await square.member("bob")
    await square.member("anna")
    await square.rename(bob, "Bob Lee")
    await world.settled()
    assert set(await world.users("lee")) == {"ann_lee", "bob"}
    assert await world.users("@ann_lee") == ["ann_lee"]
    assert set(await world.users("am")) == {"ann_lee", "anna", "bob"}
    await square.hide(bob, ann, "block")
    await world.settled()
    assert await world.users("lee", ann) == ["ann_lee"]


async def test_facets_count_what_a_click_then_shows(world: Finding) -> None:
    shop, other = await world.shop("Mugs"), await world.shop("Cups & Co")
    red = await world.product(shop, "Red mug", category="Kitchen", price=1_500, color="red", size=3)
    blue = await world.product(
        shop, "Blue mug", category="Kitchen", price=2_600, units=0, color="blue"
    )
    big = await world.product(other, "Big mug", category="Garden", price=900, color="red")
    await world.settled()
    page = await world.page("mug", type="products", sort="price", category="Kitchen")
    assert [one["productId"] for one in page["results"]] == [red, blue]
    assert page["facets"] == {
        "category": [{"value": "Kitchen", "count": 2}, {"value": "Garden", "count": 1}],
        "price": [
            {"from": 1_000, "to": 2_499, "count": 1},
            {"from": 2_500, "to": 4_999, "count": 1},
        ],
        "available": {"true": 1, "false": 1},
        "seller": [{"value": shop, "name": "Mugs", "count": 2}],
        "attributes": [
            {
                "name": "color",
                "values": [{"value": "blue", "count": 1}, {"value": "red", "count": 1}],
            },
            {"name": "size", "values": [{"value": "3", "count": 1}]},
        ],
    }
    assert await world.products("mug", sort="newest") == [big, blue, red]
    assert await world.products("mug", sort="price_desc") == [blue, red, big]
    assert await world.products("mug", attribute="color=red", sort="price") == [big, red]
    assert await world.products(category="Garden") == [big]
    assert (await world.refused(type="products"))["errors"][0]["parameter"] == "q"
    assert (await world.refused(type="products", q="mug", minPrice="x"))["status"] == 422


async def test_typing_completes_names(world: Finding) -> None:
    square = world.square
    ann, anna, andy = [await square.member(name) for name in ("ann_lee", "anna", "andy")]
    bob = await square.member("bob")
    for member in (ann, bob):
        await square.follow(member, andy)
    await square.follow(bob, anna)
    shop = await world.shop()
    await world.product(shop, "Anvil")
    square.now = datetime.now(UTC) - timedelta(hours=1)
    for member in (ann, bob):
        await square.post(member, "#Anchovy")
    await square.post(ann, "#Angel")
    await world.settled()
    answer = await world.asking.get("/api/typeahead", bob, q="AN")
    assert [one["username"] for one in answer["accounts"]][:2] == ["andy", "anna"]
    assert [one["title"] for one in answer["products"]] == ["Anvil"]
    assert answer["hashtags"] == [{"tag": "anchovy", "count": 2}, {"tag": "angel", "count": 1}]
    tags = await world.asking.get("/api/typeahead", q="#ANG")
    assert tags == {"accounts": [], "hashtags": [{"tag": "angel", "count": 1}], "products": []}
    only = await world.asking.get("/api/typeahead", q="@le")
    assert [one["username"] for one in only["accounts"]] == ["ann_lee"]
