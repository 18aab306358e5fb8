"""Looks for texts in everything that a system keeps, whatever form a store writes them in.

Nothing here knows what ought to be where: every table, key, document, message and file is read.
"""

import contextlib
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import psycopg
import pyarrow as pa
import redis
from confluent_kafka import Consumer, KafkaException, TopicPartition
from msgspec import Struct
from opensearchpy import OpenSearch, OpenSearchException, helpers
from psycopg import sql
from pyarrow import parquet

from infra.adapters.archives.backup_places import PlaceFailed, Unpacking
from infra.adapters.connections import PARAMETERS

PIECE_BYTES = 4 * 1024 * 1024
EXAMPLES_MAX = 20
KEYS_AT_ONCE = 500
MESSAGES_MAX = 500
WAIT_SECONDS = 30.0
LENGTH_MIN = 5
"""What is shorter is found everywhere."""

Tell = Callable[[str], None]
"""Told what is being read."""


class Searched(Struct, kw_only=True, rename="camel"):
    """What was read of one store, and where something was found in it. `problem`: why not all of it
    could be read."""

    store: str
    objects: int = 0
    bytes_read: int = 0
    found: int = 0
    where: list[str] = []
    problem: str = ""

    def look(self, sought: "Sought", data: bytes, place: str) -> None:
        self.bytes_read += len(data)
        count = sought.count_in(data)
        if count:
            self.found += count
            if place not in self.where and len(self.where) < EXAMPLES_MAX:
                self.where.append(place)


