"""What every verb of `plaza` shares: its shape, its output, and its ways to fail."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.composition.settings import Settings

FAILED = 1
ASKED_WRONGLY = 2


@dataclass(frozen=True)
class Context:
    """What a verb works with: its arguments, the environment, and the settings read from it."""

    arguments: argparse.Namespace
    settings: Settings
    environ: Mapping[str, str]

    @property
    def json(self) -> bool:
        return bool(self.arguments.json)


Run = Callable[[Context], int]


class Failure(Exception):
    """The verb could not do what it was asked: exit status 1."""


class AskedWrongly(Exception):
    """The verb was asked for something that makes no sense: exit status 2."""


def print_json(document: Any) -> None:
    """One JSON document, or one line of JSON lines."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def quiet_end_of_output() -> None:
    """What reads our output has enough, as `| head` does: end without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
