"""How a verb finds the system that runs on a data folder: `plaza up` writes its addresses there."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO, Any

import msgspec

from infra.composition.settings import Settings


class Running(msgspec.Struct, kw_only=True):
    """The file `run.json` of a data folder. `own` names the settings whose server is its own."""

    process_id: int
    mode: str
    started_at: str
    settings: dict[str, Any]
    own: list[str]
    ready: bool = False


class AlreadyRunning(Exception):
    """Another `plaza up` holds the data folder."""


class NotRunning(Exception):
    """There is no system on this data folder, and no address that says where else one is."""


def hold(folder: Path, mode: str) -> IO[str]:
    """Take the data folder for this process until it ends. Raises `AlreadyRunning`.

    The kernel gives the lock up when its holder dies, however it dies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        raise AlreadyRunning(
            f"{folder} is in use by {holder}; stop that one, or set PLAZA_DATA_FOLDER"
        ) from None
    lock.truncate(0)
    lock.write(f"plaza up ({mode}), process {os.getpid()}\n")
    lock.flush()
    return lock


def write_running(folder: Path, running: Running) -> None:
    file = folder / "run.json"
    new = folder / "run.json.new"
    new.touch(mode=0o600)
    new.write_bytes(msgspec.json.format(msgspec.json.encode(running)))
    new.rename(file)


def forget_running(folder: Path) -> None:
    (folder / "run.json").unlink(missing_ok=True)


def read_running(folder: Path) -> Running | None:
    """What runs on this folder, or None: also when what ran there has died."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        running = msgspec.json.decode((folder / "run.json").read_bytes(), type=Running)
        if _is_held(folder):
            return running
    return None


def find_system(settings: Settings) -> tuple[Settings, list[str]]:
    """These settings with the addresses of the system that they mean, and which are its own.

    What the environment says comes first; what it leaves at its default is taken from the system
    that runs on the data folder. Raises `NotRunning`.
    """
    running = read_running(settings.folder)
    if running is None:
        if settings.postgres_url:
            return settings, []
        raise NotRunning(
            f"nothing runs on {settings.folder}: start it with `make up`, or set "
            "PLAZA_DATA_FOLDER or PLAZA_POSTGRES_URL to where it runs"
        )
    if settings.postgres_url and settings.postgres_url != running.settings["postgres_url"]:
        return settings, []
    default = Settings()
    found = {
        name: value
        for name, value in running.settings.items()
        if getattr(settings, name) == getattr(default, name)
    }
    return msgspec.structs.replace(settings, **found), running.own


def _is_held(folder: Path) -> bool:
    with (folder / "lock").open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
