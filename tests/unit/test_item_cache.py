"""What pages show is kept in memory, and never longer than it is true."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from domain.shared.identifiers import id_text
from infra.adapters.secrets.memory_keyring import MemoryKeyring
from infra.ports.log import OPEN
from infra.ports.reads import Cards, MemberRow, PostRow, RepostRow
from query_api.timelines.items import Items, NoProducts

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ANN, BOB = 1, 2
POST, REPOST = 100, 200
POST_ID = 7
NEITHER = (False, False)
"""Not verified, and not erased."""


class Tables:
    """One post by Ann, which Bob has reposted. Answers wait for `gate`."""

    def __init__(self, keyring: MemoryKeyring) -> None:
        self.keyring = keyring
        self.likes = 0
        self.names = {ANN: "Ann", BOB: "Bob"}
        self.post_until = self.repost_until = OPEN
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def cards(self, *_given: Any, **_named: Any) -> Cards:
        seal = self.keyring.seal
        post = PostRow(
            POST, POST_ID, ANN, NOON, seal(id_text(ANN), "hello"), None, (), None, None,
            self.post_until, self.likes, 0, 0,
        )  # fmt: skip
        members = [
            MemberRow(number, None, seal(id_text(number), name), None, None, *NEITHER)
            for number, name in self.names.items()
        ]
        repost = RepostRow(REPOST, BOB, POST, self.repost_until)
        self.asked += 1
        await self.gate.wait()
        return Cards([post], [repost], members)

    async def were_asked(self, times: int = 1) -> None:
        while self.asked < times:  # noqa: ASYNC110 -- it is a step or two away.
            await asyncio.sleep(0)


async def opened() -> tuple[Tables, Items]:
    keyring = MemoryKeyring()
    for member in (ANN, BOB):
        await keyring.create(id_text(member))
    await keyring.fetch([id_text(ANN), id_text(BOB)])
    tables = Tables(keyring)
    reads: Any = tables
    items = Items(reads, keyring, NoProducts())
    items.begin()
    return tables, items


async def test_what_is_loaded_once_is_kept() -> None:
    _, items = await opened()
    await items.load([POST], [REPOST])
    for entry in (POST, REPOST):
        kept = items.get(entry)
        assert kept is not None
        assert items.fragments.young[entry] == kept.plain


async def test_a_changed_post_is_forgotten_with_all_its_reposts() -> None:
    _, items = await opened()
    await items.load([POST], [REPOST])
    items.forget_posts([POST_ID])
    assert (items.get(POST), items.get(REPOST)) == (None, None)
    assert items.fragments.young == {}


async def test_a_changed_author_is_forgotten_with_all_they_wrote_or_reposted() -> None:
    for member, left in ((ANN, set[int]()), (BOB, {POST})):
        _, items = await opened()
        await items.load([POST], [REPOST])
        items.forget_members([member])
        assert {entry for entry in (POST, REPOST) if items.get(entry)} == left


async def test_what_changed_while_it_was_read_is_not_kept() -> None:
    tables, items = await opened()
    tables.gate.clear()
    loading = asyncio.create_task(items.load([POST]))
    await tables.were_asked()
    items.forget_posts([POST_ID])
    tables.gate.set()
    assert POST in await loading
    assert items.get(POST) is None
    tables.likes = 1
    shown = await items.load([POST])
    assert b'"likeCount":1' in shown[POST].plain
    assert items.get(POST) is shown[POST]


async def test_a_thousand_who_miss_the_same_post_at_once_ask_for_it_once() -> None:
    tables, items = await opened()
    tables.gate.clear()
    missing = [asyncio.create_task(items.by_id([POST_ID])) for _ in range(1_000)]
    await asyncio.sleep(0)
    tables.gate.set()
    found = {id(shown[POST_ID]) for shown in await asyncio.gather(*missing)}
    assert (tables.asked, len(found)) == (1, 1)


async def test_who_asks_after_a_change_was_told_is_not_answered_from_before_it() -> None:
    tables, items = await opened()
    tables.gate.clear()
    before = asyncio.create_task(items.load([POST]))
    await tables.were_asked()
    tables.likes = 1
    items.forget_posts([POST_ID])
    after = asyncio.create_task(items.load([POST]))
    await tables.were_asked(2)
    tables.gate.set()
    assert b'"likeCount":0' in (await before)[POST].plain
    assert b'"likeCount":1' in (await after)[POST].plain
    assert tables.asked == 2


async def test_a_new_name_while_posts_are_read_is_not_missed() -> None:
    tables, items = await opened()
    tables.gate.clear()
    loading = asyncio.create_task(items.load([POST], [REPOST]))
    await tables.were_asked()
    items.forget_members([ANN])
    tables.gate.set()
    await loading
    assert (items.get(POST), items.get(REPOST)) == (None, None)


async def test_nothing_is_kept_while_nobody_tells_of_changes() -> None:
    tables, items = await opened()
    items.end()
    assert POST in await items.load([POST])
    assert items.get(POST) is None
    items.begin()
    await items.load([POST])
    items.end()
    assert items.get(POST) is None
    assert tables.asked == 2


async def test_what_nobody_is_shown_is_known_but_not_among_fragments() -> None:
    tables, items = await opened()
    tables.repost_until = 300
    await items.load([POST], [REPOST])
    assert set(items.fragments.young) == {POST}
    gone = items.get(REPOST)
    assert gone is not None
    assert (gone.stands, gone.post_stands) == (False, True)


async def test_a_destroyed_key_takes_the_post_away() -> None:
    tables, items = await opened()
    found = await items.load([POST])
    assert found[POST].post_stands
    card = await tables.cards()
    await tables.keyring.destroy(id_text(ANN))
    tables.cards = lambda *_a, **_k: asyncio.sleep(0, card)  # type: ignore[method-assign]
    items.forget_members([ANN])
    found = await items.load([POST])
    assert not found[POST].post_stands
