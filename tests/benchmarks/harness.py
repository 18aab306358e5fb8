"""What every benchmark shares: a figure beside its probe, taken in turns in one run.

Absolute figures say more about the machine than about us. So each benchmark measures a probe, the
plainest program that does the same kind of work, in the same rounds, and is judged by the ratio.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median


@dataclass(frozen=True)
class Result:
    """`ratio` is the median of the rounds' ratios, `spread` their least and greatest.

    `target` is the ratio to reach, at least; for a benchmark without a probe, `value` at most.
    """

    name: str
    value: float
    unit: str
    probe: float
    ratio: float
    target: float
    spread: tuple[float, float]

    @property
    def met(self) -> bool:
        return self.value <= self.target if math.isnan(self.probe) else self.ratio >= self.target


@dataclass(frozen=True)
class Curve:
    """What something costs at sizes that are ten times apart.

    `times_max` is how many times as much the largest may cost as the smallest.
    """

    name: str
    of: str
    sizes: Sequence[int]
    costs: Sequence[float]
    unit: str
    times_max: float


def interleaved(
    name: str,
    *,
    unit: str,
    target: float,
    rounds: int,
    measure: Callable[[], float],
    probe: Callable[[], float],
) -> Result:
    """Measure and probe in turns, so that whatever else slows the machine slows both."""
    values: list[float] = []
    probes: list[float] = []
    for _ in range(rounds):
        probes.append(probe())
        values.append(measure())
    ratios = [value / beside for value, beside in zip(values, probes, strict=True)]
    return Result(
        name=name,
        value=median(values),
        unit=unit,
        probe=median(probes),
        ratio=median(ratios),
        target=target,
        spread=(min(ratios), max(ratios)),
    )


def interleaved_latencies(
    name: str,
    *,
    times_max: float,
    rounds: int,
    measure: Callable[[], float],
    probe: Callable[[], float],
) -> Result:
    """The same for 99th percentiles in seconds, of which the measured one may be so many times as
    long. The ratio is how often it fits into the other one, since ratios are better when higher."""
    found = interleaved(
        name,
        unit="ms p99",
        target=1 / times_max,
        rounds=rounds,
        measure=lambda: 1 / measure(),
        probe=lambda: 1 / probe(),
    )
    return replace(found, value=1000 / found.value, probe=1000 / found.probe)
