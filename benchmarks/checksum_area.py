"""What a checksum costs the demo's network after synthesis, beside the same network without.

    python benchmarks/checksum_area.py [--target T] [--multiplier M] [--modulus N ...] [--form F]

The network, its weights (seed 0) and its folding are the demo's; control has no protection. Area is
LUT + 0.5 FF + 100 DSP + 200 BRAM (of 18 kbit). Each design takes a minute or two.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from tercet.flow import targets
from tercet.flow.demo import area, folding
from tercet.flow.design import prepare
from tercet.flow.emit import emit
from tercet.flow.plan import Checksum, Plan, Settings
from tercet.flow.synth import synthesize
from tercet.quant.ir import Conv2d, Dense, Graph
from tercet.quant.models.digits import digits_network

__all__ = ["main", "measured"]

MODULI = ("3", "7", "15", "255", "exact")


def measured(graph: Graph, plan: Plan, multiplier: str, target: str) -> dict[str, Any]:
    """Cells of the demo's network under a plan, and its area."""
    linear = {node.name for node in graph if isinstance(node, Conv2d | Dense)}
    folds = {
        name: replace(fold, multiplier=multiplier) if name in linear else fold
        for name, fold in folding(graph).items()
    }
    with tempfile.TemporaryDirectory() as folder:
        verilog = emit(prepare(graph, folds, plan).layers, Path(folder))
        device = targets.find(target)
        found = synthesize(verilog, "top", device, workdir=Path(folder) / "synth")
    return found | {"area": area(found)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="area of checksums in the demo's network")
    parser.add_argument("--target", default=targets.DEFAULT)
    parser.add_argument("--multiplier", default="dsp", choices=("dsp", "dsp2", "lut"))
    parser.add_argument("--modulus", nargs="+", default=["3"], choices=MODULI)
    parser.add_argument("--form", default="filter", choices=("filter", "auto"))
    args = parser.parse_args()
    graph = digits_network(0)
    plans = {"none": Plan(Settings(control="none"))}
    for text in args.modulus:
        checksum = Checksum(text if text == "exact" else int(text), args.form)
        plans[text] = Plan(Settings(checksum, control="none"))
    print("| checksum | LUT | FF | DSP | BRAM | area | more |")
    print("|---|---|---|---|---|---|---|")
    base = None
    for name, plan in plans.items():
        found = measured(graph, plan, args.multiplier, args.target)
        base = base or found["area"]
        cells = " | ".join(f"{found[key]:,}" for key in ("luts", "ffs", "dsps", "brams"))
        more = f"{found['area'] / base - 1:+.1%}"
        print(f"| {name} | {cells} | {found['area']:,.1f} | {more} |", flush=True)


if __name__ == "__main__":
    main()
