"""Prints the fault matrix of the checkout, with the provider's books beside it: `make fault`."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

CELL = re.compile(r"test_a_step_that_fails_in_passing_ends_in_one_sale\[(\w+)-(.+)\]$")
LEDGER = pytest.StashKey[Counter[str]]()
LEDGER_OF_WORKER = "plaza_ledger"
PASSED, FAILED, ABSENT = "ok", "FAILED", "-"


@pytest.fixture(scope="session")
def ledger_totals(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """To be added to: what each of the provider's books comes to, for the summary."""
    totals: Counter[str] = Counter()
    yield totals
    output = getattr(request.config, "workeroutput", None)
    if output is None:
        add_to_ledger(request.config, totals)
    else:
        output[LEDGER_OF_WORKER] = dict(totals)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist has ended, or was lost and says nothing."""
    add_to_ledger(node.config, getattr(node, "workeroutput", {}).get(LEDGER_OF_WORKER, {}))


def add_to_ledger(config: pytest.Config, totals: Mapping[str, int]) -> None:
    config.stash.setdefault(LEDGER, Counter()).update(totals)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not config.getoption("--all-faults"):
        return
    cells = {
        cell.groups(): word
        for outcome, word in (("passed", PASSED), ("failed", FAILED))
        for report in terminalreporter.stats.get(outcome, ())
        if (cell := CELL.search(report.nodeid))
    }
    if not cells:
        return
    steps = list(dict.fromkeys(step for step, _ in cells))
    faults = list(dict.fromkeys(fault for _, fault in cells))
    width = max(map(len, faults))
    terminalreporter.section("a checkout's steps, each failing in each way")
    terminalreporter.write_line(" " * width + "".join(f"  {step:>12}" for step in steps))
    for fault in faults:
        row = "".join(f"  {cells.get((step, fault), ABSENT):>12}" for step in steps)
        terminalreporter.write_line(f"{fault:<{width}}{row}")
    totals = config.stash.get(LEDGER, Counter())
    told = ", ".join(f"{name} {value / 100:,.2f}" for name, value in totals.items())
    terminalreporter.write_line(f"the provider's books after all that, in EUR: {told}")
