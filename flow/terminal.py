"""Consoles, tables and cells for results on the terminal."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["cell", "console", "table"]

_WIDTH = 120  # of files and pipes


def console() -> Console:
    """Standard output; foreign text is shown as it is, never as markup."""
    width = None if sys.stdout.isatty() else _WIDTH
    return Console(markup=False, highlight=False, emoji=False, soft_wrap=True, width=width)


def table(title: str, *columns: str) -> Table:
    """A plain table, first column left, the others right."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if index else "left")
    return made


def cell(value: Any) -> str:
    """A number with thousands separated, a missing one as a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.2f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
