"""The proof of an erasure finds whatever was left, wherever it was left, and only then is none."""

import asyncio
import gzip
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
import pytest
import redis
from confluent_kafka import Producer
from msgspec import structs
from opensearchpy import OpenSearch

from domain.social.member.events import UsernameClaimed
from infra.adapters.archives import text_searches
from infra.adapters.archives.export_folder import Asked
from infra.adapters.archives.text_searches import Sought, in_pieces
from infra.adapters.log.kafka_log import SOCIAL_TOPIC, KafkaFrames, create_topics
from infra.command_line.main import run
from infra.composition.operations.backing_up import back_up
from infra.composition.operations.erasure_proof import NoSuchMember, Wanted, prove, texts_of
from infra.composition.operations.export_folders import remember
from infra.composition.operations.exporting import export_events
from infra.composition.settings import Settings
from infra.formats.codec import FrameLines, username_key
from infra.servers.kafka import start_kafka
from infra.servers.osmem import osmem_program
from infra.servers.process import free_port, start
from tests.square import Square

SECRET = 'a "secret" of Zoë,\nin two lines'


@dataclass
class World:
    settings: Settings
    square: Square
    zoe: str
    folder: Path

    def search(self) -> OpenSearch:
        return OpenSearch(self.settings.opensearch_url, timeout=30)

    async def found(self, *folders: Path) -> dict[str, int]:
        """In which stores something was found, and how much."""
        signed = await prove(self.settings, self.zoe, Wanted([SECRET], folders))
        return {one.store: one.found for one in signed.report.searched if one.found}


