"""Measure what share of the wrong results each setting of a plan leaves; write harden's table.

Trained networks of the digits (seed 1; `benchmarks/harden.py` judges by others) are struck plain
and with one setting in all layers. An upset of a control register counts if it changed the class,
one of any other register if it changed a word: whether a checker sees it does not depend on how
much it matters, and there are more of them. Writes flow/harden/tables/coverage.json; settings that
are not asked for keep their counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from networks import trained

from tercet.flow.builder import build_design
from tercet.flow.design import Design, arrange, prepare
from tercet.flow.harden.profile import group, home
from tercet.flow.plan import Plan
from tercet.hw.configure import Fold, Protection
from tercet.quant import datasets
from tercet.quant.ir import Conv2d, Dense
from tercet.quant.quantize import quantize_input
from tercet.sim import store
from tercet.sim.campaign import run_campaign
from tercet.sim.outcomes import Outcome

SEED, INPUTS = 1, 32
FOLDINGS = {
    "chain": (Fold(2, 3), Fold(4, 4), Fold(2, 4)),
    "residual": (Fold(4, 3), Fold(4, 4), Fold(4, 4), Fold(4, 4), Fold(4, 4), Fold(2, 4)),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "control=parity": {"control": "parity"},
    "control=tmr": {"control": "tmr"},
    "control=none watchdog": {"watchdog": True},
    "control=parity watchdog": {"control": "parity", "watchdog": True},
    "control=tmr watchdog": {"control": "tmr", "watchdog": True},
    "checksum=3": {"modulus": 3},
    "checksum=7": {"modulus": 7},
    "checksum=exact": {"modulus": "exact"},
    "checksum=3 input": {"modulus": 3, "form": "input"},
    "tmr=spatial": {"neurons": "all"},
    "stream=parity": {"stream": "parity"},
    "stream=residue": {"stream": "residue"},
    "stream=secded": {"stream": "secded"},
    "post=parity": {"post": "parity"},
    "post=dup": {"post": "dup"},
    "post=tmr": {"post": "tmr"},
    "weights=parity": {"weights": "parity"},
    "weights=secded": {"weights": "secded"},
}
LINEAR = ("modulus", "form", "neurons", "weights")
"""Fields of layers with weights only."""
TABLE = Path(__file__).parent.parent / "flow/harden/tables/coverage.json"
WRONG = (Outcome.SDC_CRITICAL, Outcome.SDC_TOLERABLE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=30_000, help="upsets of each design")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--settings", nargs="+", default=[*SETTINGS], choices=[*SETTINGS])
    parser.add_argument("--networks", nargs="+", default=[*FOLDINGS], choices=[*FOLDINGS])
    parser.add_argument("-o", "--output", type=Path, default=TABLE)
    options = parser.parse_args()
    table = json.loads(options.output.read_text()) if options.output.exists() else {}
    designs = table.setdefault("designs", {})
    for name in options.networks:
        plain, x = network(name, options.epochs)
        for setting in options.settings:
            found = struck(protected(plain, SETTINGS[setting]), x, options.faults)
            designs.setdefault(name, {})[setting] = found
            write(options.output, options, table)
            print(name, setting, found, file=sys.stderr, flush=True)


def network(name: str, epochs: int) -> tuple[Design, Any]:
    """The plain design of a network, and the frames to strike it on."""
    graph = trained(name, seed=SEED, epochs=epochs)
    linear = [node.name for node in graph if isinstance(node, Conv2d | Dense)]
    folding = dict(zip(linear, FOLDINGS[name], strict=True))
    return prepare(graph, folding), quantize_input(graph, datasets.digits().select_x)[:INPUTS]


def protected(plain: Design, fields: dict[str, Any]) -> Design:
    """The design with the same fields of `Protection` in all layers that have them."""
    guards, fields = {}, dict(fields)
    plan = Plan(watchdog=fields.pop("watchdog", False))
    for name in plain.protection:
        node = plain.graph.node(name)
        linear = isinstance(node, Conv2d | Dense)
        own = {key: value for key, value in fields.items() if linear or key not in LINEAR}
        if own.get("neurons") == "all":
            own["neurons"] = tuple(range(node.out_channels))
        guards[name] = Protection(**own)
    return arrange(plain.graph, plain.folding, plan, guards)


def struck(design: Design, x: Any, faults: int) -> dict[str, list[float]]:
    """[wrong results, upsets, bits, cycles of an inference] by group of registers."""
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "design"
        build_design(design, out, frames=x)
        report = run_campaign(out, faults=faults, inputs=INPUTS, seed=SEED, audit=0, workers=1)
        sites = store.load_sites(out, report["id"])
        table = store.load(out, report["id"])[1]
    layers = {layer.name: layer for layer in design.layers}
    groups = [
        group(layers.get(home(site.layer, design.layers)), site.role)
        if site.kind == "register"
        else "memory"
        for site in sites
    ]
    wrong = np.isin(table.outcome, WRONG)
    critical = table.outcome == Outcome.SDC_CRITICAL
    found: dict[str, list[float]] = {}
    for name in sorted({*groups} - {"memory"}):
        mine = np.array([one == name for one in groups])
        bits = sum(site.bits for site, yes in zip(sites, mine, strict=True) if yes)
        hit = mine[table.site]
        events = (critical if name in ("control", "added") else wrong)[hit].sum()
        found[name] = [int(events), int(hit.sum()), bits, report["initiation_interval"]]
    return found


def write(path: Path, options: argparse.Namespace, table: dict[str, Any]) -> None:
    """The table, whole or not at all."""
    head = {
        "command": f"python benchmarks/harden_coverage.py --faults {options.faults}",
        "versions": {name: version(name) for name in ("tercet", "amaranth", "torch")},
    }
    part = path.with_suffix(".part")
    part.write_text(json.dumps(table | head, indent=1) + "\n")
    part.replace(path)


if __name__ == "__main__":
    main()
