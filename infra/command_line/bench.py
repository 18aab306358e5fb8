"""`plaza bench`: measure, each figure beside its probe in the same run, on servers of its own."""

import argparse
import contextlib
import importlib
import math
import os
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import infra
from infra.command_line.tables import print_rows
from infra.command_line.verb import AskedWrongly, Context, Failure, print_json

PACKAGE = "tests.benchmarks"
ROUNDS = 3


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("names", metavar="NAME", nargs="*", help="these only (default: all)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each (default: {ROUNDS})")
    parser.add_argument("--list", action="store_true", help="name them, and what they measure")


@contextlib.contextmanager
def printing_aside() -> Iterator[None]:
    """Send what a benchmark and its processes print to standard error: ours is a document."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def run(context: Context) -> int:
    arguments = context.arguments
    if arguments.rounds < 1:
        raise AskedWrongly("--rounds must be 1 or more")
    found = benchmarks()
    if unknown := [name for name in arguments.names if name not in found]:
        raise AskedWrongly(f"no benchmark {', '.join(unknown)}; there are {', '.join(found)}")
    if arguments.list:
        return list_them(context, found)
    rows = []
    failed = False
    for name in arguments.names or found:
        sys.stderr.write(f"{name} …\n")
        try:
            with printing_aside():
                results = found[name].run(arguments.rounds)
        except Exception as problem:
            # One that cannot run here must not keep the others from it.
            failed = True
            sys.stderr.write(f"{name} failed: {problem!r}\n")
            rows.append({"name": name, "error": str(problem) or repr(problem)})
            continue
        rows.extend(map(row_of, results if isinstance(results, list | tuple) else [results]))
    if context.json:
        print_json(rows)
    else:
        print_rows(
            rows,
            {
                "name": "benchmark",
                "value": "value",
                "unit": "unit",
                "probe": "probe",
                "ratio": "ratio",
                "target": "target",
                "met": "met",
            },
        )
    return 1 if failed else 0


def benchmarks() -> Mapping[str, ModuleType]:
    """The modules that measure, by the name of what they measure."""
    source = Path(infra.__file__).parents[1]
    if not (source / "tests" / "benchmarks").is_dir():
        raise Failure("benchmarks run from a checkout of the source")
    sys.path.insert(0, str(source))
    package = importlib.import_module(PACKAGE)
    modules = [
        importlib.import_module(f"{PACKAGE}.{found.name}")
        for found in pkgutil.iter_modules(package.__path__)
    ]
    return {module.NAME: module for module in modules if hasattr(module, "NAME")}


def list_them(context: Context, found: Mapping[str, ModuleType]) -> int:
    rows: list[dict[str, Any]] = [
        {"name": name, "about": (module.__doc__ or "").strip().partition("\n")[0]}
        for name, module in found.items()
    ]
    if context.json:
        print_json(rows)
    else:
        print_rows(rows, {"name": "benchmark", "about": "measures"})
    return 0


def row_of(result: Any) -> dict[str, Any]:
    """A result as JSON: what there is not, such as the probe of some, is null."""
    return {
        "name": result.name,
        "value": number(result.value),
        "unit": result.unit,
        "probe": number(result.probe),
        "ratio": number(result.ratio),
        "target": number(result.target),
        "met": bool(result.met),
        "spread": [number(bound) for bound in result.spread],
    }


def number(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.6g}")
