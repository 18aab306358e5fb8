"""Replays: a projection leaves of a range what the workers' tables hold, and twice the same."""

import asyncio
import base64
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from domain.commerce.order.events import OrderCreated, OrderLine
from domain.shared.identifiers import id_number, id_text
from domain.shared.money import Money
from domain.social.member.events import MemberErased, MemberRegistered, ProfileChanged
from infra.command_line.main import run
from infra.composition.operations.replaying import (
    NoSuchProjection,
    ReplayFailed,
    find_projection,
    replay,
)
from infra.composition.settings import Settings
from infra.formats.event_shapes import timestamp
from infra.ports.log import Recorded
from infra.ports.tables import columns_of
from tests.builders import NOON
from tests.integration.tables import SOCIAL, chain, contents, projector, random_log, write_log

COUNT = 3_000
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def settings(url: str) -> Settings:
    return Settings(postgres_url=url)


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return timestamp(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


async def test_a_replay_leaves_the_rows_of_the_workers(postgres_url: str, tmp_path: Path) -> None:
    events = await random_log(postgres_url, 81, COUNT)
    async with projector(postgres_url) as target:
        for frames in chain(events, 200):
            await target.apply(frames)
    tables = contents(postgres_url)
    for projection in SOCIAL:
        out = tmp_path / f"{projection.name}.jsonl"
        done = await replay(settings(postgres_url), projection, out)
        found = lines_of(out)
        assert done.rows == len(found)
        for table in projection.tables:
            names = [column.name for column in columns_of(table)]
            expected = [
                dict(zip(names, map(as_json, row), strict=True)) for row in tables[table.name]
            ]
            rows = [line["row"] for line in found if line["table"] == table.name]
            assert sorted(rows, key=repr) == sorted(expected, key=repr)
            assert done.tables[table.name] == len(expected)


async def test_two_replays_are_the_same_bytes(postgres_url: str, tmp_path: Path) -> None:
    await random_log(postgres_url, 82, COUNT)
    for projection in SOCIAL:
        one, other = tmp_path / "one", tmp_path / "other"
        between = (COUNT // 3, COUNT - 100)
        done = await replay(settings(postgres_url), projection, one, between)
        again = await replay(settings(postgres_url), projection, other, between)
        assert one.read_bytes() == other.read_bytes()
        assert done.sha256 == again.sha256


async def test_a_range_holds_only_what_began_in_it(postgres_url: str, tmp_path: Path) -> None:
    events = await random_log(postgres_url, 83, COUNT)
    out = tmp_path / "members.jsonl"
    done = await replay(settings(postgres_url), find_projection("members"), out, (1_500, 2_500))
    began: set[str] = set()
    unknown = 0
    for one in events[1_500:2_499]:
        event: Any = one.event
        if isinstance(event, MemberRegistered):
            began.add(event.member_id)
        elif isinstance(event, ProfileChanged | MemberErased):
            unknown += event.member_id not in began
    assert unknown
    assert done.unknown_rows == unknown
    assert {line["row"]["member_id"] for line in lines_of(out)} == {id_number(m) for m in began}


async def test_the_example_of_follows_gives_the_totals_of_the_log(
    postgres_url: str, tmp_path: Path
) -> None:
    await random_log(postgres_url, 84, COUNT)
    out = tmp_path / "follows.jsonl"
    name = f"{EXAMPLES / 'follows_by_hour.py'}:FOLLOWS"
    words = ["replay", "--projection", name, "--out", str(out), "--json"]
    assert await asyncio.to_thread(run, words, {"PLAZA_POSTGRES_URL": postgres_url}) == 0
    rows = [line["row"] for line in lines_of(out)]
    with psycopg.connect(postgres_url) as connection:
        totals: dict[str, int] = dict(
            connection.execute("SELECT topic, count(*) FROM log.events GROUP BY topic").fetchall()
        )
    assert sum(row["began"] for row in rows) == totals["follow.started.v1"]
    assert sum(row["ended"] for row in rows) == totals["follow.ended.v1"]


def order(position: int, quantity: int, source_post_id: str | None) -> Recorded:
    order_id = id_text(position)
    created = OrderCreated(
        order_id=order_id,
        checkout_id="c",
        member_id="m",
        shop_id="s",
        seller_id="m2",
        lines=(
            OrderLine(
                product_id="p",
                quantity=quantity,
                price=Money(currency="EUR", value=900),
                source_post_id=source_post_id,
            ),
        ),
        total=Money(currency="EUR", value=900 * quantity),
        psp_reference="P",
    )
    return Recorded(
        stream=f"order:{order_id}",
        version=1,
        recorded_at=NOON.replace(hour=12 + position % 2),
        event=created,
        position=position,
    )


async def test_the_example_of_orders_counts_them_by_hour(postgres_url: str, tmp_path: Path) -> None:
    await write_log(postgres_url, [order(1, 2, None), order(2, 1, "post"), order(3, 5, "post")])
    out = tmp_path / "orders.jsonl"
    projection = find_projection(f"{EXAMPLES / 'orders_by_hour.py'}:ORDERS")
    await replay(settings(postgres_url), projection, out)
    rows = {line["row"].pop("hour"): line["row"] for line in lines_of(out)}
    assert rows == {
        2026010112: {"orders": 1, "units": 1, "from_posts": 1, "position": 2},
        2026010113: {"orders": 2, "units": 7, "from_posts": 1, "position": 3},
    }
    with psycopg.connect(postgres_url) as connection:
        counted = connection.execute(
            "SELECT to_char(to_timestamp(log.recorded_at(state) / 1e6) AT TIME ZONE 'UTC',"
            " 'YYYYMMDDHH24')::bigint, count(*) FROM log.events"
            " WHERE topic = 'order.created.v2' GROUP BY 1"
        ).fetchall()
    assert dict(counted) == {hour: row["orders"] for hour, row in rows.items()}


FAILING = """
from dataclasses import replace
from projections import posts

def fold(recorded):
    if recorded.position > 1000:
        raise ValueError("a bug of mine")
    return posts.PROJECTION.fold(recorded)

MINE = replace(posts.PROJECTION, name="mine", fold=fold)
OTHER = 5
"""


async def test_a_fold_that_fails_is_told_where_and_leaves_no_file(
    postgres_url: str, tmp_path: Path
) -> None:
    await random_log(postgres_url, 85, 1_200)
    file, out = tmp_path / "mine.py", tmp_path / "out.jsonl"
    file.write_text(FAILING)
    with pytest.raises(ReplayFailed, match=r"at 1\d\d\d .*a bug of mine"):
        await replay(settings(postgres_url), find_projection(f"{file}:MINE"), out)
    assert names_in(tmp_path) == ["mine.py"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nobody", "there is no projection"),
        ("missing.py:X", "there is no file"),
        ("{folder}/mine.py:OTHER", "is not a Projection"),
        ("{folder}/mine.py:NOTHING", "is not a Projection"),
        ("{folder}/broken.py:X", "cannot be loaded"),
        ("{folder}/ends.py:X", "cannot be loaded: SystemExit"),
    ],
)
def test_what_is_no_projection_is_refused(name: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FAILING)
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "ends.py").write_text("raise SystemExit(0)")
    with pytest.raises(NoSuchProjection, match=why):
        find_projection(name.format(folder=tmp_path))


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    words = ["replay", "--projection", "graph", "--out", str(tmp_path)]
    assert run(words, {"PLAZA_POSTGRES_URL": "postgresql://127.0.0.1:1/none"}) == 2
    assert list(tmp_path.parent.glob(".*.new")) == []
