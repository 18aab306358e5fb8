"""Curves as a drawing: one small plot each, sizes ten times apart.

The axis of costs begins at zero, but for what may grow as the sizes do: that is drawn on a
logarithmic one, beside a dashed line of what grows in proportion.
"""

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from tests.benchmarks.harness import Curve

WIDTH, HEIGHT = 300, 200
LEFT, RIGHT, TOP, BOTTOM = 24, 24, 56, 34
COLUMNS = 3
PROPORTIONATE_TIMES = 10
"""What may cost as many times as much is judged by how it grows, not by how little."""
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #57606a }
  .title { font-weight: 600; font-size: 13px; fill: #24292f }
  .cost { font-size: 11px; fill: #24292f; text-anchor: middle }
  .size { font-size: 11px; text-anchor: middle }
  .curve { fill: none; stroke: #0969da; stroke-width: 2 }
  .proportion { stroke: #8c959f; stroke-dasharray: 4 4 }
  .point { fill: #0969da }
  .axis { stroke: #d0d7de }
"""


def drawing(curves: Sequence[Curve]) -> str:
    rows = -(-len(curves) // COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT
    plots = "".join(
        plot(curve, number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT)
        for number, curve in enumerate(curves)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="How costs grow"><style>{STYLE}</style>'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>{plots}</svg>\n'
    )


def plot(curve: Curve, left: int, top: int) -> str:
    """The curve, and beside each point what it costs."""
    step = (WIDTH - LEFT - RIGHT) / (len(curve.sizes) - 1)
    floor = top + HEIGHT - BOTTOM
    points = [
        (left + LEFT + step * number, floor - height * (HEIGHT - TOP - BOTTOM))
        for number, height in enumerate(heights(curve))
    ]
    line = " ".join(f"{x:.0f},{y:.1f}" for x, y in points)
    marks = "".join(
        f'<circle class="point" cx="{x:.0f}" cy="{y:.1f}" r="3"/>'
        f'<text class="cost" x="{x:.0f}" y="{y - 8:.1f}">{figure(cost)}</text>'
        f'<text class="size" x="{x:.0f}" y="{floor + 16}">{size:,}</text>'
        for (x, y), cost, size in zip(points, curve.costs, curve.sizes, strict=True)
    )
    right = left + WIDTH - RIGHT
    beside = ""
    if curve.times_max >= PROPORTIONATE_TIMES:
        beside = f'<path class="proportion" d="M{left + LEFT} {floor}L{right} {top + TOP}"/>'
    return (
        f'<text class="title" x="{left + 12}" y="{top + 18}">{escape(curve.name)}, '
        f"{escape(curve.unit)}</text>"
        f'<text x="{left + 12}" y="{top + 34}">by {escape(curve.of)}</text>'
        f'<path class="axis" d="M{left + LEFT} {floor}H{right}"/>'
        f"{beside}"
        f'<polyline class="curve" points="{line}"/>{marks}'
    )


def heights(curve: Curve) -> list[float]:
    """How high each point stands, from 0 to 1."""
    if curve.times_max < PROPORTIONATE_TIMES:
        return [cost / max(curve.costs) for cost in curve.costs]
    times = curve.sizes[-1] / curve.sizes[0]
    return [math.log(max(cost / curve.costs[0], 1), times) for cost in curve.costs]


def figure(cost: float) -> str:
    """Three digits, as far as they say anything."""
    return f"{cost:,.0f}" if cost >= 100 else f"{cost:.3g}"
