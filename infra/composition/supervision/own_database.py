"""The database of a system for verbs that also work while nothing runs: its own is started then."""

import contextlib
from collections.abc import Iterator

from infra.composition.settings import Settings
from infra.composition.supervision.running import Running, find_system, hold, read_running
from infra.servers.postgres import start_postgres
from infra.servers.process import ServerFailed


class DatabaseFailed(Exception):
    """The own database cannot be started."""


@contextlib.contextmanager
def database(settings: Settings, *, new: bool = False) -> Iterator[str]:
    """The URL of the database that these settings mean.

    Where no setting says where it is and nothing runs on the data folder, the own server is started
    for as long as this is open. Raises `NotRunning` where there is none, unless a `new` one is
    wanted, and `AlreadyRunning` and `DatabaseFailed`.
    """
    folder = settings.folder / "postgres"
    if settings.postgres_url or runs(settings) or not (new or folder.is_dir()):
        found, _ = find_system(settings)
        yield found.postgres_url
        return
    lock = hold(settings.folder, "backup")
    try:
        server, url = start_postgres(folder)
    except (ServerFailed, OSError) as problem:
        lock.close()
        raise DatabaseFailed(f"PostgreSQL cannot be started in {folder}: {problem}") from problem
    try:
        yield url
    finally:
        server.stop()
        lock.close()


def runs(settings: Settings) -> Running | None:
    return read_running(settings.folder)
