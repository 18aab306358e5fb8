"""Has the server's half of background work give way to others, as our half does.

A process that runs with a higher `nice` value than usual wants to be in nobody's way. Most of what
it costs may be done by the database's processes, which know nothing of that.
"""

import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

Connection = psycopg.AsyncConnection[TupleRow]

ONE_PROCESS: Mapping[str, str] = {
    # Others would be begun beside the one that serves us, and be as urgent as anybody's.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
}


def is_in_background() -> bool:
    return os.nice(0) > 0


def idle(process: int) -> None:
    """Have a process or a thread run only where nobody else wants to, and at once make room.

    0 is the thread that calls. It may not be allowed to take that back. Where the system knows
    nothing of the kind, being nice has to do.
    """
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))


def share_niceness(connection: Connection) -> None:
    """Have the process that serves this connection give way as this thread does."""
    process, niceness = server_of(connection), os.nice(0)
    if process is None:
        return
    with contextlib.suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, process) < niceness:
            os.setpriority(os.PRIO_PROCESS, process, niceness)
        if os.sched_getscheduler(0) == os.SCHED_IDLE:
            idle(process)


def let_idle(connection: Connection) -> None:
    """The same, as an idle thread would: for what holds nothing that anybody waits for."""
    process = server_of(connection)
    if process is not None and is_in_background():
        idle(process)


def server_of(connection: Connection) -> int | None:
    """The process that serves this connection, where it runs on this machine.

    In its title, it names our end of the connection. Elsewhere the same number may be anybody's.
    """
    process = connection.info.backend_pid
    with socket.socket(fileno=os.dup(connection.fileno())) as ours:
        if ours.family == socket.AF_UNIX:
            return None
        host, port = ours.getsockname()[:2]
    try:
        title = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return None
    is_ours = title.startswith(b"postgres:") and f" {host}({port}) ".encode() in title
    return process if is_ours else None