@pytest.fixture
async def world(postgres_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    program = osmem_program(tmp_path / "search", free_port())
    server = start(program)
    data = tmp_path / "data"
    data.mkdir()
    square = await Square.open(postgres_url)
    zoe, bob = await square.member("zoe_weaver"), await square.member("bob")
    key = username_key(square.names, "zoe_weaver")
    claimed = UsernameClaimed(username_key=key, member_id=zoe)
    await square.record(f"username:{key}", claimed)
    await square.post(zoe, SECRET)
    await square.post(bob, "mine stays")
    await square.apply()
    settings = Settings(
        postgres_url=postgres_url,
        redis_url=redis_url,
        opensearch_url=program.url,
        data_folder=str(data),
    )
    yield World(settings, square, zoe, data)
    await square.close()
    server.stop()


async def test_an_erased_member_is_proven_gone_and_nobody_else(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = world.settings
    environment = {
        "PLAZA_POSTGRES_URL": settings.postgres_url,
        "PLAZA_REDIS_URL": settings.redis_url,
        "PLAZA_OPENSEARCH_URL": settings.opensearch_url,
        "PLAZA_DATA_FOLDER": settings.data_folder,
    }
    texts, report = tmp_path / "texts.json", tmp_path / "report.json"

    async def plaza(*words: str) -> int:
        return await asyncio.to_thread(run, ["erasure", *words], environment)

    assert await plaza("texts", "@zoe_weaver", "--out", str(texts)) == 0
    assert set(json.loads(texts.read_text())) == {
        "zoe_weaver", "Zoe_Weaver", "I am zoe_weaver", "zoe_weaver@example.org", SECRET,
    }  # fmt: skip
    assert texts.stat().st_mode & 0o777 == 0o600
    assert await plaza("texts", "@zoe_weaver", "--out", str(texts)) == 2
    words = ["prove", "zoe_weaver", "--texts", str(texts), "--json"]
    capsys.readouterr()
    assert await plaza(*words) == 1
    before = json.loads(capsys.readouterr().out)["report"]
    assert (before["erased"], before["keyDestroyed"], before["proven"]) == (False, False, False)
    assert before["log"]["opened"] == before["log"]["sealedTexts"] == 5

    position = await world.square.erase(world.zoe)
    await world.square.apply()
    with psycopg.connect(settings.postgres_url, autocommit=True) as somebody:
        # As a verification has, which may run at the same time.
        somebody.execute("CREATE TEMPORARY TABLE of_its_own (text text)")
        assert await plaza(*words) == 0
    said = capsys.readouterr().out
    after = json.loads(said)["report"]
    assert SECRET not in said
    assert "zoe_weaver" not in said
    assert (after["erasedAt"], after["texts"], after["proven"]) == (position, 5, True)
    assert after["log"] | {"keys": 0, "tries": 0} == {
        "events": 2, "sealedTexts": 5, "keys": 0, "tries": 0, "opened": 0, "complete": True,
    }  # fmt: skip
    assert {one["store"] for one in after["searched"]} == {
        "postgresql", "redis", "search", "data folder",
    }  # fmt: skip
    assert all(one["found"] == 0 for one in after["searched"])

    report.write_text(said)
    assert await plaza("check", str(report)) == 0
    report.write_text(said.replace(f'"erasedAt": {position}', f'"erasedAt": {position - 1}'))
    assert await plaza("check", str(report)) == 1
    assert await plaza("prove", world.zoe) == 0
    assert "proven" in capsys.readouterr().out
    assert await texts_of(settings, world.zoe) == []
    with pytest.raises(NoSuchMember):
        await prove(settings, "nobody_here", Wanted())


def in_a_table(world: World) -> None:
    with psycopg.connect(world.settings.postgres_url) as connection:
        connection.execute("CREATE TABLE public.forgotten (notes jsonb)")
        notes = json.dumps({"notes": [SECRET]})
        connection.execute("INSERT INTO public.forgotten VALUES (%s)", [notes])


def in_redis(world: World) -> None:
    with redis.Redis.from_url(world.settings.redis_url) as client:
        client.hset("page:7", "body", SECRET.encode())
        client.zadd("names", {"ok": 1})


def in_an_index(world: World) -> None:
    body = {"text": f"they said {SECRET.casefold()} again"}
    world.search().index(index="old-posts", id="1", body=body, refresh=True)


def in_a_log_file(world: World) -> None:
    (world.folder / "logs").mkdir()
    with gzip.open(world.folder / "logs" / "worker.log.1.gz", "wb") as file:
        file.write(b"x" * 9_000_000 + json.dumps({"error": SECRET}).encode())


@pytest.mark.parametrize(
    ("leave", "store"),
    [
        (in_a_table, "postgresql"),
        (in_redis, "redis"),
        (in_an_index, "search"),
        (in_a_log_file, "data folder"),
    ],
)
async def test_what_was_left_is_found(
    world: World, leave: Callable[[World], None], store: str
) -> None:
    await world.square.erase(world.zoe)
    await world.square.apply()
    assert await world.found() == {}
    leave(world)
    assert (await world.found()).keys() == {store}


async def test_a_copied_key_exports_and_backups_are_found(world: World, tmp_path: Path) -> None:
    out, backup = tmp_path / "export", tmp_path / "backup"
    await export_events(world.settings, out, Asked())
    with psycopg.connect(world.settings.postgres_url) as connection:
        connection.execute(
            "INSERT INTO vault.person_keys SELECT 'a-copy', key FROM vault.person_keys"
            " WHERE person_id = %s",
            [world.zoe],
        )
    await world.square.erase(world.zoe)
    await world.square.apply()
    signed = await prove(world.settings, world.zoe, Wanted())
    assert signed.report.log.opened == 5
    assert not signed.report.proven
    # An export made before is remembered; what is not ours has to be named.
    assert (await world.found()).keys() == {f"folder {out}"}
    await asyncio.to_thread(back_up, world.settings, str(backup))
    assert (await world.found(backup)).keys() == {f"folder {out}"}
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "zoe.txt").write_text(SECRET)
    found = await world.found(tmp_path / "notes")
    assert found.keys() == {f"folder {out}", f"folder {tmp_path / 'notes'}"}


@pytest.mark.full
async def test_what_a_topic_still_has_is_found(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, bootstrap = start_kafka(tmp_path / "kafka", os.environ)
    try:
        create_topics(bootstrap)
        frames = KafkaFrames(bootstrap)
        lines = list(await world.square.log.read_lines(0, 1_000))
        frames.send(FrameLines(0, 0, lines[0].position, lines[-1].position, lines))
        await frames.flush()
        await world.square.erase(world.zoe)
        await world.square.apply()
        world.settings = structs.replace(world.settings, kafka_bootstrap=bootstrap)
        signed = await prove(world.settings, world.zoe, Wanted([SECRET]))
        (topics,) = [one for one in signed.report.searched if one.store == "kafka"]
        assert (topics.objects, topics.found, topics.problem) == (1, 0, "")
        assert signed.report.proven

        producer = Producer({"bootstrap.servers": bootstrap})
        for number in range(3):
            producer.produce(SOCIAL_TOPIC, f"{number} {SECRET}".encode(), key=b"a key")
        assert producer.flush(60) == 0
        assert (await world.found()).keys() == {"kafka"}
        monkeypatch.setattr(text_searches, "WAIT_SECONDS", 2.0)
        broker.stop()
        signed = await prove(world.settings, world.zoe, Wanted([SECRET]))
        (topics,) = [one for one in signed.report.searched if one.store == "kafka"]
        assert topics.problem
        assert not signed.report.proven
    finally:
        broker.stop()


def test_texts_are_found_however_they_are_cut() -> None:
    data = b"." * 10 + SECRET.encode() + b"." * 10
    sought = Sought([SECRET])
    for size in (1, 7, len(SECRET), 1000):
        rest = [data[start : start + size] for start in range(0, len(data), size)]
        pieces = in_pieces(partial(taken, rest), sought.overlap)
        assert any(sought.count_in(piece) for piece in pieces), size


def taken(rest: list[bytes], _size: int) -> bytes:
    return rest.pop(0) if rest else b""


def test_folders_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    remember(tmp_path, tmp_path / "out")
    remember(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "nowhere").exists()
