"""What each hardening costs and what it leaves: plans x networks x targets, built and injected.

    python benchmarks/hardening.py [GRAPH.json ... | --network demo|residual ...] [--plan NAME ...]
                      [--target T ...] [--multiplier dsp|lut ...] [--faults N] [--out DIR]

Without GRAPH.json: the demo's network (its committed folding) and the trained residual network of
benchmarks/networks.py. A GRAPH.json has its images in an .npz of the same name beside it (as
benchmarks/zoo.py --data writes them). Each plan is built and struck by N upsets over all
flip-flops, on images that chose nothing. One row each: register bits, and the share of them that a
key of the plan covers; interval and latency; vulnerable bit-cycles against plain, the limits of 95
% in brackets, and what the resilience estimate predicts; of the upsets that make some result's
class wrong the share that was flagged or corrected, for the registers that the plan is about and
for all; detected errors, retries, corrections, false alarms and hangs, in shares of all upsets;
frames that came out right and without a flag while nothing was struck. Then, for each target and
kind of multipliers, what each plan needs after synthesis, and its area = LUT + 0.5 FF + 100 DSP +
200 BRAM (18 kbit) against plain; voter bits found in the netlist. Results are kept in DIR: the same
command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from networks import trained

from tercet.flow import demo
from tercet.flow.builder import build_design
from tercet.flow.design import Design, prepare
from tercet.flow.folding import balance
from tercet.flow.plan_file import parse_plan
from tercet.flow.report.case import safety_case
from tercet.flow.resilience import resilience_estimate, sensitivity
from tercet.flow.synth import synth
from tercet.hw.configure import Fold
from tercet.quant import datasets, reference, serialize
from tercet.quant.ir import Graph, IntArray
from tercet.quant.models.digits import digits_network
from tercet.quant.quantize import quantize_input
from tercet.sim import store
from tercet.sim.campaign import compare, run_campaign
from tercet.sim.clocked import run_frames
from tercet.sim.outcomes import Outcome
from tercet.sim.statistics import wilson

SUMMED = ("product", "accumulator")
CARRIED = ("product", "accumulator", "weight", "window", "activation")
CHECKED: dict[str, Any] = {"checksum": {"modulus": 3}}
CODED = {**CHECKED, "weights": "parity", "stream": "residue"}
GUARDED = {**CHECKED, "stream": "parity", "post": "parity", "weights": "parity"}
PLANS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "plain": ({}, ()),
    "checksum": ({**CHECKED, "control": "none"}, SUMMED),
    "codes": ({**CODED, "control": "none"}, CARRIED),
    "watchdog": ({**CHECKED, "post": "parity", "control": "parity", "watchdog": True}, ()),
    "guarded": ({**GUARDED, "control": "parity", "watchdog": True}, ()),
    "retry": ({**GUARDED, "checksum": {"modulus": 3, "retry": 1}, "control": "tmr"}, ()),
    "tmr 20%": ({"tmr": {"share": 0.2}}, ()),
    "full tmr": (
        {"tmr": {"share": 1.0}, "stream": "secded", "post": "tmr", "control": "tmr"},
        (),
    ),
}
"""The [default] table of each plan, and the roles that it is about (none: all). What a checksum
covers are the sums of products, not the largest value in a pool: that is what `post` is for."""


@dataclass(frozen=True)
class Network:
    """A graph with its folding, the images that choose neurons and those that judge."""

    name: str
    graph: Graph
    folding: dict[str, Fold]
    select_x: IntArray
    judge_x: IntArray


OWN = ("demo", "residual")


def networks(paths: list[Path], names: Sequence[str] = OWN) -> Iterator[Network]:
    """Those of the files, or of `OWN`."""
    for path in paths:
        graph = serialize.load(path)
        x = np.load(path.with_suffix(".npz"), allow_pickle=False)["x"]
        half = len(x) // 2
        yield Network(path.stem, graph, balance(graph), x[:half], x[half:])
    if paths:
        return
    data = datasets.digits(0)
    for name in names:
        graph = digits_network(0) if name == "demo" else trained("residual")
        folding = demo.folding(graph) if name == "demo" else balance(graph)
        select, judge = (quantize_input(graph, x) for x in (data.select_x, data.test_x))
        yield Network(name, graph, folding, select, judge)


def design_of(network: Network, plan: str, multiplier: str) -> Design:
    """The network with its folding on these multipliers, under the plan."""
    folding = {name: replace(fold, multiplier=multiplier) for name, fold in network.folding.items()}
    stated = parse_plan({"default": PLANS[plan][0]}, plan)
    return prepare(network.graph, folding, stated, network.select_x)


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the file holds, or what `make` gives, which the file then holds."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(make()))
        temporary.rename(path)
    return dict(json.loads(path.read_text()))


def campaign(network: Network, plan: str, faults: int, clean: int, out: Path) -> dict[str, Any]:
    """One plan's circuit on `clean` frames without a fault, and with `faults` upsets."""
    design = design_of(network, plan, "dsp")
    build = build_design(design, out, frames=network.judge_x)
    x = network.judge_x[np.arange(clean) % len(network.judge_x)]
    equal = np.array_equal(run_frames(out, x), reference.run(design.graph, x))
    report = run_campaign(out, engine="bitparallel", faults=faults, inputs=48, audit=50, seed=0)
    return {
        "covered": safety_case(out)["covered_bits"]["share"],
        "latency": build["latency_cycles"],
        "interval": build["initiation_interval"],
        "clean": clean if equal else 0,
        "report": report,
        "detected": {
            name: detected(out, roles) for name, roles in (("own", PLANS[plan][1]), ("all", ()))
        },
    }


