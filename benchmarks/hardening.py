"""What each hardening costs and what it leaves: plans x networks x targets, built and injected.

    python benchmarks/hardening.py [GRAPH.json ...] [--plan NAME ...] [--target T ...]
                                   [--multiplier dsp|lut ...] [--faults N] [--out DIR]

Without GRAPH.json: the demo's network (its committed folding) and the trained residual network of
benchmarks/networks.py. A GRAPH.json has its images in an .npz of the same name beside it (as
benchmarks/zoo.py --data writes them). Each plan is built, synthesised and struck by N upsets over
all flip-flops, on images that chose nothing. One row each: area = LUT + 0.5 FF + 100 DSP + 200
BRAM (18 kbit), against plain; interval and latency; vulnerable bit-cycles against plain, the limits
of 95 % in brackets; of the upsets that make some result's class wrong the share that was flagged
or corrected, for the registers that the plan is about and for all; detected errors, false alarms
and hangs, in shares of all upsets; voter bits found in the netlist; frames that came out right and
without a flag while nothing was struck. Results are kept in DIR: the same command goes on where it
was stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from networks import trained

from tercet.flow import demo
from tercet.flow.builder import build_design
from tercet.flow.design import prepare
from tercet.flow.folding import balance
from tercet.flow.plan_file import parse_plan
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

CLEAN = 10_000
"""Frames without a fault that must come out right and without a flag."""

SUMMED = ("product", "accumulator")
CARRIED = ("product", "accumulator", "weight", "window", "activation")
CHECKED: dict[str, Any] = {"checksum": {"modulus": 3}}
CODED = {**CHECKED, "weights": "parity", "stream": "residue"}
PLANS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "plain": ({}, ()),
    "checksum": ({**CHECKED, "control": "none"}, SUMMED),
    "codes": ({**CODED, "control": "none"}, CARRIED),
    "watchdog": ({**CODED, "post": "parity", "control": "parity", "watchdog": True}, ()),
    "retry": (
        {**CODED, "checksum": {"modulus": 3, "retry": 1}, "post": "parity", "control": "tmr"},
        (),
    ),
    "tmr 20%": ({"tmr": {"share": 0.2}}, ()),
    "full tmr": (
        {"tmr": {"share": 1.0}, "stream": "secded", "post": "tmr", "control": "tmr"},
        (),
    ),
}
"""The [default] table of each plan, and the roles that it is about (none: all)."""


@dataclass(frozen=True)
class Network:
    """A graph with its folding, the images that choose neurons and those that judge."""

    name: str
    graph: Graph
    folding: dict[str, Fold]
    select_x: IntArray
    judge_x: IntArray


def networks(paths: list[Path]) -> Iterator[Network]:
    """Those of the files, or the demo's and the residual one."""
    for path in paths:
        graph = serialize.load(path)
        x = np.load(path.with_suffix(".npz"), allow_pickle=False)["x"]
        half = len(x) // 2
        yield Network(path.stem, graph, balance(graph), x[:half], x[half:])
    if paths:
        return
    data = datasets.digits(0)
    for name in ("demo", "residual"):
        graph = digits_network(0) if name == "demo" else trained("residual")
        folding = demo.folding(graph) if name == "demo" else balance(graph)
        select, judge = (quantize_input(graph, x) for x in (data.select_x, data.test_x))
        yield Network(name, graph, folding, select, judge)


def measure(
    network: Network, plan: str, multiplier: str, target: str, faults: int, out: Path
) -> dict[str, Any]:
    """Build, synthesis and campaign of one plan; kept in `out`."""
    kept = out / "row.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    folding = {name: replace(fold, multiplier=multiplier) for name, fold in network.folding.items()}
    stated = parse_plan({"default": PLANS[plan][0]}, plan)
    design = prepare(network.graph, folding, stated, network.select_x)
    build = build_design(design, out / "design", target=target, frames=network.judge_x)
    netlist = synth(out / "design", target=target)
    x = network.judge_x[np.arange(CLEAN) % len(network.judge_x)]
    equal = np.array_equal(run_frames(out / "design", x), reference.run(design.graph, x))
    report = run_campaign(
        out / "design", engine="bitparallel", faults=faults, inputs=48, audit=50, seed=0
    )
    row = {
        "netlist": {key: netlist[key] for key in ("luts", "ffs", "dsps", "brams")},
        "estimate": {key: build["estimate"][key] for key in ("luts", "ffs", "dsps", "brams")},
        "latency": build["latency_cycles"],
        "interval": build["initiation_interval"],
        "replicas": netlist["replicas"],
        "clean": CLEAN if equal else 0,
        "report": report,
        "detected": {
            name: detected(out / "design", roles)
            for name, roles in (("own", PLANS[plan][1]), ("all", ()))
        },
    }
    temporary = kept.with_suffix(".tmp")
    temporary.write_text(json.dumps(row))
    temporary.rename(kept)
    return row


