"""Curves as a drawing: one small plot each, sizes ten times apart, the axis of costs from zero."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from tests.benchmarks.harness import Curve

WIDTH, HEIGHT = 300, 200
LEFT, RIGHT, TOP, BOTTOM = 24, 24, 56, 34
COLUMNS = 3
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #57606a }
  .title { font-weight: 600; font-size: 13px; fill: #24292f }
  .cost { font-size: 11px; fill: #24292f; text-anchor: middle }
  .size { font-size: 11px; text-anchor: middle }
  .curve { fill: none; stroke: #0969da; stroke-width: 2 }
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
    highest = max(curve.costs) or 1.0
    points = [
        (left + LEFT + step * number, floor - cost / highest * (HEIGHT - TOP - BOTTOM))
        for number, cost in enumerate(curve.costs)
    ]
    line = " ".join(f"{x:.0f},{y:.1f}" for x, y in points)
    marks = "".join(
        f'<circle class="point" cx="{x:.0f}" cy="{y:.1f}" r="3"/>'
        f'<text class="cost" x="{x:.0f}" y="{y - 8:.1f}">{figure(cost)}</text>'
        f'<text class="size" x="{x:.0f}" y="{floor + 16}">{size:,}</text>'
        for (x, y), cost, size in zip(points, curve.costs, curve.sizes, strict=True)
    )
    right = left + WIDTH - RIGHT
    return (
        f'<text class="title" x="{left + 12}" y="{top + 18}">{escape(curve.name)}, '
        f"{escape(curve.unit)}</text>"
        f'<text x="{left + 12}" y="{top + 34}">by {escape(curve.of)}</text>'
        f'<path class="axis" d="M{left + LEFT} {floor}H{right}"/>'
        f'<polyline class="curve" points="{line}"/>{marks}'
    )


def figure(cost: float) -> str:
    """Three digits, as far as they say anything."""
    return f"{cost:,.0f}" if cost >= 100 else f"{cost:.3g}"
