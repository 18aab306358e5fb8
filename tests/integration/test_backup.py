"""A backup brings everything back, onto an empty machine, as of any position that it holds."""

import asyncio
import json
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from pyarrow import fs

from domain.commerce.cart.events import CartItem, CartItemPut
from domain.commerce.checkout.events import (
    CheckoutConfirmed,
    CheckoutOrder,
    CheckoutStarted,
    ItemsReserved,
)
from domain.commerce.order.events import OrderConfirmed, OrderCreated, OrderLine
from domain.shared.money import Money
from domain.shared.personal import Personal
from infra.adapters.archives import database_copy
from infra.adapters.archives.database_copy import COMPUTED, KEPT, MADE_AT_START, Damaged, NotEmpty
from infra.adapters.migrations import migrate
from infra.adapters.processes.process_progress import PostgresProgress
from infra.command_line.main import run
from infra.composition.operations.backing_up import BackupRefused, back_up, check, restore
from infra.composition.operations.verifying import verify_together
from infra.composition.settings import Settings
from infra.ports.keepers import CannotVerify, Verified
from infra.servers.process import free_port
from projections import COMMERCE, SOCIAL
from tests.asking import Asking
from tests.integration.test_as_of import Stall
from tests.integration.test_pages_follow_the_law import Chance
from tests.square import Square

PRICE = Money(currency="EUR", value=999)


@pytest.fixture
def empty_url(postgres_server: str) -> Iterator[str]:
    """Another machine, so to say: a database that nobody has used."""
    name = f"empty_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres_server.rpartition("/")[0] + "/" + name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def settings(url: str) -> Settings:
    return Settings(postgres_url=url)


def modes_of(folder: Path) -> dict[str, int]:
    return {
        file.relative_to(folder).as_posix(): file.stat().st_mode & 0o777
        for file in folder.rglob("*")
        if file.is_file()
    }


@dataclass
class World:
    """A square in which people post, follow, sell and buy."""

    square: Square
    chance: Chance
    stall: Stall
    checkouts: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    async def open(cls, url: str, acts: int, seed: int = 7) -> Self:
        square = await Square.open(url, commerce=True)
        chance = Chance(square, random.Random(seed))
        await chance.gather()
        stall = Stall(square, chance, random.Random(seed + 1))
        await stall.open()
        world = cls(square, chance, stall)
        await world.live(acts)
        return world

    async def live(self, acts: int) -> None:
        for number in range(acts):
            await self.chance.act()
            if number % 3 == 0:
                await self.stall.act()
            if number % 10 == 0:
                await self.stall.post()
                await self.buy()
        await self.square.apply()

    async def buy(self) -> None:
        """Somebody orders a product of the stall, and has another one in the cart."""
        square, members = self.square, self.chance.members
        product = self.stall.dice.choice(self.stall.products)
        seller, total = members[0], Money(currency="EUR", value=2 * PRICE.value)
        lines = (OrderLine(product_id=product, quantity=2, price=PRICE),)
        item = CartItem(product_id=product, quantity=1, seen_price=PRICE, source_post_id=None)
        buyer = self.stall.dice.choice(members)
        await square.record(f"cart:{buyer}", CartItemPut(member_id=buyer, item=item))
        order = OrderCreated(
            order_id=square.new_id(),
            checkout_id=square.new_id(),
            member_id=buyer,
            shop_id=square.new_id(),
            seller_id=seller,
            lines=lines,
            total=total,
            psp_reference="P",
        )
        checkout_id, order_id = order.checkout_id, order.order_id
        made = CheckoutOrder(
            order_id=order_id, shop_id=order.shop_id, seller_id=seller, lines=lines
        )
        begun = CheckoutStarted(
            checkout_id=checkout_id,
            member_id=buyer,
            orders=(made,),
            total=total,
            shipping_address=Personal("Mug Street 1"),
            hold_seconds=600,
            deadline=square.now + timedelta(minutes=30),
        )
        held = ItemsReserved(checkout_id=checkout_id, expires_at=begun.deadline)
        done = CheckoutConfirmed(checkout_id=checkout_id, member_id=buyer)
        paid = OrderConfirmed(order_id=order_id, member_id=buyer, captured=total)
        await square.record(f"checkout:{checkout_id}", begun)
        await square.record(f"checkout:{checkout_id}", held)
        await square.record(f"order:{order_id}", order)
        # One in three stays where it is, to be gone on with after a restore.
        if self.stall.dice.random() < 2 / 3:
            await square.record(f"checkout:{checkout_id}", done)
            await square.record(f"order:{order_id}", paid)
        self.checkouts.append((checkout_id, buyer))

    async def pages(self, square: Square | None = None) -> list[Any]:
        """What three members are shown of themselves, and of what is sold and bought."""
        async with Asking.open(square or self.square) as asking:
            found = []
            for member in self.chance.members[:3]:
                paths = [f"/api/users/{member}", f"/api/users/{member}/posts", "/api/feed"]
                found += [await asking.get(path, member, limit=50) for path in paths]
                found.append(await asking.get("/api/cart", member))
                for role in ("buyer", "seller"):
                    orders = await asking.get("/api/orders", member, role=role, limit=50)
                    found.append(orders)
                    found += [
                        await asking.get(f"/api/orders/{order['orderId']}", member)
                        for order in orders["orders"][:3]
                    ]
            found += [
                (await asking.raw(f"/api/checkouts/{checkout}", buyer)).json()
                for checkout, buyer in self.checkouts
            ]
            found += [
                (await asking.raw(f"/api/products/{product}")).json()
                for product in self.stall.products
            ]
        return found

    async def pages_from(self, url: str) -> list[Any]:
        """The same from another database, in which nothing is computed yet."""
        square = await Square.open(url, commerce=True)
        await square.apply()
        found = await self.pages(square)
        verified = await verify_together(settings(url), (*SOCIAL, *COMMERCE))
        assert [one for one in verified.values() if not is_same(one)] == []
        await square.close()
        return found