def detected(directory: Path, roles: tuple[str, ...]) -> list[int]:
    """[upsets with a wrong class in some result, those of them that no flag announced]."""
    (name,) = (path.name for path in (directory / "campaigns").iterdir())
    _, table = store.load(directory, name)
    rows = store.load_sites(directory, name)
    of_role = np.array([not roles or row.role in roles for row in rows])[table.site]
    assert table.critical is not None
    wrong = of_role & (table.critical != 0)
    silent = of_role & (table.outcome == Outcome.SDC_CRITICAL)
    return [int((wrong | silent).sum()), int(silent.sum())]


def text(name: str, row: dict[str, Any], plain: dict[str, Any]) -> str:
    """One row of the table."""
    cost, report = row["netlist"], row["report"]
    more = demo.area(cost) / demo.area(plain["netlist"]) - 1
    outcomes, total = report["outcomes"], report["experiments"]
    cells = [name, *(f"{cost[key]:,g}" for key in ("luts", "ffs", "dsps", "brams"))]
    cells += [f"{more:+.1%}", f"{row['interval']:,}", f"{row['latency']:,}"]
    ratio = compare(report, plain["report"])
    cells.append(f"{ratio['value']:.4f} ({ratio['low']:.4f} to {ratio['high']:.4f})")
    for which in ("own", "all"):
        wrong, silent = row["detected"][which]
        low, high = wilson(wrong - silent, wrong) if wrong else (0.0, 1.0)
        cells.append(f"{wrong - silent} of {wrong} ({low:.2%} to {high:.2%})")
    cells += [f"{outcomes[key] / total:.2%}" for key in ("due", "recovered", "false_alarm", "hang")]
    replicas, audit = row["replicas"], report["audit"]
    cells += [f"{replicas['found']} of {replicas['expected']}", f"{row['clean']:,}"]
    cells.append(f"{audit['disagreements']} of {audit['sampled']}")
    return "| " + " | ".join(cells) + " |"


HEAD = (
    "plan", "LUT", "FF", "DSP", "BRAM", "area", "II", "latency", "vulnerable to plain",
    "wrong class flagged, own registers", "all registers", "due", "recovered", "false alarm",
    "hang", "voter bits traced", "right without a fault", "audit differs",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("graphs", type=Path, nargs="*", metavar="GRAPH.json")
    parser.add_argument("--plan", nargs="+", choices=list(PLANS), default=list(PLANS))
    parser.add_argument("--target", nargs="+", default=["ecp5-85k"])
    parser.add_argument("--multiplier", nargs="+", choices=["dsp", "lut"], default=["dsp"])
    parser.add_argument("--faults", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("build/hardening"))
    args = parser.parse_args()
    for network in networks(args.graphs):
        for target in args.target:
            for multiplier in args.multiplier:
                print(
                    f"\n{network.name}, {target}, multiplier {multiplier}, {args.faults:,} upsets"
                )
                print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD), flush=True)
                plain = None
                for plan in dict.fromkeys(["plain", *args.plan]):
                    place = f"{network.name}-{target}-{multiplier}-{args.faults}"
                    folder = args.out / place / plan.replace(" ", "_")
                    folder.mkdir(parents=True, exist_ok=True)
                    row = measure(network, plan, multiplier, target, args.faults, folder)
                    plain = plain or row
                    print(text(plan, row, plain), flush=True)


if __name__ == "__main__":
    main()
