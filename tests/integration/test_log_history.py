"""The log for people: one event with what belongs to it, and what the log holds in sums."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from domain.commerce.checkout.events import CheckoutConfirmed
from domain.shared.identifiers import id_text
from domain.shared.message import tag_of
from domain.social.member.events import MemberErased, UsernameReleased
from domain.social.relation.events import Followed, Unfollowed
from infra.command_line.main import run
from infra.composition.operations.log_history import NoSuchEvent, statistics, story
from infra.composition.settings import Settings
from infra.formats.codec import encode_state
from infra.ports.log import Recorded
from tests.integration.tables import random_log, write_log
from tests.integration.test_operators_list import BUYER, CHECKOUT, STARTED

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ADA, BRIAN = id_text(1_000_001), id_text(1_000_002)


def recorded(position: int, event: Any, correlation: str, causation: str) -> Recorded:
    return Recorded(
        stream=f"s:{position}",
        version=1,
        recorded_at=NOON,
        event=event,
        correlation_id=correlation,
        causation_id=causation,
        position=position,
    )


FOLLOWED = Followed(follower_id=ADA, followee_id=BRIAN)
UNFOLLOWED = Unfollowed(follower_id=ADA, followee_id=BRIAN)


def erasure() -> list[Recorded]:
    """A request erases; a process reacts, twice in a row; others' events are in between."""
    return [
        recorded(1, FOLLOWED, "other", "other"),
        recorded(2, MemberErased(member_id=ADA), "wanted", "wanted"),
        recorded(3, UsernameReleased(username_key="00", member_id=ADA), "wanted", "wanted"),
        recorded(4, FOLLOWED, "2", "2"),
        recorded(5, UNFOLLOWED, "wanted", "2"),
        recorded(6, FOLLOWED, "not wanted", "not wanted"),
        recorded(7, UNFOLLOWED, "wanted", "5"),
    ]


def positions(nodes: Sequence[Any]) -> list[Any]:
    return [(node["position"], positions(node["effects"])) for node in nodes]


async def test_an_event_is_shown_with_its_causes_and_effects(postgres_url: str) -> None:
    await write_log(postgres_url, erasure())
    found = (await story(Settings(postgres_url=postgres_url), 5)).described()
    assert found["event"]["type"] == "follow.ended.v1"
    assert [one["position"] for one in found["causes"]] == [2]
    assert positions(found["effects"]) == [(7, [])]
    assert positions(found["tree"]) == [(2, [(5, [(7, [])])]), (3, [])]
    assert {(one["projection"], one["table"], one["change"]) for one in found["changes"]} == {
        ("graph", "follows", "close"),
        ("graph", "member_counts", "add"),
    }
    assert found["searched"] == {"after": 0, "last": 7, "head": 7, "complete": True}


async def test_an_event_is_shown_with_the_checkout_that_it_belongs_to(
    postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    confirmed = CheckoutConfirmed(checkout_id=CHECKOUT, member_id=BUYER)
    events = [
        replace(recorded(1, STARTED, "wanted", "wanted"), stream=f"checkout:{CHECKOUT}"),
        # Of another request: the provider's notification.
        replace(recorded(2, confirmed, "told", "told"), stream=f"checkout:{CHECKOUT}", version=2),
    ]
    await write_log(postgres_url, events)
    found = (await story(Settings(postgres_url=postgres_url), 1)).described()
    assert positions(found["tree"]) == [(1, [])]
    assert [(one["checkoutId"], one["status"]) for one in found["checkouts"]] == [
        (CHECKOUT, "confirmed")
    ]
    shown = await plaza(postgres_url, capsys, "log", "show", "1")
    assert f"checkout {CHECKOUT}: confirmed (plaza checkouts show {CHECKOUT})" in shown


async def test_effects_beyond_the_search_are_said_to_be_unknown(postgres_url: str) -> None:
    await write_log(postgres_url, erasure())
    found = (await story(Settings(postgres_url=postgres_url), 2, within=3)).described()
    assert positions(found["effects"]) == [(5, [])]
    assert found["searched"] == {"after": 0, "last": 5, "head": 7, "complete": False}


async def test_ids_of_requests_that_look_like_positions_are_none(postgres_url: str) -> None:
    await write_log(postgres_url, erasure())
    found = (await story(Settings(postgres_url=postgres_url), 4)).described()
    assert (found["causes"], positions(found["tree"])) == ([], [(4, [])])


async def test_where_there_is_no_event_none_is_shown(postgres_url: str) -> None:
    await write_log(postgres_url, erasure())
    with pytest.raises(NoSuchEvent):
        await story(Settings(postgres_url=postgres_url), 8)


async def test_an_unreadable_event_is_shown_as_such(postgres_url: str) -> None:
    await write_log(postgres_url, erasure())
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE log.events SET state = '\\xc1' WHERE notification_id = 5")
    found = (await story(Settings(postgres_url=postgres_url), 5)).described()
    assert found["event"]["data"] is None
    assert positions(found["tree"]) == [(5, [])]


async def test_sums_are_those_of_the_events(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.adapters.log.log_queries.STRETCH", 333)
    events = await random_log(postgres_url, 71, 2_000)
    # Times with and without a fraction are stored in different ways.
    whole = [
        replace(
            one,
            position=2_000 + number,
            stream=f"whole:{number}",
            recorded_at=NOON.replace(microsecond=0) + timedelta(days=number % 3),
        )
        for number, one in enumerate(events[:50], 1)
    ]
    await write_log(postgres_url, whole)
    every = [*events, *whole]
    found = await statistics(Settings(postgres_url=postgres_url))
    assert found["events"] == len(every)
    assert found["bytes"] == sum(len(encode_state(one)) for one in every)
    assert (found["firstPosition"], found["lastPosition"]) == (1, 2_050)
    by_type = Counter(tag_of(type(one.event)) for one in every)
    assert {row["type"]: row["events"] for row in found["types"]} == by_type
    by_day = Counter(one.recorded_at.astimezone(UTC).date().isoformat() for one in every)
    assert {row["day"]: row["events"] for row in found["days"]} == by_day
    assert found["days"][-1]["eventsSoFar"] == len(every)
    both = Counter((day_of(one), tag_of(type(one.event))) for one in every)
    assert {(row["day"], row["type"]): row["events"] for row in found["typesByDay"]} == both


def day_of(one: Recorded) -> str:
    return one.recorded_at.astimezone(UTC).date().isoformat()


async def test_both_speak_to_people_and_to_programs(
    postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await write_log(postgres_url, erasure())
    shown = await plaza(postgres_url, capsys, "log", "show", "5")
    assert "request wanted" in shown
    assert "follow.ended.v1" in shown
    told = json.loads(await plaza(postgres_url, capsys, "log", "show", "5", "--json"))
    assert told["event"]["position"] == 5
    assert "follow.started.v1" in await plaza(postgres_url, capsys, "log", "stats")
    assert json.loads(await plaza(postgres_url, capsys, "log", "stats", "--json"))["events"] == 7


async def plaza(url: str, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    status = await asyncio.to_thread(run, list(words), {"PLAZA_POSTGRES_URL": url})
    assert status == 0
    return capsys.readouterr().out
