"""What `plaza up` knows of its children: which run, how often they were started, what they use."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry

from infra.composition.supervision.supervisor import Child
from infra.measures import Gauges, Labels

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TARGETS = "targets.json"


class Usage(msgspec.Struct):
    """What a process and all below it use: seconds of processors, bytes of memory."""

    cpu_seconds: float = 0.0
    memory_bytes: int = 0


class Target(msgspec.Struct, frozen=True):
    """One entry of a file that Prometheus discovers targets by (`file_sd_configs`)."""

    targets: list[str]
    labels: dict[str, str]


def child_metrics(
    registry: CollectorRegistry, children: Callable[[], Iterable[Child]], folder: Path
) -> None:
    """Measure children of a supervisor, and the disk that their data is on."""

    def of_each(value: Callable[[Child], float]) -> Callable[[], Mapping[Labels, float]]:
        return lambda: {(child.name,): value(child) for child in children()}

    def used(value: Callable[[Usage], float]) -> Callable[[], Mapping[Labels, float]]:
        def look() -> Mapping[Labels, float]:
            groups = usage()
            return {
                (child.name,): value(groups.get(child.process.pid, Usage()))
                for child in children()
                if child.process is not None
            }

        return look

    label = ["child"]
    Gauges(
        "plaza_child_up",
        "1 while the process runs and has answered, else 0",
        label,
        registry,
        of_each(lambda child: float(child.ready.is_set())),
    )
    Gauges(
        "plaza_child_starts_total",
        "How often the process was started",
        label,
        registry,
        of_each(lambda child: child.starts),
        counter=True,
    )
    Gauges(
        "plaza_child_cpu_seconds_total",
        "Processor time of the process and its own children, since it was started last",
        label,
        registry,
        used(lambda usage: usage.cpu_seconds),
        counter=True,
    )
    Gauges(
        "plaza_child_memory_bytes",
        "Memory of the process and its own children, without what they share",
        label,
        registry,
        used(lambda usage: usage.memory_bytes),
    )
    Gauges(
        "plaza_processors",
        "Processors that this machine has for us",
        [],
        registry,
        lambda: {(): float(len(os.sched_getaffinity(0)))},
    )
    Gauges(
        "plaza_disk_free_bytes",
        "Room that is left on the disk of the data folder",
        [],
        registry,
        lambda: {(): float(shutil.disk_usage(folder).free)},
    )
    Gauges(
        "plaza_disk_size_bytes",
        "Size of the disk of the data folder",
        [],
        registry,
        lambda: {(): float(shutil.disk_usage(folder).total)},
    )


def usage() -> dict[int, Usage]:
    """What each process and all below it use, by the id of the uppermost."""
    own: dict[int, Usage] = {}
    parents: dict[int, int] = {}
    for entry in PROC.iterdir():
        # A process may end between two looks at it.
        with contextlib.suppress(OSError, ValueError, IndexError):
            if entry.name.isdecimal():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                # Its own time, and that of its children that have ended.
                seconds = sum(map(int, fields[11:15])) / TICKS
                _, resident, shared, *_ = map(int, (entry / "statm").read_text().split())
                own[int(entry.name)] = Usage(seconds, (resident - shared) * PAGE_BYTES)
                parents[int(entry.name)] = int(fields[1])
    sums = {process: Usage(used.cpu_seconds, used.memory_bytes) for process, used in own.items()}
    for process, used in own.items():
        above = parents[process]
        while above in sums:
            sums[above].cpu_seconds += used.cpu_seconds
            sums[above].memory_bytes += used.memory_bytes
            above = parents[above]
    return sums


def write_targets(folder: Path, targets: Iterable[Target]) -> None:
    """Where Prometheus finds everything that runs on this data folder."""
    new = folder / f"{TARGETS}.new"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(list(targets))))
    new.rename(folder / TARGETS)


def read_targets(folder: Path) -> list[Target]:
    """What was written; nothing where nothing runs, or it cannot be read."""
    try:
        return msgspec.json.decode((folder / TARGETS).read_bytes(), type=list[Target])
    except (OSError, msgspec.DecodeError):
        return []
