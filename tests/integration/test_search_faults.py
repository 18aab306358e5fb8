"""A dead or slow search server, an index that is behind, and hostile questions hold nothing up."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from infra.adapters.search.opensearch_search import OpenSearchReads
from infra.adapters.search.search_guard import Guard, Limits
from infra.ports.search_reads import IndexState, Kind
from tests.finding import Finding, finding
from tests.integration.proxy import Proxy
from tests.waiting import until

PATIENT = Limits(
    seconds=60, running_max=4, waiting_max=8, failures_max=3, rest_seconds=1, rest_seconds_max=1
)
IMPATIENT = replace(PATIENT, seconds=0.4)
SEARCH = "/api/search"


class Clock:
    """What the guard's rests are measured by: time passes when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> Guard:
    return Guard(PATIENT, clock)


@pytest.fixture
async def line(osmem_server: str) -> AsyncIterator[Proxy]:
    """The way to the search server, which can be cut or held."""
    proxy = Proxy(osmem_server)
    await proxy.open()
    yield proxy
    await proxy.close()


@pytest.fixture
async def world(
    postgres_url: str, osmem_server: str, line: Proxy, guard: Guard
) -> AsyncIterator[Finding]:
    through = line.url.replace("@", "")
    async with finding(postgres_url, osmem_server, asked_through=through, guard=guard) as found:
        yield found


async def test_a_dead_search_server_stops_search_alone(
    world: Finding, line: Proxy, clock: Clock
) -> None:
    ann = await world.square.member("ann")
    post = await world.square.post(ann, "tea")
    shop = await world.shop()
    product = await world.product(shop, "Teapot")
    await world.settled()
    assert await world.posts("tea") == [post]
    await line.close()
    for kind in ("posts", "users", "products"):
        assert (await world.asking.raw(SEARCH, q="tea", type=kind)).status_code == 503
    for path in (SEARCH, "/api/typeahead"):
        refused = await world.asking.raw(path, q="tea")
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert int(refused.headers["retry-after"]) >= 1
    for path in ("/api/feed", f"/api/users/{ann}", f"/api/products/{product}", "/health/ready"):
        assert (await world.asking.raw(path, ann)).status_code == 200
    await line.open()
    clock.now += PATIENT.rest_seconds_max
    assert await world.posts("tea") == [post]


async def test_a_slow_search_server_is_waited_for_a_little_and_then_left_alone(
    world: Finding, line: Proxy, guard: Guard, clock: Clock
) -> None:
    ann = await world.square.member("ann")
    await world.square.post(ann, "tea")
    await world.settled()
    await world.posts("tea")
    guard.limits = IMPATIENT
    # From here on the server answers nobody: who is answered was not kept waiting for it.
    line.held.clear()
    answers = await asyncio.gather(
        *(world.asking.raw(SEARCH, q=f"tea{number}") for number in range(40))
    )
    assert {answer.status_code for answer in answers} == {503}
    refused = [answer for answer in answers if "Too many searches" in answer.text]
    assert len(refused) == 40 - IMPATIENT.running_max - IMPATIENT.waiting_max
    for _ in range(20):
        answer = await world.asking.raw(SEARCH, q="tea")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "is not answering" in answer.text
        assert (await world.asking.raw("/api/feed", ann)).status_code == 200
    line.held.set()
    guard.limits = PATIENT
    clock.now += PATIENT.rest_seconds_max
    assert len(await world.posts("tea")) == 1


