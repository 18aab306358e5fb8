"""`plaza schema`: the event types, and what has changed in them since they were written down."""

import argparse
from pathlib import Path
from typing import Any

import msgspec

import infra
from infra.command_line.tables import print_rows
from infra.command_line.verb import FAILED, AskedWrongly, Context, print_json
from infra.formats.event_schemas import Schema, differences, schemas

WRITTEN = Path(infra.__file__).parents[1] / "docs" / "events"


def declare(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(metavar="WHAT", required=True, dest="what")
    about = "every event type, with its fields"
    kinds.add_parser("list", help=about, description=about).set_defaults(run=run_list)
    about = "what has changed since the schemas were written down; 1 if it is not additive"
    kind = kinds.add_parser("diff", help=about, description=about)
    kind.add_argument(
        "--against",
        type=Path,
        default=WRITTEN,
        metavar="DIR",
        help="a folder of schemas, such as docs/events of another version",
    )
    kind.set_defaults(run=run_diff)


def run_list(context: Context) -> int:
    found = schemas()
    if context.json:
        print_json([{"type": tag, "schema": schema} for tag, schema in found.items()])
        return 0
    print_rows(
        [{"type": tag, "fields": ", ".join(fields(schema))} for tag, schema in found.items()],
        {"type": "type", "fields": "fields (? may be left out, * personal)"},
    )
    return 0


def fields(schema: Schema) -> list[str]:
    personal = set(schema.get("x-personal", ()))
    return [
        f"{name}{'*' if name in personal else ''}{'' if name in schema['required'] else '?'}"
        for name in schema["properties"]
    ]


def run_diff(context: Context) -> int:
    folder = context.arguments.against
    if not folder.is_dir():
        raise AskedWrongly(f"there is no folder {folder}")
    found = differences(read_schemas(folder), schemas())
    rows: list[dict[str, Any]] = [msgspec.to_builtins(one) for one in found]
    if context.json:
        print_json(rows)
    elif rows:
        columns = {"type": "type", "path": "field", "change": "change", "additive": "additive"}
        print_rows(rows, columns)
    else:
        print("nothing has changed")
    return 0 if all(one.additive for one in found) else FAILED


def read_schemas(folder: Path) -> dict[str, Schema]:
    """Raises `AskedWrongly` where a file is no schema."""
    found: dict[str, Schema] = {}
    for file in sorted(folder.glob("*.json")):
        try:
            found[file.stem] = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
        except msgspec.DecodeError as problem:
            raise AskedWrongly(f"{file} is no schema: {problem}") from problem
    return found
