"""Writes the schema of every event type to docs/events: `python -m tests.contract.record_schemas`.

It refuses to write one that is not an addition to what is there.
"""

import sys

import msgspec

from infra.command_line.schema import WRITTEN, read_schemas
from infra.formats.event_schemas import Schema, differences, schemas


def written(schema: Schema) -> bytes:
    return msgspec.json.format(msgspec.json.encode(schema)) + b"\n"


def record() -> list[str]:
    """Write them; answers what is not additive, and then nothing has been written."""
    WRITTEN.mkdir(parents=True, exist_ok=True)
    found = schemas()
    refused = [one for one in differences(read_schemas(WRITTEN), found) if not one.additive]
    if not refused:
        for tag, schema in found.items():
            (WRITTEN / f"{tag}.json").write_bytes(written(schema))
    return [f"{one.type} {one.path}: {one.change}" for one in refused]


if __name__ == "__main__":
    refusals = record()
    sys.exit(
        "\n".join(["These changes need another version of the type:", *refusals]) if refusals else 0
    )
