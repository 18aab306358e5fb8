"""The README's five minutes, and what docs show, typed in by a reader new to Plaza."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fault.system import ROOT, running_system

TOURS = ("README.md", "docs/buying.md", "docs/searching.md")
END = "--end-of-answer--"
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Step:
    """What the reader types, and what the document says comes back."""

    command: str
    shown: tuple[str, ...]


def tour(document: Path) -> list[Step]:
    """All commands but those that start and test the system."""
    steps: list[Step] = []
    for block in re.findall(r"```console\n(.*?)```", document.read_text(), re.DOTALL):
        command, shown = "", []
        for line in [*block.splitlines(), "$ end"]:
            if not line.startswith("$ "):
                shown.append(line)
                continue
            if command and not command.startswith("make "):
                steps.append(Step(command, tuple(shown)))
            command, shown = line[2:], []
    return steps


class Shell:
    """One shell for the whole tour, as its reader has."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._shell = subprocess.Popen(
            ["bash", "--norc", "-o", "pipefail"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )

    def type(self, command: str) -> tuple[int, list[str]]:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{command}\necho; echo {END} $?\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        for line in self._shell.stdout:
            if line.startswith(END):
                return int(line.split()[1]), [one for one in lines if one]
            lines.append(line.rstrip("\n"))
        raise AssertionError(f"the shell ended at: {command}")

    def close(self) -> None:
        os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()
        for stream in (self._shell.stdin, self._shell.stdout):
            if stream is not None:
                stream.close()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("document", TOURS)
async def test_each_command_of_a_tour_does_what_is_shown(document: str, tmp_path: Path) -> None:
    steps = tour(ROOT / document)
    assert len(steps) >= 12
    async with running_system(tmp_path / ".plaza") as system:
        # Its reader stands in the checkout and has the default ports.
        scripts = Path(sys.executable).parent
        environment = {**system.environment, "PATH": f"{scripts}:{os.environ['PATH']}"}
        shell = Shell(tmp_path, environment)
        try:
            for step in steps:
                command = step.command.replace(":8001", f":{system.command_port}")
                command = command.replace(":8002", f":{system.query_port}")
                async with asyncio.timeout(PATIENCE_SECONDS):
                    status, answered = await asyncio.to_thread(shell.type, command)
                assert status == 0, (step.command, answered)
                compare(step, answered)
        finally:
            shell.close()


def compare(step: Step, answered: list[str]) -> None:
    """What is shown and what came have the same shape; a line with … is not looked at."""
    for shown in step.shown:
        if "…" in shown or not shown.strip():
            continue
        if shown.startswith("{"):
            came = next((line for line in answered if line.startswith("{")), "{}")
            assert shape(json.loads(came)) == shape(json.loads(shown)), step.command
        else:
            assert pattern(shown) in {pattern(line) for line in answered}, (step, answered)


def shape(value: Any) -> Any:
    """The names of all members, with the kinds of what they hold."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        # A post and a repost differ in their members.
        return ["something"] if value else []
    return None if value is None else type(value).__name__


def pattern(line: str) -> str:
    """A line without what differs from run to run: numbers and the spaces around them."""
    return re.sub(r"\s+", " ", re.sub(r"[0-9][0-9.,]*", "N", line)).strip()
