"""An import, assembled: this process appends to the log itself."""

import contextlib
import gzip
import io
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from domain.deciders import DECIDERS
from infra.adapters.log.event_log import PostgresEventLog
from infra.adapters.secrets.keyring import PostgresCredentials, PostgresKeyring, secret
from infra.adapters.secrets.passwords import Argon2Passwords
from infra.composition.settings import Settings
from infra.runtime.commands.execute import Executor
from infra.runtime.commands.imports import Line, Told
from infra.runtime.commands.product_imports import ProductImporter

GZIP_MAGIC = b"\x1f\x8b"
LINE_BYTES_MAX = 1024 * 1024


class FileBroken(Exception):
    """The file cannot be read any further; what came before has been imported."""


@contextlib.asynccontextmanager
async def opened(
    settings: Settings, prefix: str, password: str | None, told: Told
) -> AsyncIterator[ProductImporter]:
    url = settings.postgres_url
    async with contextlib.AsyncExitStack() as stack:
        log = await PostgresEventLog.open(url)
        stack.push_async_callback(log.close)
        keyring = await PostgresKeyring.connect(url)
        stack.push_async_callback(keyring.close)
        credentials = await PostgresCredentials.connect(url)
        stack.push_async_callback(credentials.close)
        password_hash = None
        if password is not None:
            passwords = Argon2Passwords(threads=1)
            # One hash for all: they share the password anyway, and a hash costs 20 ms.
            password_hash = await passwords.hash(password)
            passwords.close()

        def clock() -> datetime:
            return datetime.now(UTC)

        yield ProductImporter(
            executor=Executor(log, keyring, DECIDERS, clock),
            keyring=keyring,
            credentials=credentials,
            name_secret=await secret(url, "username"),
            clock=clock,
            prefix=prefix,
            password_hash=password_hash,
            told=told,
        )


def lines_of(path: Path) -> Iterator[Line]:
    """The lines of a file, compressed by gzip or not. Raises `FileBroken` and `OSError`."""
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        text = io.BufferedReader(gzip.GzipFile(fileobj=file)) if compressed else file
        number = 0
        try:
            while line := text.readline(LINE_BYTES_MAX):
                number += 1
                # Lines that are too long come in pieces, each of which is refused by itself.
                yield Line(number, line, file.tell())
        except (EOFError, gzip.BadGzipFile, OSError) as problem:
            raise FileBroken(f"{path} cannot be read after line {number}: {problem}") from problem


def objects_of(path: Path) -> Iterator[Line]:
    """The objects of a file that is one JSON array, or has an object a line; counted from 1.

    Raises `FileBroken` and `OSError`.
    """
    lines = lines_of(path)
    first = next(lines, None)
    if first is None:
        return
    if not first.text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        yield first
        yield from lines
        return
    text = b"".join([first.text.removeprefix(b"\xef\xbb\xbf"), *(line.text for line in lines)])
    try:
        found = msgspec.json.decode(text, type=list[msgspec.Raw])
    except msgspec.DecodeError as problem:
        raise FileBroken(f"{path} is no JSON array: {problem}") from problem
    size = path.stat().st_size
    for number, item in enumerate(found, start=1):
        yield Line(number, bytes(item), size * number // len(found))
