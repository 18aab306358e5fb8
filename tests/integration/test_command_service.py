"""The command service as a process of its own, on a real PostgreSQL, over real sockets."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from infra.servers.process import Program, ServerProcess, answers_http, free_port, start

PASSWORD = "correct horse"


@dataclass
class Running:
    server: ServerProcess
    client: httpx.AsyncClient
    port: int

    async def sign_up(self, name: str) -> str:
        """A new member's token."""
        body = {"username": name, "password": PASSWORD, "displayName": name}
        (await self.client.post("/api/users", json=body)).raise_for_status()
        return await self.log_in(name)

    async def log_in(self, name: str) -> str:
        answer = await self.client.post(
            "/api/sessions", json={"username": name, "password": PASSWORD}
        )
        return str(answer.raise_for_status().json()["token"])

    async def publish(self, token: str, content: str = "Hello", key: str = "") -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} | ({"Idempotency-Key": key} if key else {})
        return await self.client.post("/api/posts", json={"content": content}, headers=headers)

    async def speak(self, text: bytes, wait_seconds: float = 5) -> bytes:
        """Send bytes over a connection of their own; answers what comes back until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(text)
        try:
            return await asyncio.wait_for(reader.read(), wait_seconds)
        finally:
            writer.close()


@asynccontextmanager
async def command_service(postgres_url: str, folder: Path) -> AsyncIterator[Running]:
    port = free_port()
    command = [sys.executable, "-m", "infra.command_line.main", "command-api"]
    environment = {
        **os.environ,
        "PLAZA_POSTGRES_URL": postgres_url,
        "PLAZA_COMMAND_API_PORT": str(port),
        "PLAZA_DATA_FOLDER": str(folder),
    }
    program = Program(
        "command-api",
        tuple(command),
        folder=Path(__file__).parents[2],
        log_file=folder / f"command-api-{port}.log",
        url=f"http://127.0.0.1:{port}",
        answers=lambda: answers_http(f"http://127.0.0.1:{port}/health/ready"),
        environment=environment,
    )
    server = start(program)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield Running(server, client, port)
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_key_is_answered_the_same_across_a_restart_and_a_kill(
    postgres_url: str, tmp_path: Path
) -> None:
    async with command_service(postgres_url, tmp_path) as first:
        token = await first.sign_up("ada")
        published = await first.publish(token, key="k1")
        first.server.kill()
    async with command_service(postgres_url, tmp_path) as second:
        again = await second.publish(token, key="k1")
        assert (again.status_code, again.json()) == (201, published.json())
        assert again.headers["log-position"] == published.headers["log-position"]
        assert (await second.publish(token, "Something else", "k1")).status_code == 422
    assert count(postgres_url, "post.published.v1") == 1


async def test_many_at_once_are_written_together_and_each_is_answered(
    postgres_url: str, tmp_path: Path
) -> None:
    async with command_service(postgres_url, tmp_path) as service:
        token = await service.sign_up("ada")
        answers = await asyncio.gather(*(service.publish(token, f"{n}") for n in range(300)))
        assert {answer.status_code for answer in answers} == {201}
        positions = {answer.headers["log-position"] for answer in answers}
        assert len(positions) == 300
    assert count(postgres_url, "post.published.v1") == 300


async def test_an_ended_session_is_refused_by_a_process_that_never_saw_it(
    postgres_url: str, tmp_path: Path
) -> None:
    async with (
        command_service(postgres_url, tmp_path) as one,
        command_service(postgres_url, tmp_path) as other,
    ):
        token = await one.sign_up("ada")
        headers = {"Authorization": f"Bearer {token}"}
        ended = await one.client.delete("/api/sessions/current", headers=headers)
        assert ended.status_code == 204
        assert (await other.publish(token)).status_code == 401
        assert (await other.publish(await one.log_in("ada"))).status_code == 201


async def test_what_is_personal_or_secret_is_nowhere_readable_at_rest(
    postgres_url: str, tmp_path: Path
) -> None:
    secret_words = ["Rumpelstiltskin", "spinning straw", PASSWORD]
    async with command_service(postgres_url, tmp_path) as service:
        body = {
            "username": "rumpelstiltskin",
            "password": PASSWORD,
            "displayName": "Rumpelstiltskin",
            "email": "Rumpelstiltskin@castle.test",
        }
        headers = {"Idempotency-Key": "k1"}
        await service.client.post("/api/users", json=body, headers=headers)
        token = await service.log_in("rumpelstiltskin")
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k2"}
        changes = {"bio": "spinning straw", "avatarUrl": "https://castle.test/Rumpelstiltskin"}
        changed = await service.client.patch("/api/users/me", json=changes, headers=headers)
        assert changed.json()["bio"] == "spinning straw"
        await service.publish(token, "spinning straw into gold", "k3")
        lines = service.server.log_file.read_text()
    stored = dump(postgres_url)
    for word in [*secret_words, "rumpelstiltskin", token]:
        assert word.encode().hex() not in stored
        assert word not in stored
        assert word not in lines


async def test_a_request_under_way_is_answered_before_the_process_ends(
    postgres_url: str, tmp_path: Path
) -> None:
    async with command_service(postgres_url, tmp_path) as service:
        body = {"username": "ada", "password": PASSWORD, "displayName": "Ada"}
        asked = [
            asyncio.create_task(
                service.client.post("/api/users", json={**body, "username": f"ada_{n}"})
            )
            for n in range(20)
        ]
        # Hashing passwords takes long enough for the others to be under way when one is answered.
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        service.server.process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        answered = [one for one in answers if isinstance(one, httpx.Response)]
        assert answered
        assert {answer.status_code for answer in answered} == {201}
        assert await asyncio.to_thread(service.server.process.wait, 20) == 0
    assert count(postgres_url, "member.registered.v1") == len(answered)


async def test_what_is_not_http_is_answered_with_a_problem(
    postgres_url: str, tmp_path: Path
) -> None:
    async with command_service(postgres_url, tmp_path) as service:
        answer = await service.speak(b"GARBAGE\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in answer
        homeless = b"GET /health/live HTTP/1.%d\r\nconnection: close\r\n\r\n"
        assert (await service.speak(homeless % 1)).startswith(b"HTTP/1.1 400 ")
        assert (await service.speak(homeless % 0)).startswith(b"HTTP/1.1 200 ")
        endless = b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x: " + b"y" * 80_000
        assert (await service.speak(endless)).startswith(b"HTTP/1.1 431 ")
        huge = b"POST /api/users HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n"
        assert (await service.speak(huge)).startswith(b"HTTP/1.1 413 ")


async def test_two_services_do_not_share_a_port(postgres_url: str, tmp_path: Path) -> None:
    async with command_service(postgres_url, tmp_path) as service:
        with socket.socket() as taken, pytest.raises(OSError, match="in use"):
            taken.bind(("127.0.0.1", service.port))


def count(postgres_url: str, tag: str) -> int:
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT count(*) FROM log.events WHERE topic = %s", [tag])
        row: Any = found.fetchone()
        return int(row[0])


def dump(postgres_url: str) -> str:
    """All rows of all our tables as text, bytes in hexadecimal."""
    with psycopg.connect(postgres_url) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname IN ('log', 'vault', 'public')"
        ).fetchall()
        rows = [
            row[0]
            for (table,) in tables
            for row in connection.execute(f"SELECT t::text FROM {table} t").fetchall()
        ]
    return "\n".join(rows)
