"""Documents that differ, side by side: the members that are equal are left out of sight."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from domain.shared.identifiers import id_text
from infra.ports.keepers import Different

SHOWN_MAX = 48


def print_differences(examples: Iterable[Different], kind: str, computed: str, served: str) -> None:
    for example in examples:
        print()
        for line in lines(example, kind, computed, served):
            print(line)


def lines(example: Different, kind: str, computed: str, served: str) -> list[str]:
    """A heading with what both have, and a line for each member in which they differ."""
    new, old = readable(example.computed), readable(example.served)
    if new is None or old is None:
        which, there = (served, old) if new is None else (computed, new)
        return [f"{example.place}: only {kind} {which} has", f"  {shown(there)}"]
    same = {name: value for name, value in new.items() if old.get(name, ...) == value}
    found = [f"{example.place}  {shown(same)}"]
    found.append(f"  {'':24} {kind + ' ' + computed:<{SHOWN_MAX}} {kind} {served}")
    for name in [*new, *(name for name in old if name not in new)]:
        if name not in same:
            left, right = cut(new.get(name)), cut(old.get(name))
            found.append(f"  {name:24} {left:<{SHOWN_MAX}} {right}")
    return found


def readable(document: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The same with ids as they are written everywhere else."""
    return document and {
        name: id_text(value) if name.endswith("_id") and isinstance(value, int) else value
        for name, value in document.items()
    }


def shown(document: Mapping[str, Any] | None) -> str:
    if document is None:
        return "no such document"
    short = {
        name: value if len(str(value)) <= SHOWN_MAX else "…" for name, value in document.items()
    }
    return msgspec.json.encode(short).decode()


def cut(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"