def is_same(found: Verified | CannotVerify) -> bool:
    return isinstance(found, Verified) and not found.different


async def test_pages_are_the_same_on_an_empty_machine(
    postgres_url: str, empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_copy, "SEGMENT_EVENTS", 50)
    world = await World.open(postgres_url, 120)
    square = world.square
    then, pages_then = square.applied, await world.pages()
    begun_then = len(world.checkouts)
    folder = str(tmp_path / "backup")
    first = await asyncio.to_thread(back_up, settings(postgres_url), folder)
    await world.live(80)
    now, pages_now = square.applied, await world.pages()
    bought = [page for page in pages_now if page.get("orders")]
    assert len(bought) > 1, "nobody has bought or sold anything"
    checkouts = [page["status"] for page in pages_now if "orderIds" in page]
    assert len(checkouts) == len(world.checkouts) > begun_then
    assert len(set(checkouts)) == 2, "all checkouts have got equally far"
    progress = await PostgresProgress.open(postgres_url)
    await progress.advance("erasure", {0: now, 1: 5})
    await progress.close()
    made = await asyncio.to_thread(back_up, settings(postgres_url), folder)
    await square.close()
    assert (first.position, made.position) == (then, now)
    assert made.segments[: len(first.segments)] == first.segments
    modes = modes_of(tmp_path / "backup")
    named = ["manifest.json", *(one.file for one in made.files)]
    assert modes == dict.fromkeys(named, 0o600)
    assert await asyncio.to_thread(check, folder) == made

    await asyncio.to_thread(restore, settings(empty_url), folder)
    assert await world.pages_from(empty_url) == pages_now
    with pytest.raises(NotEmpty):
        await asyncio.to_thread(restore, settings(empty_url), folder)

    with psycopg.connect(empty_url, autocommit=True) as connection:
        for schema in (
            "public",
            "log",
            "vault",
            *(f"{one.name}_b1" for one in (*SOCIAL, *COMMERCE)),
        ):
            connection.execute(f"DROP SCHEMA {schema} CASCADE")
        connection.execute("CREATE SCHEMA public")
    _, reached = await asyncio.to_thread(restore, settings(empty_url), folder, None, then)
    assert reached == then
    del world.checkouts[begun_then:]
    assert await world.pages_from(empty_url) == pages_then
    progress = await PostgresProgress.open(empty_url)
    assert await progress.checkpoints("erasure") == {0: then, 1: 5}
    await progress.close()


async def test_who_was_erased_is_in_no_backup_any_more(postgres_url: str, tmp_path: Path) -> None:
    square = await Square.open(postgres_url)
    ann, bob = await square.member("ann"), await square.member("bob")
    places = str(tmp_path / "log"), str(tmp_path / "keys")
    made = await asyncio.to_thread(back_up, settings(postgres_url), *places)
    assert {one.table: one.rows for one in made.tables}["vault.person_keys"] == 2
    await square.erase(ann)
    made = await asyncio.to_thread(back_up, settings(postgres_url), *places)
    assert {one.table: one.rows for one in made.tables}["vault.person_keys"] == 1
    assert len(list((tmp_path / "keys").rglob("*person_keys*"))) == 1
    assert not (tmp_path / "log" / "keys").exists()
    assert bob
    await square.close()