def synthesis(
    network: Network, plan: str, multiplier: str, target: str, out: Path
) -> dict[str, Any]:
    """What one plan's circuit needs on a target."""
    build_design(design_of(network, plan, multiplier), out, target=target)
    return synth(out, target=target)


def detected(directory: Path, roles: tuple[str, ...]) -> list[int]:
    """[upsets with a wrong class in some result, those of them that no flag announced]; of the
    registers of these roles that a key of the plan covers, or of all."""
    (name,) = (path.name for path in (directory / "campaigns").iterdir())
    _, table = store.load(directory, name)
    rows = store.load_sites(directory, name)
    covered = {
        (found["layer"], found["role"])
        for found in safety_case(directory)["uncovered"]
        if found["covered_by"] is not None
    }
    own = [not roles or (row.role in roles and (row.layer, row.role) in covered) for row in rows]
    struck = np.array(own)[table.site]
    assert table.critical is not None
    wrong = struck & (table.critical != 0)
    silent = struck & (table.outcome == Outcome.SDC_CRITICAL)
    return [int((wrong | silent).sum()), int(silent.sum())]


def share(part: int, total: int) -> str:
    low, high = wilson(part, total) if total else (0.0, 1.0)
    return f"{part} of {total} ({low:.2%} to {high:.2%})"


def struck_text(
    name: str, row: dict[str, Any], plain: dict[str, Any], predicted: float | None
) -> str:
    """A plan's row of the first table."""
    report, audit = row["report"], row["report"]["audit"]
    outcomes, total = report["outcomes"], report["experiments"]
    cells = [name, f"{report['ff_bits']:,}", f"{row['covered']:.1%}"]
    cells += [f"{row['interval']:,}", f"{row['latency']:,}"]
    ratio = compare(report, plain["report"])
    cells.append(f"{ratio['value']:.4f} ({ratio['low']:.4f} to {ratio['high']:.4f})")
    cells.append("" if predicted is None else f"{predicted:.4f}")
    for which in ("own", "all"):
        wrong, silent = row["detected"][which]
        cells.append(share(wrong - silent, wrong))
    cells += [f"{outcomes[key] / total:.2%}" for key in RATES]
    cells += [f"{row['clean']:,}", f"{audit['disagreements']} of {audit['sampled']}"]
    return "| " + " | ".join(cells) + " |"


def cost_text(name: str, cost: dict[str, Any], plain: dict[str, Any]) -> str:
    """A plan's row of a target's table."""
    replicas, more = cost["replicas"], demo.area(cost) / demo.area(plain) - 1
    cells = [name, *(f"{cost[key]:,g}" for key in ("luts", "ffs", "dsps", "brams"))]
    cells += [f"{more:+.1%}", f"{replicas['found']} of {replicas['expected']}"]
    return "| " + " | ".join(cells) + " |"


RATES = ("sdc_critical", "due", "recovered", "corrected", "false_alarm", "hang")
STRUCK = (
    "plan", "bits", "covered", "II", "latency", "vulnerable to plain", "predicted",
    "wrong class flagged, own registers", "all registers", "critical", "due", "recovered",
    "corrected", "false alarm", "hang", "right without a fault", "audit differs",
)  # fmt: skip
COST = ("plan", "LUT", "FF", "DSP", "BRAM", "area", "voter bits traced")


def head(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |\n|" + "---|" * len(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("graphs", type=Path, nargs="*", metavar="GRAPH.json")
    parser.add_argument("--network", nargs="+", choices=OWN, default=OWN, help="without graphs")
    parser.add_argument("--plan", nargs="+", choices=list(PLANS), default=list(PLANS))
    parser.add_argument("--target", nargs="+", default=["ecp5-85k"])
    parser.add_argument("--multiplier", nargs="+", choices=["dsp", "lut"], default=["dsp"])
    parser.add_argument("--faults", type=int, default=1_000_000)
    parser.add_argument("--clean", type=int, default=10_000, help="frames without a fault")
    parser.add_argument("--out", type=Path, default=Path("build/hardening"))
    args = parser.parse_args()
    plans = list(dict.fromkeys(["plain", *args.plan]))
    for network in networks(args.graphs, args.network):
        out = args.out / network.name
        print(f"\n{network.name}, {args.faults:,} upsets\n{head(STRUCK)}", flush=True)
        rows: dict[str, dict[str, Any]] = {}
        flips = sensitivity(network.graph, network.select_x)
        for plan in plans:
            design = out / f"{plan.replace(' ', '_')}-{args.faults}"
            make = partial(campaign, network, plan, args.faults, args.clean, design)
            rows[plan] = kept(design.with_suffix(".json"), make)
            estimate = resilience_estimate(design_of(network, plan, "dsp"), flips).ratio
            print(struck_text(plan, rows[plan], rows["plain"], estimate), flush=True)
        for target, multiplier in product(args.target, args.multiplier):
            print(f"\n{network.name}, {target}, multiplier {multiplier}\n{head(COST)}", flush=True)
            for plan in plans:
                design = out / f"{plan.replace(' ', '_')}-{target}-{multiplier}"
                make = partial(synthesis, network, plan, multiplier, target, design)
                rows[plan] = kept(design.with_suffix(".json"), make)
                print(cost_text(plan, rows[plan], rows["plain"]), flush=True)


if __name__ == "__main__":
    main()
