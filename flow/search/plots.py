"""The front as a picture (front.png) and as an interactive page (front.html) that needs no network.

Run as a module in a process of its own, since matplotlib cannot be imported beside pyosys.
"""

from __future__ import annotations

import html
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...quant.errors import InputError
from ...quant.names import printable
from .archive import Record, load_archive
from .pareto import matrix
from .survival import FloatArray
from .text import genome_text

__all__ = ["draw"]

DARK, LIGHT = "#0b5394", "#b7b7b7"
WIDE = 20.0
"""Largest by smallest value from which on an axis is logarithmic."""


def draw(folder: Path) -> None:
    """Write front.png and front.html beside the archive.json and search.json of `folder`.

    Raises InputError with the reason if they cannot be written.
    """
    command = [sys.executable, "-P", "-m", "tercet.flow.search.plots", str(folder.resolve())]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        line = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"{printable(str(folder))}: the plots: {printable(line)}")


def _draw(folder: Path) -> None:
    result = json.loads((folder / "search.json").read_text())
    names, members = result["objectives"], {point["number"] for point in result["front"]}
    records = load_archive(folder).feasible
    on_front = np.array([record.number in members for record in records])
    values = matrix(records, names)
    _picture(folder / "front.png", names, values, on_front)
    page = _page(names, records, values, on_front)
    (folder / "front.html").write_text(page, encoding="utf-8")


def _picture(path: Path, names: Sequence[str], values: FloatArray, on_front: Any) -> None:
    """The first objective against each other one."""
    from matplotlib.figure import Figure

    others = list(range(1, len(names))) or [0]
    figure = Figure(figsize=(4.2 * len(others), 3.8), layout="constrained")
    for axis, other in zip(np.atleast_1d(figure.subplots(1, len(others))), others, strict=True):
        x = values[:, 0] if len(names) > 1 else np.arange(len(values))
        for chosen, colour, label in ((~on_front, LIGHT, "evaluated"), (on_front, DARK, "front")):
            axis.scatter(x[chosen], values[chosen, other], s=18, color=colour, label=label)
        axis.set_xlabel(_plain(names[0]) if len(names) > 1 else "evaluation")
        axis.set_ylabel(_plain(names[other]))
        if _is_wide(values[:, other]):
            axis.set_yscale("log")
        axis.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _plain(name: str) -> str:
    """A name that matplotlib does not read as a formula."""
    return printable(name).replace("$", r"\$")


def _is_wide(column: FloatArray) -> bool:
    return bool(column.min() > 0 and column.max() > WIDE * column.min())


def _page(
    names: Sequence[str], records: Sequence[Record], values: FloatArray, on_front: Any
) -> str:
    """Every pair of objectives, and the front as lines across all of them."""
    from plotly import graph_objects

    shown = [html.escape(printable(name)) for name in names]
    pairs = graph_objects.Figure(layout={"title": "Every pair of objectives", "height": 760})
    for chosen, colour, label in ((~on_front, LIGHT, "evaluated"), (on_front, DARK, "front")):
        text = [_hover(record) for record, one in zip(records, chosen, strict=True) if one]
        columns = zip(shown, values[chosen].T, strict=True)
        pairs.add_splom(
            dimensions=[{"label": name, "values": column.tolist()} for name, column in columns],
            text=text,
            name=label,
            marker={"color": colour, "size": 6},
            diagonal_visible=False,
        )
    lines = graph_objects.Figure(layout={"title": "The front", "height": 420})
    columns = zip(shown, values[on_front].T, strict=True)
    lines.add_parcoords(
        dimensions=[{"label": name, "values": column.tolist()} for name, column in columns],
        line={"color": values[on_front][:, 0].tolist(), "colorscale": "Viridis"},
    )
    first = pairs.to_html(full_html=False, include_plotlyjs=True, div_id="pairs")
    second = lines.to_html(full_html=False, include_plotlyjs=False, div_id="lines")
    return _PAGE.format(body=f"{first}\n{second}")


def _hover(record: Record) -> str:
    return html.escape(f"{record.number}: {genome_text(record.genome)}")


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>tercet search</title></head>
<body style="font-family: sans-serif; max-width: 1200px; margin: auto">
{body}
</body>
</html>
"""

if __name__ == "__main__":
    _draw(Path(sys.argv[1]))