async def test_an_index_that_is_being_filled_says_how_far_it_is(
    world: Finding, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def filling(_reads: OpenSearchReads, _kind: Kind) -> IndexState:
        return IndexState(0, filled=0.434)

    ann = await world.square.member("ann")
    post = await world.square.post(ann, "tea")
    await world.settled()
    monkeypatch.setattr(OpenSearchReads, "state", filling)
    page = await world.page("tea")
    assert [one["postId"] for one in page["results"]] == [post]
    assert (page["degraded"], page["filled"]) == (True, 0.43)


async def test_an_index_that_is_behind_says_so_and_can_be_waited_for(world: Finding) -> None:
    ann = await world.square.member("ann")
    await world.settled()
    assert "degraded" not in await world.page("tea")
    post = await world.square.post(ann, "tea")
    await world.world.apply()
    # Who has just written finds it.
    answer = await world.asking.raw(SEARCH, after=world.square.applied, q="tea")
    assert [one["postId"] for one in answer.json()["results"]] == [post]
    # Nobody keeps the index now.
    await world.world.stop()
    await world.square.post(ann, "tea")
    await world.world.apply(hand_over=False)
    late = await world.asking.raw(SEARCH, after=world.square.applied, q="tea")
    assert late.status_code == 503
    assert len(await world.posts("tea")) == 1


HOSTILE = [
    "tea " * 10_000,
    "x" * 60_000,
    '"tea ' * 8_000,
    "\0tea\0 \0",
    "\u202etea\u2066 \u2069\u200f",
    "tea" + "\u202e" * 400,
    "-tea " * 20,
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "tea~2 tea^9 tea* [a TO z]",
    "a " * 200,
    " ".join(f"w{n}" for n in range(20)),
    '"' * 400,
    '"a "b "c "d ' * 30,
    "(" * 400,
    "a" * 500,
    "*" * 400 + "a",
    "a* b* c* ?" * 20,
    "/(a+)+$/ /.*.*.*b/",
    '{"query":{"script":{"script":"while(true){}"}}}',
    "<script>alert(1)</script>",
    "_exists_:text OR author:*",
    "\\u0000 \\x00 %00",
    "\u202e\u200b\ufeff tea",
    "\U0001f375" * 100,
    "e\u0301" * 240,
    "\ufdfa" * 400,
    "東" * 400,
    "zalgo" + "\u0300" * 400,
    "#" * 400 + "a",
    "@" + "a" * 400,
    "since:0001-01-01 tea",
    "until:9999-12-31T23:59:59.999999Z tea",
]


# As they stand in an address: halves of characters, bytes of no text, ends of texts.
HOSTILE_BYTES = [
    "%ED%A0%80",
    "%ED%A0%80%ED%B0%80tea",
    "%FF%FE",
    "%00",
    "tea%00",
    "%",
    "%zz",
    "%C0%80",
]


@pytest.fixture
async def searched(postgres_url: str, search_url: str) -> AsyncIterator[Finding]:
    async with finding(postgres_url, search_url) as found:
        yield found


async def test_hostile_questions_are_answered_or_refused_and_never_slow(
    searched: Finding,
) -> None:
    world = searched
    ann = await world.square.member("ann")
    await world.square.post(ann, "tea " * 80)
    await world.settled()
    began = time.monotonic()
    for text in HOSTILE_BYTES:
        for path in (SEARCH, "/api/typeahead"):
            answer = await world.asking.http.get(f"{path}?q={text}")
            assert answer.status_code in {200, 422}, (text, answer.text)
    for text in HOSTILE:
        for kind in ("posts", "users", "products"):
            answer = await world.asking.raw(SEARCH, q=text, type=kind)
            assert answer.status_code in {200, 422}, (text, answer.text)
        typed = await world.asking.raw("/api/typeahead", q=text)
        assert typed.status_code in {200, 422}, text
    # On average, which one pause of the machine does not change much.
    assert time.monotonic() - began < 0.5 * 4 * len(HOSTILE)
    for name in ("category", "shopId", "attribute", "minPrice", "available", "sort", "cursor"):
        for text in ("x" * 2_000, '{"a":1}', "=" * 500, "[.*]"):
            answer = await world.asking.raw(SEARCH, q="tea", type="products", **{name: text})
            assert answer.status_code in {200, 422}, (name, text)
    # The server is as well as before.
    assert len(await world.posts("tea")) == 1


async def test_a_request_that_is_given_up_is_given_up_to_the_server(
    world: Finding, line: Proxy
) -> None:
    await world.square.member("ann")
    await world.settled()
    line.held.clear()
    # As many as may be under way at a time.
    names = [f"@an{number}" for number in range(PATIENT.running_max)]
    given_up = [asyncio.create_task(world.asking.raw("/api/typeahead", q=name)) for name in names]
    wanted = line.arrived + len(given_up)
    await until(lambda: line.arrived >= wanted)
    for one in given_up:
        one.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)
    before = line.arrived
    asking = asyncio.create_task(world.asking.raw("/api/typeahead", q="@an"))
    await until(lambda: line.arrived > before)
    line.held.set()
    answer = await asking
    assert [one["username"] for one in answer.json()["accounts"]] == ["ann"]


async def test_what_is_in_demand_is_asked_of_the_server_once(
    postgres_url: str, osmem_server: str
) -> None:
    async with finding(postgres_url, osmem_server, cache_seconds=600.0) as world:
        shop = await world.shop()
        mug = await world.product(shop, "Mug", units=3)
        await world.settled()
        asked = [world.page("mug", type="products") for _ in range(20)]
        pages = await asyncio.gather(*asked)
        assert {page["results"][0]["available"] for page in pages} == {3}
        # What can be bought is read at once, whatever was kept.
        await world.receive(mug, 4)
        await world.world.apply()
        page = await world.page("mug", type="products")
        assert page["results"][0]["available"] == 7
        metrics = (await world.asking.raw("/metrics")).text
        assert 'plaza_search_answers_total{source="made"} 1.0' in metrics
        assert 'plaza_search_answers_total{source="shared"} 20.0' in metrics
