"""Measure how often upsets of control registers change the class; write the table of the estimate.

Strikes trained networks of the digits (seed 1; `benchmarks/resilience.py` judges by others), plain
and with parity, and counts critical upsets by kind of layer and family of register, as
`flow/costs/ffs.py` names them. Takes some minutes. Writes flow/resilience/tables/control.json.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from networks import trained, with_argmax

from tercet.flow.builder import build_design
from tercet.flow.design import arrange, prepare
from tercet.flow.plan import Plan
from tercet.hw.configure import Fold, Protection
from tercet.hw.watchdog_config import WATCHDOG
from tercet.quant import datasets
from tercet.quant.ir import Conv2d, Dense, Graph
from tercet.quant.quantize import quantize_input
from tercet.sim import store
from tercet.sim.campaign import run_campaign
from tercet.sim.outcomes import Outcome

SEED = 1
INPUTS = 24
TABLE = Path(__file__).parent.parent / "flow/resilience/tables/control.json"
FAMILIES = (
    (r"window\.(written|claim|window|row|end)$", "position"),
    (r"window\.(active|claim_valid|err|err_claim|err_frame)$", "flags"),
    (r"window\.(ox|oy)$", "@1"),
    (r"window\.outside_\d+$", "outside"),
    (r"window\..*addr.*$", "address"),
    (r"sequencer\.step_count$", "step"),
    (r"sequencer\.pass_count$", "pass"),
    (r"sequencer\.address(_count)?$", "at"),
    (r"(sequencer\.)?used$", "used"),
    (r"sequencer\.group_count$", "count"),
    (r"sequencer\.(done_.*|.*_done)$", "done"),
    (r"sequencer\.\w+$", "marks"),
    (r"fifo\.(head|tail|visible|committed)$", "pointer"),
    (r"fifo\..*$", "recent"),
    (r"operand_\d+\.(head|tail)$", "pointer"),
    (r"operand_\d+\.full$", "full"),
    (r"\w+_q\d+$", "late"),
    (r"(left|flags)$", "left"),
    (r"place_\d+$", "place"),
    (r"(address|index|count|err_frame)$", "@1"),
    (r"(word|inside|column|row)$", "count"),
    (r"taken_\d+$", "taken"),
    (r"held_\w+$", "marks"),
)
"""Name of a register inside its layer -> family; @1: the family is what the pattern found."""

JOINS = ("Add", "Concat", "Pad")

DESIGNS = {
    "chain": (8, (Fold(2, 3), Fold(4, 4), Fold(2, 4))),
    "branches": (4, (Fold(1, 3), Fold(2, 2), Fold(1, 3), Fold(2, 4), Fold(2, 4))),
    "residual": (12, (Fold(4, 3), *4 * (Fold(4, 4),), Fold(2, 4))),
}
"""Width of the network; foldings of its layers with weights, in order."""


MODES = {
    "none": (DESIGNS, False, "none"),
    "parity": (DESIGNS, False, "parity"),
    "none, watchdog": (("chain",), True, "none"),
    "parity, watchdog": (("chain",), True, "parity"),
}
"""Networks, watchdog and control of each mode."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=20_000, help="upsets of each design")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("-o", "--output", type=Path, default=TABLE)
    options = parser.parse_args()
    table = json.loads(options.output.read_text()) if options.output.exists() else {}
    counts: dict[str, Any] = {mode: defaultdict(dict) for mode in options.modes}
    for name, (width, folds) in DESIGNS.items():
        modes = [mode for mode in options.modes if name in MODES[mode][0]]
        if not modes:
            continue
        graph = trained(name, width=width, seed=SEED, epochs=options.epochs)
        if name == "branches":
            graph = with_argmax(graph)
        x = quantize_input(graph, datasets.digits().test_x)
        for mode in modes:
            struck(graph, x, folds, mode, options.faults, counts[mode])
            print(name, mode, file=sys.stderr, flush=True)
    table |= {
        "command": f"python benchmarks/control_rates.py --faults {options.faults} "
        f"--modes {' '.join(repr(mode) if ' ' in mode else mode for mode in options.modes)}",
        "versions": {name: version(name) for name in ("tercet", "amaranth", "torch")},
    }
    for mode, found in counts.items():
        table[mode] = {kind: dict(sorted(one.items())) for kind, one in sorted(found.items())}
    options.output.write_text(json.dumps(table, indent=1) + "\n")


def struck(
    graph: Graph, x: np.ndarray, folds: tuple[Fold, ...], mode: str, faults: int, found: Any
) -> None:
    """Add the counts of one design: [critical, upsets] by kind and family."""
    names = [node.name for node in graph if isinstance(node, Conv2d | Dense)]
    _, watchdog, control = MODES[mode]
    design = prepare(graph, dict(zip(names, folds, strict=True)))
    guards = {name: Protection(control=control) for name in design.protection}
    design = arrange(graph, design.folding, Plan(watchdog=watchdog), guards)
    operators = {layer.name: layer.op for layer in design.layers}
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "design"
        build_design(design, out, frames=x[:INPUTS])
        report = run_campaign(out, faults=faults, inputs=INPUTS, seed=SEED, audit=0)
        sites = store.load_sites(out, report["id"])
        table = store.load(out, report["id"])[1]
    critical = table.outcome == Outcome.SDC_CRITICAL
    upsets = np.bincount(table.site, minlength=len(sites))
    hits = np.bincount(table.site[critical], minlength=len(sites))
    for site, total, wrong in zip(sites, upsets.tolist(), hits.tolist(), strict=True):
        if site.role == "control":
            kind, family = placed(site.name, operators)
            pair = found[kind].setdefault(family, [0, 0])
            pair[0] += wrong
            pair[1] += total


def placed(name: str, operators: dict[str, str]) -> tuple[str, str]:
    """Kind of layer and family of a register. Raises ValueError for one that has none."""
    first, _, rest = name.partition(".")
    if first == WATCHDOG:
        return WATCHDOG, WATCHDOG
    kind = operators.get(first)
    if kind is None:
        kind = "fork" if first.startswith("fork_") else "converter"
    if kind in JOINS:
        rest = re.sub(r"\w+_q\d+$", "held_marks", rest)  # the marks of a join are of one kind
    for pattern, family in FAMILIES:
        match = re.search(rf"(?:^|\.){pattern}", rest)
        if match:
            return kind, match.group(1) if family == "@1" else family
    raise ValueError(f"{name}: no family; name it in FAMILIES")


if __name__ == "__main__":
    main()
