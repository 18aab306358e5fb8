"""Keys, credentials and secrets in the vault, and that nothing opens what they sealed once gone."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from infra.adapters.migrations import migrate
from infra.adapters.secrets.keyring import PostgresCredentials, PostgresKeyring, secret
from infra.ports.secrets import KeyDestroyed


@pytest.fixture
async def url(postgres_url: str) -> str:
    await migrate(postgres_url)
    return postgres_url


@pytest.fixture
async def keyring(url: str) -> AsyncIterator[PostgresKeyring]:
    keyring = await PostgresKeyring.connect(url)
    yield keyring
    await keyring.close()


@pytest.fixture
async def elsewhere(url: str) -> AsyncIterator[PostgresKeyring]:
    """The keyring of another process."""
    keyring = await PostgresKeyring.connect(url)
    yield keyring
    await keyring.close()


async def test_what_one_process_seals_another_opens(
    keyring: PostgresKeyring, elsewhere: PostgresKeyring
) -> None:
    await keyring.create("ann")
    sealed = keyring.seal("ann", "Grüße, square!")
    assert b"square" not in sealed
    assert elsewhere.open("ann", sealed) is None
    await elsewhere.fetch(["ann"])
    assert elsewhere.open("ann", sealed) == "Grüße, square!"


async def test_the_same_text_is_sealed_differently_each_time(keyring: PostgresKeyring) -> None:
    await keyring.create("ann")
    assert keyring.seal("ann", "hello") != keyring.seal("ann", "hello")


async def test_a_sealed_text_opens_only_as_its_persons(keyring: PostgresKeyring) -> None:
    await keyring.create("ann")
    await keyring.create("bob")
    assert keyring.open("bob", keyring.seal("ann", "hello")) is None


async def test_a_damaged_text_does_not_open(keyring: PostgresKeyring) -> None:
    await keyring.create("ann")
    sealed = keyring.seal("ann", "hello")
    assert keyring.open("ann", sealed[:-1] + bytes([sealed[-1] ^ 1])) is None
    assert keyring.open("ann", b"short") is None
    assert keyring.open("ann", None) is None


async def test_making_a_key_again_keeps_the_first(
    keyring: PostgresKeyring, elsewhere: PostgresKeyring
) -> None:
    await keyring.create("ann")
    sealed = keyring.seal("ann", "hello")
    await elsewhere.create("ann")
    assert elsewhere.open("ann", sealed) == "hello"


async def test_a_destroyed_key_opens_and_seals_nothing_any_more(
    url: str, keyring: PostgresKeyring, elsewhere: PostgresKeyring
) -> None:
    await keyring.create("ann")
    await elsewhere.fetch(["ann"])
    sealed = keyring.seal("ann", "hello")
    credentials = await PostgresCredentials.connect(url)
    await credentials.put(["ann"], "hash")

    await keyring.destroy("ann")
    await elsewhere.fetch(["ann"])
    elsewhere.forget("ann")
    for ring in (keyring, elsewhere):
        assert ring.open("ann", sealed) is None
        with pytest.raises(KeyDestroyed):
            ring.seal("ann", "again")
    assert await credentials.get("ann") is None
    await credentials.close()


async def test_destroying_a_key_takes_the_answers_to_that_member_along(
    url: str, keyring: PostgresKeyring
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO log.answers (member_id, key, body_hash, status, body, position)"
            " VALUES ('ann', 'k', '', 201, 'my words', 1), ('bob', 'k', '', 201, 'his', 2)"
        )
        await keyring.create("ann")
        await keyring.destroy("ann")
        assert connection.execute("SELECT member_id FROM log.answers").fetchall() == [("bob",)]


async def test_keys_beyond_the_limit_are_fetched_again(url: str) -> None:
    keyring = PostgresKeyring(url, keys_max=10)
    await keyring._pool.open()
    persons = [f"person {n}" for n in range(25)]
    await keyring.create_many(persons)
    await keyring.fetch(persons[:1])
    sealed = keyring.seal("person 0", "hello")
    await keyring.fetch(persons[10:20])
    assert keyring.open("person 0", sealed) is None
    await keyring.fetch(persons[:1])
    assert keyring.open("person 0", sealed) == "hello"
    await keyring.close()


async def test_many_keys_are_made_at_once(url: str, keyring: PostgresKeyring) -> None:
    persons = [f"person {n}" for n in range(12_000)]
    await keyring.create_many(persons)
    await keyring.create_many(persons)
    with psycopg.connect(url) as connection:
        made = connection.execute("SELECT count(*), count(DISTINCT key) FROM vault.person_keys")
        assert made.fetchone() == (12_000, 12_000)


async def test_credentials_are_put_for_many_and_replaced(url: str) -> None:
    credentials = await PostgresCredentials.connect(url)
    await credentials.put(["ann", "bob"], "first")
    await credentials.put(["ann"], "second")
    assert [await credentials.get(who) for who in ("ann", "bob", "cid")] == [
        "second",
        "first",
        None,
    ]
    await credentials.close()


async def test_a_secret_is_made_once_by_whoever_asks_first(url: str) -> None:
    tokens = await asyncio.gather(*(secret(url, "token") for _ in range(6)))
    assert len(set(tokens)) == 1
    assert len(tokens[0]) == 32
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        assert await secret(connection, "token") == tokens[0]
        assert await secret(connection, "cursor") != tokens[0]
