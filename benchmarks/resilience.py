"""The resilience estimate beside fault campaigns, at points that its constants were not fit on.

Trains small classifiers of scikit-learn's digits (seed 0), builds each point, strikes it with
upsets of all its flip-flops, and prints predicted and measured vulnerable bit-cycles with the
interval over faults; then Spearman's rank correlation and the median factor between them, of all
points and of control and datapath by themselves. `--keep` holds what was measured, so that an
interrupted run goes on; `--built` adds build directories with a finished campaign of single upsets
of all flip-flops, such as those of `tercet demo`. Takes about half an hour on a free machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from networks import trained

from tercet.flow.builder import build_design
from tercet.flow.design import Design, prepare
from tercet.flow.folding import Goal
from tercet.flow.frames import read_frames
from tercet.flow.plan_file import parse_plan
from tercet.flow.resilience import Resilience, resilience_estimate
from tercet.flow.sources import built_design
from tercet.hw.configure import Fold
from tercet.quant import datasets
from tercet.quant.criticality.scores import ranks
from tercet.quant.ir import Conv2d, Dense, Graph
from tercet.quant.models.digits import digits_network
from tercet.quant.quant_config import QuantConfig
from tercet.quant.quantize import quantize_input
from tercet.quant.sensitivity import measure
from tercet.sim.campaign import run_campaign

SEED = 0
INPUTS = 32
TRIALS = 4096
PLANS: dict[str, dict[str, Any]] = {
    "plain": {},
    "parity": {"control": "parity"},
    "tmr control": {"control": "tmr"},
    "checksum": {"checksum": {"modulus": 3}},
    "checksum 3 only": {"checksum": {"modulus": 3}, "control": "none"},
    "checksum 7 only": {"checksum": {"modulus": 7}, "control": "none"},
    "checksum, tmr control": {"checksum": {"modulus": 3}, "control": "tmr"},
    "30 % tmr, tmr control": {"tmr": {"share": 0.3}, "control": "tmr"},
}


@dataclass(frozen=True)
class Case:
    """A network, and its foldings by name: (pe, simd) of the layers with weights, in order."""

    network: str
    width: int
    bits: int
    seed: int
    foldings: dict[str, tuple[tuple[int, int], ...]]
    plans: tuple[tuple[str, str], ...]


CASES = {
    "demo": Case("demo", 8, 8, 0, {"demo": ((4, 3), (8, 4), (2, 2))},
        (("demo", "plain"), ("demo", "checksum"))),
    "narrow chain": Case("chain", 4, 8, 1, {"small": ((2, 3), (2, 4), (1, 4))},
        (("small", "plain"), ("small", "parity"), ("small", "checksum, tmr control"))),
    "chain (fitted)": Case("chain", 8, 8, 1, {"small": ((2, 3), (4, 4), (2, 4))},
        (("small", "tmr control"), ("small", "checksum 3 only"), ("small", "checksum 7 only"))),
    "chain, 4 bits": Case("chain", 4, 4, 0,
        {"small": ((2, 3), (2, 4), (1, 4)), "medium": ((4, 3), (2, 12), (1, 8))},
        (("small", "plain"), ("small", "tmr control"), ("medium", "plain"))),
    "other chain": Case("chain", 4, 8, 0,
        {"small": ((1, 3), (2, 4), (1, 4)), "medium": ((2, 3), (4, 4), (2, 4))},
        (("small", "plain"), ("medium", "plain"), ("small", "30 % tmr, tmr control"))),
    "branches": Case("branches", 4, 8, 0,
        {"small": ((1, 3), (1, 2), (2, 3), (2, 4), (1, 4))},
        (("small", "plain"), ("small", "checksum"), ("small", "tmr control"))),
    "residual": Case("residual", 4, 8, 0, {"small": ((1, 3), *4 * ((2, 2),), (1, 2))},
        (("small", "plain"), ("small", "checksum"), ("small", "tmr control"))),
    "separable": Case("separable", 4, 8, 0,
        {"small": ((1, 3), (1, 3), (2, 2), (1, 3), (2, 4), (1, 3), (2, 4), (1, 4))},
        (("small", "plain"), ("small", "tmr control"))),
}  # fmt: skip
"""Networks of seed 1 are other ones than those of the table's constants but for "(fitted)", which
has other plans."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=20_000, help="upsets of each point")
    parser.add_argument("--keep", type=Path, help="JSON file of what was measured")
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--known", action="store_true", help="no campaign: what --keep holds only")
    parser.add_argument("--built", nargs="*", type=Path, default=[], help="build directories")
    options = parser.parse_args()
    known = json.loads(options.keep.read_text()) if options.keep and options.keep.exists() else {}
    rows = []
    print("| network, folding | plan | FF bits | II | predicted | measured | 95 % | factor |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.cases:
        case = CASES[name]
        if options.known and not any(key.startswith(f"{name}, ") for key in known):
            continue
        graph = network(case)
        data = datasets.digits()
        select, test = (quantize_input(graph, x) for x in (data.select_x, data.test_x))
        for folding, plan in case.plans:
            key = f"{name}, {folding} | {plan}"
            if options.known and key not in known:
                continue
            design = designed(graph, case.foldings[folding], plan, select)
            if key not in known:
                known[key] = struck(design, test, options.faults)
                if options.keep:
                    options.keep.write_text(json.dumps(known, indent=1) + "\n")
            table = measure(design.graph, select, seed=SEED, trials=TRIALS)
            found = resilience_estimate(design, table)
            rows.append((found, known[key]))
            print(line(key, found, known[key]), flush=True)
    for directory in options.built:
        found, seen = built(directory)
        rows.append((found, seen))
        print(line(f"{directory.parent.name}/{directory.name} | as built", found, seen), flush=True)
    summary(rows)


def built(directory: Path) -> tuple[Resilience, dict[str, Any]]:
    """A build directory's prediction, from its own vectors, and its largest campaign."""
    design, _ = built_design(directory, plan=None, goal=Goal())
    vectors, _ = read_frames(design.graph, directory / "vectors.npz")
    reports = [json.loads(p.read_text()) for p in directory.glob("campaigns/*/report.json")]
    whole = [
        r
        for r in reports
        if r["sites"] == r["ff_bits"] and r["fault_model"].startswith("single") and r["inputs"] > 7
    ]
    table = measure(design.graph, vectors, seed=SEED, trials=TRIALS)
    best = max(whole, key=lambda report: int(report["experiments"]))
    return resilience_estimate(design, table), counted(best)


def network(case: Case) -> Graph:
    config = QuantConfig(weight_bits=case.bits, act_bits=case.bits)
    if case.network == "demo":
        return digits_network(case.seed, config)
    return trained(case.network, width=case.width, seed=case.seed, config=config)


def designed(
    graph: Graph, lanes: tuple[tuple[int, int], ...], plan: str, select: np.ndarray
) -> Design:
    names = [node.name for node in graph if isinstance(node, Conv2d | Dense)]
    folding = {name: Fold(*pair) for name, pair in zip(names, lanes, strict=True)}
    return prepare(graph, folding, parse_plan({"default": PLANS[plan]}, plan), select)


def struck(design: Design, x: np.ndarray, faults: int) -> dict[str, Any]:
    """Bit-cycles measured by a campaign on the test images, of all registers and by role."""
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "design"
        build_design(design, out, frames=x[:INPUTS])
        return counted(run_campaign(out, faults=faults, inputs=INPUTS, seed=SEED, audit=0))


def counted(report: dict[str, Any]) -> dict[str, Any]:
    """What is compared of a campaign's report."""
    rate, scale = report["sdc_critical"], report["ff_bits"] * report["initiation_interval"]
    roles = {
        role: [one["outcomes"]["sdc_critical"], sum(one["outcomes"].values())]
        for role, one in report["by_role"].items()
    }
    return {
        "measured": rate["vulnerable_bit_cycles"],
        "low": rate["low"] * scale,
        "high": rate["high"] * scale,
        "ff_bits": report["ff_bits"],
        "interval": report["initiation_interval"],
        "roles": roles,
    }


def line(key: str, found: Resilience, seen: dict[str, Any]) -> str:
    predicted, measured = found.vulnerable_bit_cycles, seen["measured"]
    factor = f"{predicted / measured:.2f}" if measured else "-"
    return (
        f"| {key} | {seen['ff_bits']} | {seen['interval']:.0f} | {predicted:,.0f} | "
        f"{measured:,.0f} | {seen['low']:,.0f}..{seen['high']:,.0f} | {factor} |"
    )


def summary(rows: list[tuple[Resilience, dict[str, Any]]]) -> None:
    """Correlation and factors; the roles of the datapath together, and control."""
    pairs = [(found.vulnerable_bit_cycles, seen["measured"]) for found, seen in rows]
    print(f"\n{len(rows)} points: {verdict(pairs)}")
    inside = sum(seen["low"] <= p <= seen["high"] for (p, _), (_, seen) in
                 zip(pairs, rows, strict=True))  # fmt: skip
    print(f"predicted inside the measured interval: {inside}")
    for what, wanted in (("control", ("control",)), ("datapath", DATAPATH)):
        pairs = []
        for found, seen in rows:
            every = sum(total for _, total in seen["roles"].values())
            hits = sum(seen["roles"].get(role, (0, 0))[0] for role in wanted)
            scale = seen["ff_bits"] * seen["interval"]
            predicted = sum(
                one.vulnerable_bit_cycles
                for layer in found.layers
                for role, one in layer.roles.items()
                if role in wanted
            )
            pairs.append((predicted, hits / every * scale))
        print(f"{what}: {verdict(pairs)}; predicted sum {sum(p for p, _ in pairs):,.0f}, "
              f"measured {sum(m for _, m in pairs):,.0f}")  # fmt: skip


DATAPATH = ("product", "accumulator", "activation", "weight", "requant", "fifo")


def verdict(pairs: list[tuple[float, float]]) -> str:
    """Spearman over all points, the median of the factor between the two where both have one."""
    predicted, measured = (np.array(values) for values in zip(*pairs, strict=True))
    a, b = ranks({"": predicted})[""], ranks({"": measured})[""]
    correlation = float(np.corrcoef(a, b)[0, 1])
    both = (predicted > 0) & (measured > 0)
    factors = np.exp(np.abs(np.log(predicted[both] / measured[both])))
    return f"Spearman {correlation:.3f}, median factor {np.median(factors):.2f} of {both.sum()}"


if __name__ == "__main__":
    main()
