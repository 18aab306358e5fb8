"""Where backups are kept: a folder, or a bucket of anything that speaks S3."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
from pyarrow import fs

CODEC = "zstd"
CHUNK_BYTES = 1024 * 1024
S3 = "s3://"


class PlaceFailed(Exception):
    """The place cannot be reached, read from or written to."""


class Place(Protocol):
    """Files by name. Everything raises `PlaceFailed`."""

    def write(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """A file that is there, whole, once the block has ended without an error."""
        ...

    def read(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]: ...

    def exists(self, name: str) -> bool: ...

    def remove(self, name: str) -> None: ...


def place_at(address: str) -> Place:
    """A folder, or `s3://bucket/prefix?endpoint_override=host:port&scheme=http`; the credentials
    are those of the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`)."""
    return Bucket(address) if address.startswith(S3) else Folder(Path(address))


@contextlib.contextmanager
def failing_as_place(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as problem:
        raise PlaceFailed(f"{what}: {problem}") from problem


class Folder:
    """Files that only their owner may read: there are keys among them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def write(self, name: str) -> Iterator[IO[bytes]]:
        target = self._folder / name
        new = target.with_name(f"{target.name}.new")
        with failing_as_place(str(target)):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            new.replace(target)
            descriptor = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def read(self, name: str) -> Iterator[IO[bytes]]:
        with failing_as_place(str(self._folder / name)), (self._folder / name).open("rb") as file:
            yield file

    def exists(self, name: str) -> bool:
        return (self._folder / name).is_file()

    def remove(self, name: str) -> None:
        with failing_as_place(str(self._folder / name)):
            (self._folder / name).unlink(missing_ok=True)


class Bucket:
    """Objects below a prefix. An upload that is broken off leaves none."""

    def __init__(self, address: str) -> None:
        with failing_as_place(address):
            self._files, self._prefix = fs.FileSystem.from_uri(address)

    def _path(self, name: str) -> str:
        return f"{self._prefix.rstrip('/')}/{name}"

    @contextlib.contextmanager
    def write(self, name: str) -> Iterator[IO[bytes]]:
        with failing_as_place(name):
            file = self._files.open_output_stream(self._path(name))
            try:
                yield file
            except BaseException:
                file.abort()
                raise
            file.close()

    @contextlib.contextmanager
    def read(self, name: str) -> Iterator[IO[bytes]]:
        with failing_as_place(name), self._files.open_input_stream(self._path(name)) as file:
            yield file

    def exists(self, name: str) -> bool:
        with failing_as_place(name):
            found = self._files.get_file_info(self._path(name))
            return bool(found.type == fs.FileType.File)

    def remove(self, name: str) -> None:
        with failing_as_place(name), contextlib.suppress(FileNotFoundError):
            self._files.delete_file(self._path(name))


class Packing:
    """Writes compressed; counts and hashes what comes out of that."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.bytes = 0
        self._packed = pa.CompressedOutputStream(pa.PythonFile(self, "w"), CODEC)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def add(self, data: bytes | bytearray | memoryview) -> None:
        self._packed.write(data)

    def end(self) -> None:
        self._packed.close()

    # What the compressor asks of the file below it.

    closed = False

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._digest.update(piece)
        self.bytes += len(piece)
        self._file.write(piece)
        return len(piece)

    def flush(self) -> None: ...

    def close(self) -> None: ...


class Unpacking:
    """Reads what `Packing` wrote, and hashes it on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of the whole file, once everything has been read."""
        while self.read(CHUNK_BYTES):
            pass
        return self._digest.hexdigest()

    def pieces(self) -> Iterator[bytes]:
        """What was packed. Raises `PlaceFailed` for what nobody can unpack."""
        with failing_as_place("damaged"):
            unpacked = pa.CompressedInputStream(pa.PythonFile(self, "r"), CODEC)
            while piece := unpacked.read(CHUNK_BYTES):
                yield piece

    closed = False

    def read(self, size: int = -1) -> bytes:
        piece = bytes(self._file.read(CHUNK_BYTES if size < 0 else size))
        self._digest.update(piece)
        return piece

    def close(self) -> None: ...
