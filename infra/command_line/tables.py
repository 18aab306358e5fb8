"""Tables for people to read, where a verb prints JSON for programs."""

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

PIPE_COLUMNS = 400


def print_rows(rows: list[dict[str, Any]], columns: Mapping[str, str]) -> None:
    """A table of some members of each row: `columns` maps a member to its heading."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    numbers = {name for name in columns if rows and all(_is_number(row.get(name)) for row in rows)}
    for name, heading in columns.items():
        table.add_column(heading, justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_shown(row.get(name)) for name in columns))
    plain_console().print(table)


def plain_console() -> Console:
    """As wide as the terminal; where there is none, no line is broken for want of one."""
    return Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    if value is None:
        return "–"  # noqa: RUF001
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and abs(value) > 99_999 else str(value)
