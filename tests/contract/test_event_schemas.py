"""Schemas of events are written down as they are, and only ever grow."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from infra.command_line.main import run
from infra.command_line.schema import WRITTEN, read_schemas
from infra.formats.codec import EVENT_CLASSES, decode_state, open_event
from infra.formats.event_schemas import differences, schemas
from infra.formats.event_shapes import data_of
from infra.formats.personal_values import IN_THE_CLEAR
from tests.contract.record_events import GoldenLine, golden_lines
from tests.contract.record_schemas import written

SCHEMAS = schemas()
POST = "post.published.v1"


def test_what_is_written_down_is_what_there_is() -> None:
    found = {file.stem: file.read_bytes() for file in WRITTEN.glob("*.json")}
    expected = {tag: written(schema) for tag, schema in SCHEMAS.items()}
    differing = [tag for tag in found | expected if found.get(tag) != expected.get(tag)]
    assert not differing, "python -m tests.contract.record_schemas writes them"


class NoKeys:
    def open(self, _person: str, _sealed: bytes | None) -> None:
        return None


class Keys:
    def open(self, _person: str, sealed: bytes | None) -> str | None:
        return None if sealed is None else sealed.removeprefix(IN_THE_CLEAR).decode()


@pytest.mark.parametrize("keys", [NoKeys(), Keys()], ids=["erased", "readable"])
@pytest.mark.parametrize("line", golden_lines(), ids=lambda line: line.tag)
def test_every_event_ever_stored_is_valid_by_the_schema_of_its_type(
    line: GoldenLine, keys: Any
) -> None:
    event = decode_state(7, "stream", 3, bytes.fromhex(line.state)).event
    tag = next(tag for tag, kind in EVENT_CLASSES.items() if kind is type(event))
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[tag])
    jsonschema.validate(data_of(open_event(event, keys)), SCHEMAS[tag])


def changed(**_: Any) -> dict[str, Any]:
    return deepcopy(SCHEMAS)


def told(before: Any, after: Any) -> list[tuple[str, str, bool]]:
    return [(one.type, one.path, one.additive) for one in differences(before, after)]


def test_an_addition_is_one() -> None:
    after = changed()
    after[POST]["properties"]["mood"] = {"type": "string"}
    after["post.pinned.v1"] = SCHEMAS[POST]
    assert told(SCHEMAS, after) == [("post.pinned.v1", "", True), (POST, "mood", True)]


def test_what_is_no_addition_is_refused() -> None:
    breaks: list[tuple[str, Any]] = [
        ("", lambda all_of: all_of.pop(POST)),
        ("content", lambda all_of: all_of[POST]["properties"].pop("content")),
        ("mood", lambda all_of: add_required(all_of[POST], "mood")),
        ("mediaUrls", lambda all_of: all_of[POST]["required"].append("mediaUrls")),
        (
            "createdAt",
            lambda all_of: all_of[POST]["properties"]["createdAt"].update(type="integer"),
        ),
        ("", lambda all_of: all_of[POST].update({"x-ordered-by": "postId"})),
    ]
    for path, broken in breaks:
        after = changed()
        broken(after)
        assert (POST, path, False) in told(SCHEMAS, after)


def add_required(schema: dict[str, Any], name: str) -> None:
    schema["properties"][name] = {"type": "string"}
    schema["required"].append(name)


def test_the_command_lists_and_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "list", "--json"], {}) == 0
    assert {row["type"] for row in json.loads(capsys.readouterr().out)} == SCHEMAS.keys()
    assert run(["schema", "diff"], {}) == 0
    assert capsys.readouterr().out == "nothing has changed\n"
    for tag, schema in read_schemas(WRITTEN).items():
        (tmp_path / f"{tag}.json").write_bytes(written(schema))
    (tmp_path / "post.gone.v1.json").write_bytes(written(SCHEMAS[POST]))
    assert run(["schema", "diff", "--against", str(tmp_path), "--json"], {}) == 1
    assert json.loads(capsys.readouterr().out) == [
        {"type": "post.gone.v1", "path": "", "change": "the type is gone", "additive": False}
    ]