async def test_what_is_damaged_is_refused_and_leaves_nothing(
    postgres_url: str, empty_url: str, tmp_path: Path
) -> None:
    await (await World.open(postgres_url, 30)).square.close()
    folder = str(tmp_path)
    made = await asyncio.to_thread(back_up, settings(postgres_url), folder)
    for name in (made.segments[0].file, made.tables[0].file):
        file = tmp_path / name
        whole = file.read_bytes()
        for broken in (whole[:-9], whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], b""):
            file.write_bytes(broken)
            with pytest.raises(Damaged, match=file.name):
                await asyncio.to_thread(check, folder)
            with pytest.raises(Damaged, match=file.name):
                await asyncio.to_thread(restore, settings(empty_url), folder)
        file.write_bytes(whole)
    with psycopg.connect(empty_url) as connection:
        for kept in ("log.events", *(kept.name for kept in KEPT)):
            query = f"SELECT count(*) FROM {kept}"
            assert connection.execute(query).fetchone() == (0,)
    assert await asyncio.to_thread(check, folder) == made


async def test_what_makes_no_sense_is_refused(
    postgres_url: str, empty_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, url in enumerate((postgres_url, empty_url)):
        await (await World.open(url, 10 + seed, seed)).square.close()
    here, there = {"PLAZA_POSTGRES_URL": postgres_url}, {"PLAZA_POSTGRES_URL": empty_url}
    words = ["backup", str(tmp_path / "one"), "--json"]
    assert await asyncio.to_thread(run, words, here) == 0
    position = json.loads(capsys.readouterr().out)["position"]
    assert await asyncio.to_thread(run, words, there) == 1
    assert "another log" in capsys.readouterr().out
    for more, told in (
        (["--at", str(position + 1)], f"ends at position {position}"),
        ([], "has events"),
    ):
        words = ["restore", str(tmp_path / "one"), *more]
        assert await asyncio.to_thread(run, words, there) == 1
        assert told in capsys.readouterr().err
    assert run(["restore", str(tmp_path / "none")], there) == 1
    assert run(["restore", str(tmp_path / "one"), "--check", "--at", "1"], there) == 2
    assert run(["restore", str(tmp_path / "one"), "--check"], there) == 0
    assert "are as they were written" in capsys.readouterr().out
    (tmp_path / "one" / "manifest.json").write_text("{}")
    with pytest.raises(BackupRefused, match="cannot be read"):
        check(str(tmp_path / "one"))


async def test_every_table_is_kept_or_can_be_computed(postgres_url: str) -> None:
    await migrate(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute(
            "SELECT schemaname || '.' || tablename FROM pg_tables"
            " WHERE schemaname IN ('log', 'vault', 'public')"
        ).fetchall()
    known = {"log.events", *COMPUTED, *MADE_AT_START, *(kept.name for kept in KEPT)}
    assert {name for (name,) in rows} == known


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a place in a bucket of SeaweedFS, which speaks S3."""
    folder = tmp_path / "seaweed"
    folder.mkdir()
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    known = {"accessKey": "plaza", "secretKey": "a secret of tests"}
    identity = {"name": "plaza", "credentials": [known], "actions": ["Admin", "Read", "Write"]}
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    words = ["-ip=127.0.0.1", f"-dir={folder}", "-s3", "-master.telemetry=false"]
    words.append(f"-s3.config={config}")
    for name, port in ports.items():
        words += [f"-{name}.port={port}", f"-{name}.port.grpc={free_port()}"]
    binary = Path(sys.executable).with_name("weed")
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([binary, "server", *words], stdout=log, stderr=log, cwd=folder)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", known["accessKey"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", known["secretKey"])
    options = f"scheme=http&endpoint_override=127.0.0.1:{ports['s3']}"
    try:
        until = time.monotonic() + 60
        while True:
            try:
                files, _ = fs.FileSystem.from_uri(
                    f"s3://backups/?{options}&allow_bucket_creation=true"
                )
                files.create_dir("backups")
                break
            except OSError:
                assert time.monotonic() < until, (folder / "log").read_text()[-2000:]
                time.sleep(0.2)
        yield f"s3://backups/plaza?{options}"
    finally:
        server.kill()
        server.wait(10)


async def test_a_bucket_is_as_good_as_a_folder(
    postgres_url: str, empty_url: str, bucket: str
) -> None:
    world = await World.open(postgres_url, 40)
    expected = await world.pages()
    for _ in range(2):
        made = await asyncio.to_thread(back_up, settings(postgres_url), bucket)
    await world.square.close()
    assert await asyncio.to_thread(check, bucket) == made
    await asyncio.to_thread(restore, settings(empty_url), bucket)
    assert await world.pages_from(empty_url) == expected
    with pytest.raises(BackupRefused, match="there is no backup"):
        await asyncio.to_thread(check, bucket.replace("/plaza?", "/nothing?"))
