"""TMR of a share of the multiplications, in RTL: what a choice of neurons holds, what TMR removes.

    python benchmarks/tmr_choice.py [GRAPH.json ... | --network demo|residual ...] [--faults N]
                                    [--target T] [--out DIR]

Networks as in benchmarks/hardening.py. First the plain design is struck by N upsets over all
flip-flops. Each upset of a lane's product, accumulator or weight register that changes a class is
attributed to the neuron that the register worked for in that cycle (`sim.schedule`). A choice of
neurons holds what is attributed to them: choices by each score, on other images, beside an oracle
(by the attributed upsets of the images with even numbers, judged like all on the odd ones; and one
that has seen the odd ones), and 100 random choices. Then designs with TMR of 5 to 50 % of the
multiplications, with bare and with triplicated control, are built, struck by N upsets and
synthesised: area against plain beside 2 x (hardened lanes / lanes) + 8 %; vulnerable bit-cycles
against plain; what was attributed to the chosen neurons, and how much of that is left in the lanes
that were hardened, with the limit of 95 %. Results are kept in DIR.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hardening import OWN, Network, head, kept, networks

from tercet.flow import demo
from tercet.flow.builder import build_design
from tercet.flow.design import Design, prepare
from tercet.flow.plan_file import parse_plan
from tercet.flow.synth import synth
from tercet.hw.linear_config import LinearConfig
from tercet.quant import criticality
from tercet.quant.ir import Conv2d, Dense
from tercet.sim import store
from tercet.sim.campaign import compare, run_campaign
from tercet.sim.outcomes import Outcome
from tercet.sim.schedule import Schedule
from tercet.sim.statistics import wilson
from tercet.sim.testbed import StreamTestbed

SHARES = (0.05, 0.1, 0.2, 0.5)
SCORES = ("activation", "contribution", "class", "combined", "taylor", "msb", "injection")
LANES = ("product", "accumulator", "weight")
INPUTS, RANDOM, SHARE = 48, 100, 0.2
Neurons = Mapping[str, np.ndarray[Any, Any]]


def designed(network: Network, share: float | None, control: str) -> Design:
    default = {"control": control} | ({} if share is None else {"tmr": {"share": share}})
    plan = parse_plan({"default": default}, "plan")
    return prepare(network.graph, network.folding, plan, network.select_x)


def name_of(share: float | None, control: str, target: str, faults: int) -> str:
    """The folder of a design, without a dot: the row beside it has a suffix."""
    return f"{round(100 * (share or 0))}-{control}-{target}-{faults}"


def struck(network: Network, design: Design, faults: int, target: str, out: Path) -> dict[str, Any]:
    """A design's report and netlist, and of its lanes the upsets that go unnoticed."""
    build_design(design, out, target=target, frames=network.judge_x)
    report = run_campaign(out, engine="bitparallel", faults=faults, inputs=INPUTS, audit=50, seed=0)
    wrong = np.array([name.find(".lane_") > 0 and "_r" in name for name, _, _, _ in critical(out)])
    return {"report": report, "netlist": synth(out, target=target), "left": int(wrong.sum())}


def critical(directory: Path) -> Iterator[tuple[str, int, int, int]]:
    """Register, bit, cycle and input of every upset that changes a class without a flag."""
    (name,) = (path.name for path in (directory / "campaigns").iterdir())
    _, table = store.load(directory, name)
    sites = store.load_sites(directory, name)
    for row in np.flatnonzero(table.outcome == Outcome.SDC_CRITICAL):
        found = (table.bit[row], table.cycle[row], table.input[row])
        yield sites[table.site[row]].name, *(int(value) for value in found)


def attributed(network: Network, directory: Path) -> tuple[Neurons, Neurons, int]:
    """Critical upsets of each neuron, of even and of odd inputs; those of lanes of no neuron."""
    testbed = StreamTestbed.open(directory, inputs=INPUTS)
    schedule = Schedule(testbed.prepared, network.graph)
    registers = {one.name: one for one in testbed.registers if one.role in LANES}
    linear = [node for node in network.graph if isinstance(node, Conv2d | Dense)]
    counts = [{node.name: np.zeros(node.out_channels) for node in linear} for _ in range(2)]
    nobody = 0
    for name, bit, cycle, number in critical(directory):
        register = registers.get(name)
        if register is None or register.layer not in counts[0]:
            continue
        _, faults = schedule.faults(register, bit, cycle) or (0, [])
        nobody += not faults
        for fault in faults:
            found = counts[number % 2][fault.layer]
            found[fault.index % len(found)] += 1 / len(faults)
    return counts[0], counts[1], nobody


def held(risk: Neurons, chosen: Mapping[str, list[int]]) -> float:
    """Upsets of the chosen neurons."""
    return sum(float(risk[layer][neurons].sum()) for layer, neurons in chosen.items())


