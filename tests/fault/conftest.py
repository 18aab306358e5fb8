"""Prints the fault matrix of the checkout, with the provider's books beside it: `make fault`."""

import re
from collections.abc import Mapping

import pytest

CELL = re.compile(r"test_a_step_that_fails_in_passing_ends_in_one_sale\[(\w+)-(.+)\]$")
LEDGER = pytest.StashKey[Mapping[str, int]]()
PASSED, FAILED, ABSENT = "ok", "FAILED", "-"


@pytest.fixture(scope="session")
def ledger_totals(request: pytest.FixtureRequest) -> dict[str, int]:
    """Filled in with what the provider's books come to, for the summary."""
    totals: dict[str, int] = {}
    request.config.stash[LEDGER] = totals
    return totals


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
    totals = config.stash.get(LEDGER, None)
    if totals is None:
        terminalreporter.write_line("what the provider's books come to is told without -n")
        return
    told = ", ".join(f"{name} {value / 100:,.2f}" for name, value in totals.items())
    terminalreporter.write_line(f"the provider's books after all that, in EUR: {told}")
