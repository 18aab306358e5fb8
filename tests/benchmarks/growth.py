"""How costs grow with what there is, at three sizes ten times apart: pages, appends, start, import.

Each curve says what it costs at each size, and is judged by how much more the largest costs than
the smallest. The figures and a drawing of them are written to `docs/growth.json` and
`docs/growth.svg`.
"""

from dataclasses import asdict
from pathlib import Path

import msgspec

from tests.benchmarks.growth_drawing import drawing
from tests.benchmarks.growth_of_log import append_costs
from tests.benchmarks.growth_of_pages import page_costs
from tests.benchmarks.growth_of_system import system_costs
from tests.benchmarks.harness import Curve, Result

NAME = "growth"
DOCS = Path(__file__).parents[2] / "docs"


def run(rounds: int) -> list[Result]:
    """Every measure is already a median of several, or a start of a whole system."""
    del rounds
    curves = [*page_costs(), *append_costs(), *system_costs()]
    document = msgspec.json.format(msgspec.json.encode([asdict(curve) for curve in curves]))
    (DOCS / "growth.json").write_bytes(document + b"\n")
    (DOCS / "growth.svg").write_text(drawing(curves), "utf-8")
    return [growth(curve) for curve in curves]


def growth(curve: Curve) -> Result:
    """The largest size beside the smallest: `ratio` says how many times as much it may not cost."""
    smallest, largest = curve.costs[0], curve.costs[-1]
    return Result(
        name=f"growth: {curve.name} by {curve.of}",
        value=largest,
        unit=curve.unit,
        probe=smallest,
        ratio=smallest / largest,
        target=1 / curve.times_max,
        spread=(smallest / max(curve.costs), smallest / min(curve.costs)),
    )