def print_choices(network: Network, even: Neurons, odd: Neurons) -> None:
    """What choices of a fifth of the multiplications hold of the odd inputs' upsets."""
    macs = criticality.macs_per_neuron(network.graph)
    total = sum(float(values.sum()) for values in odd.values())

    def share(worth: Neurons) -> float:
        return held(odd, criticality.choose(worth, macs, SHARE)) / total

    oracle = share(even)
    rows = {"oracle": oracle, "oracle that has seen the judge's upsets": share(odd)}
    for name in SCORES:
        scores = criticality.score(network.graph, network.select_x, name, seed=0)
        rows[f"`{name}`"] = share(criticality.risk(scores, macs))
    rng = np.random.default_rng(0)
    draws = [
        share({layer: rng.random(len(values)) * macs[layer] for layer, values in odd.items()})
        for _ in range(RANDOM)
    ]
    rows["random, mean"] = float(np.mean(draws))
    rows["random, 95th percentile"] = float(np.quantile(draws, 0.95))
    print(f"\n{network.name}: {SHARE:.0%} of the multiplications, {total:.0f} critical upsets\n")
    print(head(("chosen by", "holds", "of the oracle's")))
    for name, value in rows.items():
        print(f"| {name} | {value:.1%} | {value / oracle:.1%} |", flush=True)


def print_curve(network: Network, faults: int, target: str, out: Path, all_: Neurons) -> None:
    """Designs with TMR: area, vulnerable bit-cycles and what is left of the chosen neurons'."""
    plain: dict[str, dict[str, Any]] = {}
    print(f"\n{network.name}, {target}\n\n" + head(CURVE), flush=True)
    for share in (None, *SHARES):
        for control in ("none", "tmr"):
            design = designed(network, share, control)
            folder = out / name_of(share, control, target, faults)
            make = partial(struck, network, design, faults, target, folder)
            row = kept(folder.with_suffix(".json"), make)
            plain.setdefault("row", row)
            print(curve_text(design, share, control, row, plain["row"], all_), flush=True)


CURVE = (
    "share", "control", "lanes hardened", "area", "2 x lanes + 8 %", "vulnerable to plain",
    "critical upsets of the chosen", "left in hardened lanes", "removed", "audit differs",
)  # fmt: skip


def curve_text(
    design: Design,
    share: float | None,
    control: str,
    row: dict[str, Any],
    plain: dict[str, Any],
    all_: Neurons,
) -> str:
    """One design of the curve."""
    linear = [layer for layer in design.layers if isinstance(layer, LinearConfig)]
    hardened, lanes = sum(len(x.replicated) for x in linear), sum(x.pe for x in linear)
    more = demo.area(row["netlist"]) / demo.area(plain["netlist"]) - 1
    ratio, audit = compare(row["report"], plain["report"]), row["report"]["audit"]
    cells = ["none" if share is None else f"{share:.0%}", control, f"{hardened} of {lanes}"]
    cells += [f"{more:+.1%}", f"{2 * hardened / lanes + 0.08:+.1%}" if hardened else ""]
    cells.append(f"{ratio['value']:.4f} ({ratio['low']:.4f} to {ratio['high']:.4f})")
    if share is None:
        cells += ["", "", ""]
    else:
        chosen = {
            name: [int(design.permutation[name][n]) if name in design.permutation else n
                   for n in guard.neurons]
            for name, guard in design.protection.items() if guard.neurons
        }  # fmt: skip
        before, left = held(all_, chosen), row["left"]
        # As many upsets strike both designs: a share of one of them stands for more bits.
        scale = row["report"]["sites"] / plain["report"]["sites"]
        most = wilson(left, row["report"]["experiments"])[1] * row["report"]["experiments"]
        cells += [f"{before:.0f}", f"{left * scale:.1f}"]
        cells.append(f"{1 - left * scale / before:.1%} (at least {1 - most * scale / before:.1%})")
    cells.append(f"{audit['disagreements']} of {audit['sampled']}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("graphs", type=Path, nargs="*", metavar="GRAPH.json")
    parser.add_argument("--network", nargs="+", choices=OWN, default=OWN, help="without graphs")
    parser.add_argument("--faults", type=int, default=1_000_000)
    parser.add_argument("--target", default="ecp5-85k")
    parser.add_argument("--out", type=Path, default=Path("build/tmr_choice"))
    args = parser.parse_args()
    for network in networks(args.graphs, args.network):
        out = args.out / network.name
        bare = out / name_of(None, "none", args.target, args.faults)
        plain = designed(network, None, "none")
        make = partial(struck, network, plain, args.faults, args.target, bare)
        kept(bare.with_suffix(".json"), make)
        even, odd, nobody = attributed(network, bare)
        print(f"{network.name}: {nobody} critical upsets of lanes belong to no neuron")
        print_choices(network, even, odd)
        together = {layer: even[layer] + odd[layer] for layer in even}
        print_curve(network, args.faults, args.target, out, together)


if __name__ == "__main__":
    main()
