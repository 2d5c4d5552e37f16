"""Where critical upsets strike, as a picture: layers x roles, or registers x cycles."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..quant.errors import InputError
from ..quant.names import printable
from ..sim import store
from ..sim.outcomes import Outcome

__all__ = ["check", "draw", "groups", "registers"]

Floats = np.ndarray[Any, np.dtype[np.float64]]

SUFFIXES = (".png", ".svg", ".pdf")
_LARGEST_INCHES = 14.0


def check(path: Path) -> None:
    """InputError if the picture cannot be written there."""
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("--heatmap: no matplotlib: pip install 'tercet[plot]'")
    if path.suffix not in SUFFIXES:
        raise InputError(f"--heatmap {path}: must end in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise InputError(f"--heatmap {path}: its folder does not exist")


def draw(directory: Path, name: str, path: Path) -> None:
    """Write the map of the finished campaign `name`: registers x cycles if it was exhaustive.

    In a process of its own, since matplotlib cannot be imported beside pyosys. Raises InputError
    if there is no such campaign or the file cannot be written.
    """
    check(path)
    arguments = [str(directory.resolve()), name, str(path.resolve())]
    command = [sys.executable, "-P", "-m", "tercet.flow.heatmap", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        line = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"--heatmap {path}: {printable(line)}")


def _draw(directory: Path, name: str, path: Path) -> None:
    from matplotlib.figure import Figure

    sites, (report, table) = store.load_sites(directory, name), store.load(directory, name)
    every = bool(report["exhaustive"])
    share, rows, columns = (registers if every else groups)(sites, table)
    labels = _first_of_each(rows) if every else dict(enumerate(rows))
    width = min(_LARGEST_INCHES, max(6.0, 2.5 + 0.8 * len(columns) ** 0.6))
    height = min(_LARGEST_INCHES, max(3.0, 1.5 + 0.7 * len(rows) ** 0.6))
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(100 * share, aspect="auto", interpolation="antialiased", cmap="magma_r")
    figure.colorbar(image, label="critical, % of experiments")
    axes.set_yticks(list(labels), [printable(label) for label in labels.values()])
    axes.set_xlabel("cycle of the inference" if every else "role")
    axes.set_title(printable(f"{name}: {report['fault_model']}"), fontsize=8)
    if not every:
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
        for (y, x), value in np.ndenumerate(share):
            if not np.isnan(value):
                axes.text(x, y, f"{100 * value:.1f}", ha="center", va="center", fontsize=7)
    figure.savefig(path, dpi=150)


def _share(row: Any, column: Any, critical: Any, shape: tuple[int, int]) -> Floats:
    """Critical share of the experiments in each field; nan where there are none."""
    place = row.astype(np.int64) * shape[1] + column
    number = np.bincount(place, minlength=shape[0] * shape[1])
    events = np.bincount(place, critical, minlength=shape[0] * shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((events / number).reshape(shape), np.float64)


def groups(sites: list[store.SiteRow], table: store.Table) -> tuple[Floats, list[str], list[str]]:
    """Critical share [layers, roles] and their names; nan where nothing was struck."""
    struck = sorted(set(np.unique(table.site).tolist()))
    layers = sorted({sites[n].layer for n in struck})
    roles = sorted({sites[n].role for n in struck})
    row = np.array([layers.index(s.layer) if s.layer in layers else 0 for s in sites])
    column = np.array([roles.index(s.role) if s.role in roles else 0 for s in sites])
    critical = table.outcome == Outcome.SDC_CRITICAL
    shape = (len(layers), len(roles))
    return _share(row[table.site], column[table.site], critical, shape), layers, roles


def registers(
    sites: list[store.SiteRow], table: store.Table
) -> tuple[Floats, list[str], list[str]]:
    """Critical share [registers, cycles of an inference], over bits and inputs; the layer of each
    register and the numbers of the cycles."""
    struck = sorted(
        set(np.unique(table.site).tolist()),
        key=lambda n: (sites[n].layer, sites[n].role, sites[n].name),
    )
    order = np.zeros(len(sites), np.int64)
    order[struck] = np.arange(len(struck))
    _, which = np.unique(table.input, return_inverse=True)
    first = np.full(which.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, which, table.cycle.astype(np.int64))
    cycle = table.cycle.astype(np.int64) - first[which]
    critical = table.outcome == Outcome.SDC_CRITICAL
    shape = (len(struck), int(cycle.max()) + 1)
    share = _share(order[table.site], cycle, critical, shape)
    return share, [sites[n].layer for n in struck], [str(c) for c in range(shape[1])]


def _first_of_each(rows: list[str]) -> dict[int, str]:
    """Row -> layer where a layer begins."""
    return {n: row for n, row in enumerate(rows) if n == 0 or rows[n - 1] != row}


if __name__ == "__main__":
    _draw(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