class Sought:
    """The texts that are looked for, each as it is, in small letters, and as JSON may write it."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._forms: dict[bytes, None] = {}
        for text in texts:
            for form in (text, text.casefold()):
                plain = json.dumps(form, ensure_ascii=False)[1:-1]
                escaped = json.dumps(form)[1:-1]
                self._forms |= dict.fromkeys(one.encode() for one in (form, plain, escaped))
        self.overlap = max(map(len, self._forms), default=1) - 1

    def count_in(self, data: bytes) -> int:
        """How many of the forms stand in it."""
        return sum(form in data for form in self._forms)


def in_pieces(read: Callable[[int], bytes], overlap: int) -> Iterator[bytes]:
    """A stream, so that nothing is cut in two unnoticed."""
    kept = b""
    while piece := read(PIECE_BYTES):
        kept += piece
        yield kept
        kept = kept[-overlap:] if overlap else b""


def search_database(url: str, sought: Sought, tell: Tell) -> Searched:
    """Every row of every table, read tables of all builds, the log and the vault among them."""
    searched = Searched(store="postgresql")
    with psycopg.connect(url, autocommit=True, **PARAMETERS) as connection:
        rows = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN"
            # What other sessions keep for themselves cannot be read, and goes when they end.
            " ('pg_catalog', 'information_schema', 'pg_toast') AND c.relpersistence <> 't'"
            " ORDER BY 1, 2"
        ).fetchall()
        for schema, table in rows:
            name = f"{schema}.{table}"
            tell(name)
            # The binary format holds texts and bytes as they are.
            query = sql.SQL("COPY {} TO STDOUT (FORMAT binary)").format(
                sql.Identifier(schema, table)
            )
            with contextlib.suppress(psycopg.errors.UndefinedTable):
                with connection.cursor().copy(query) as copy:
                    for piece in joined(bytes(one) for one in copy):
                        searched.look(sought, piece, name)
                searched.objects += 1
    return searched


def joined(rows: Iterable[bytes]) -> Iterator[bytes]:
    """Rows together in larger pieces; none is cut in two."""
    waiting: list[bytes] = []
    size = 0
    for row in rows:
        waiting.append(row)
        size += len(row)
        if size >= PIECE_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


READERS: dict[bytes, Callable[[Any, bytes], Any]] = {
    b"string": lambda pipe, key: pipe.get(key),
    b"list": lambda pipe, key: pipe.lrange(key, 0, -1),
    b"set": lambda pipe, key: pipe.smembers(key),
    b"zset": lambda pipe, key: pipe.zrange(key, 0, -1),
    b"hash": lambda pipe, key: pipe.hgetall(key),
    b"stream": lambda pipe, key: pipe.xrange(key),
}


def search_redis(url: str, sought: Sought, tell: Tell) -> Searched:
    """Every key, by name and by what it holds."""
    searched = Searched(store="redis")
    tell("redis")
    with redis.Redis.from_url(url, socket_timeout=WAIT_SECONDS) as client:
        waiting: list[bytes] = []
        for key in client.scan_iter(count=KEYS_AT_ONCE):
            waiting.append(key)
            if len(waiting) >= KEYS_AT_ONCE:
                look_into_keys(client, waiting, searched, sought)
                waiting = []
        look_into_keys(client, waiting, searched, sought)
    return searched


def look_into_keys(client: Any, keys: Sequence[bytes], searched: Searched, sought: Sought) -> None:
    kinds = client.pipeline(transaction=False)
    for key in keys:
        kinds.type(key)
    values = client.pipeline(transaction=False)
    known = [
        key for key, kind in zip(keys, kinds.execute(), strict=True) if kind in READERS
        and READERS[kind](values, key) is not None
    ]  # fmt: skip
    for key, value in zip(known, values.execute(raise_on_error=False), strict=True):
        data = b"\0".join((key, *flattened(value)))
        searched.look(sought, data, f"key {key.decode(errors='replace')}")
        searched.objects += 1


def flattened(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, str):
        yield value.encode()
    elif isinstance(value, dict):
        for pair in value.items():
            yield from flattened(pair)
    elif isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from flattened(one)


def search_indices(url: str, sought: Sought, tell: Tell) -> Searched:
    """Every document of every index."""
    searched = Searched(store="search")
    client = OpenSearch(url, timeout=WAIT_SECONDS)
    try:
        for index in client.cat.indices(format="json", expand_wildcards="all"):
            name = index["index"]
            tell(f"index {name}")
            for document in helpers.scan(client, index=name, size=KEYS_AT_ONCE):
                data = json.dumps(document, ensure_ascii=False).encode()
                searched.look(sought, data, f"{name}/{document['_id']}")
                searched.objects += 1
    except OpenSearchException as problem:
        searched.problem = str(problem)
    finally:
        client.close()
    return searched


def search_topics(bootstrap: str, sought: Sought, tell: Tell) -> Searched:
    """Every message that any topic still has."""
    searched = Searched(store="kafka")
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "plaza-erasure", "enable.auto.commit": False}
    )
    try:
        for topic, about in sorted(consumer.list_topics(timeout=WAIT_SECONDS).topics.items()):
            tell(f"topic {topic}")
            for number in sorted(about.partitions):
                look_into_partition(consumer, TopicPartition(topic, number), searched, sought)
    except KafkaException as problem:
        searched.problem = str(problem)
    finally:
        consumer.close()
    return searched


def look_into_partition(
    consumer: Consumer, partition: TopicPartition, searched: Searched, sought: Sought
) -> None:
    low, high = consumer.get_watermark_offsets(partition, timeout=WAIT_SECONDS)
    if low >= high:
        return
    consumer.assign([TopicPartition(partition.topic, partition.partition, low)])
    reached = low
    while reached < high:
        # It answers once it has as many as were asked for: asked for more it waits in vain.
        messages = consumer.consume(min(MESSAGES_MAX, high - reached), timeout=WAIT_SECONDS)
        if not messages:
            searched.problem = f"{partition.topic} did not give its messages in time"
            return
        for message in messages:
            if message.error() is None:
                data = (message.key() or b"") + b"\0" + (message.value() or b"")
                searched.look(sought, data, f"{partition.topic}/{partition.partition}")
                searched.objects += 1
            reached = max(reached, (message.offset() or 0) + 1)


def search_files(
    store: str, folder: Path, sought: Sought, tell: Tell, leave_out: Sequence[Path] = ()
) -> Searched:
    """Every file below a folder, those of exports, backups and gzip unpacked."""
    searched = Searched(store=store)
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or any(file.is_relative_to(one) for one in leave_out):
            continue
        tell(str(file))
        try:
            for piece in pieces_of(file, sought.overlap):
                searched.look(sought, piece, str(file))
        except FileNotFoundError:
            # Moved or removed by whoever works there.
            continue
        except (OSError, EOFError, pa.ArrowException, PlaceFailed) as problem:
            searched.problem = f"{file}: {problem}"
        searched.objects += 1
    return searched


def pieces_of(file: Path, overlap: int) -> Iterator[bytes]:
    if file.suffix == ".parquet":
        yield from rows_of(file)
        return
    with file.open("rb") as raw:
        if file.suffix == ".zst":
            yield from unpacked(raw, overlap)
        elif file.suffix == ".gz":
            with gzip.open(raw) as stream:
                yield from in_pieces(stream.read, overlap)
        else:
            yield from in_pieces(raw.read, overlap)


def unpacked(raw: IO[bytes], overlap: int) -> Iterator[bytes]:
    pieces = Unpacking(raw).pieces()
    yield from in_pieces(lambda _size: next(pieces, b""), overlap)


def rows_of(file: Path) -> Iterator[bytes]:
    """The texts of a Parquet file, batch by batch."""
    opened = parquet.ParquetFile(file)
    try:
        for batch in opened.iter_batches(batch_size=10_000):
            yield b"\0".join(flattened(batch.to_pylist()))
    finally:
        opened.close()
