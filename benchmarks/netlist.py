"""Upsets of the Verilog's registers, of the mapped flip-flops and of LUT-INIT bits, side by side.

`python benchmarks/netlist.py DIR` takes a build directory, runs three campaigns of the same size,
seed and inputs on it, and prints what docs/netlist.md shows: rates by kind of bit and by layer,
what synthesis did to the registers, the audit of each campaign. Then it strikes the same bits in
the same cycles in both, where a flip-flop of the netlist stores just one bit of the Verilog's, and
counts the outcomes that differ; masked and latent, which differ in no word that leaves, are one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tercet.flow.mapped_netlist import map_design, run_netlist_campaign
from tercet.sim.campaign import run_campaign
from tercet.sim.faults import Faults
from tercet.sim.mapped import MappedTestbed
from tercet.sim.outcomes import Outcome
from tercet.sim.sampling import FaultModel
from tercet.sim.sites import Register
from tercet.sim.testbed import StreamTestbed

Json = dict[str, Any]
COUNTS = ("ffs", "luts", "carries", "dsps", "luts_with_init", "lut_init_bits")


def main() -> None:
    args = _arguments()
    common = {
        "faults": args.faults,
        "inputs": args.inputs,
        "seed": args.seed,
        "audit": args.audit,
    }
    verilog = run_campaign(args.directory, engine="bitparallel", **common)
    reports = {"registers of the Verilog": verilog}
    for kind, name in (("seu", "mapped flip-flops"), ("config", "LUT-INIT bits")):
        reports[name] = run_netlist_campaign(
            args.directory,
            target=args.target,
            engine=args.engine,
            model=FaultModel(kind=kind),
            **common,
        )
    _rates(reports)
    _layers(reports)
    _netlist(reports["LUT-INIT bits"])
    _matched(args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path, metavar="DIR", help="build directory")
    parser.add_argument("--target", help="default: the one it was built for")
    parser.add_argument("--engine", default="netlist", help="netlist (lanes) or native")
    parser.add_argument("--faults", type=int, default=20_000)
    parser.add_argument("--inputs", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--audit", type=int, default=500)
    return parser.parse_args()


def _rates(reports: dict[str, Json]) -> None:
    print("| struck | bits | experiments | hang | sdc_tolerable | sdc_critical (95 %) | audit |")
    print("|---|---|---|---|---|---|---|")
    for name, report in reports.items():
        rate, outcomes, audit = report["sdc_critical"], report["outcomes"], report["audit"]
        cells = [
            f"{report['sites']:,}",
            f"{report['experiments']:,}",
            *(f"{outcomes[key] / report['experiments']:.2%}" for key in ("hang", "sdc_tolerable")),
            f"{rate['avf']:.2%} ({rate['low']:.2%} to {rate['high']:.2%})",
            f"{audit['disagreements']} of {audit['sampled']} differ",
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def _layers(reports: dict[str, Json]) -> None:
    layers = sorted({layer for report in reports.values() for layer in report["by_layer"]})
    print("\nsdc_critical by layer\n")
    print(f"| struck | {' | '.join(layers)} |")
    print("|---" * (len(layers) + 1) + "|")
    for name, report in reports.items():
        cells = [_share(report["by_layer"].get(layer)) for layer in layers]
        print(f"| {name} | {' | '.join(cells)} |")


def _share(group: Json | None) -> str:
    rate = group and group["sdc_critical"]
    return f"{rate['avf']:.2%}" if rate else "-"


def _netlist(report: Json) -> None:
    found = report["netlist"]
    registers = {k: v for k, v in found["registers"].items() if isinstance(v, int)}
    print(f"\n{found['target']} without {', '.join(found['forbidden'])}:", end=" ")
    print(", ".join(f"{key} {found[key]}" for key in COUNTS), end=", ")
    print(f"of these reachable {found['lut_init_bits_reachable']}")
    print(", ".join(f"{key} {value}" for key, value in registers.items()))
    print(", ".join(f"{key} {value}" for key, value in report["tools"].items()))


def _matched(args: argparse.Namespace) -> None:
    """The same upsets in the Verilog and in the netlist."""
    folder, report = map_design(args.directory, target=args.target)
    unmatched = report["registers"]["unmatched"]
    verilog = StreamTestbed.open(args.directory, inputs=args.inputs)
    mapped = MappedTestbed.open(folder, inputs=args.inputs)
    pairs = np.array(list(_pairs(verilog, mapped, unmatched)), np.int64)
    bits = sum(register.width for register in verilog.registers)
    rng = np.random.default_rng(args.seed)
    chosen = pairs[rng.integers(0, len(pairs), args.faults)]
    cycles = rng.integers(*verilog.window, args.faults)
    outcomes = []
    for testbed, column in ((verilog, 0), (mapped, 1)):
        found = testbed.run("bitparallel", Faults.single(cycles, chosen[:, column])).outcome
        outcomes.append(np.where(found == Outcome.LATENT, Outcome.MASKED, found))
    differ, shows = outcomes[0] != outcomes[1], outcomes[0] != Outcome.MASKED
    print(
        f"\n{len(pairs):,} of {bits:,} bits of the Verilog have a flip-flop just to themselves;",
        end=" ",
    )
    print(", ".join(f"{key} {len(names)}" for key, names in unmatched.items()))
    print(
        f"{args.faults:,} upsets in both: {int(shows.sum()):,} show in the Verilog, "
        f"{int(differ.sum())} differ in the netlist"
    )
    owner = {
        verilog.numbers[bit.cell, bit.index]: f"{register.name}[{place}]"
        for register in verilog.registers
        for place, bit in enumerate(register.bits)
    }
    for (bit, _), cycle, first, second in zip(
        chosen[differ], cycles[differ], *(found[differ] for found in outcomes), strict=True
    ):
        print(f"{owner[bit]} cycle {cycle}: {Outcome(first).label}, {Outcome(second).label}")


def _pairs(
    verilog: StreamTestbed, mapped: StreamTestbed, unmatched: dict[str, list[str]]
) -> Iterator[tuple[int, int]]:
    """Numbers in both of each bit that has a flip-flop just to itself."""
    left_out = set().union(*unmatched.values())
    known = {register.name: register for register in mapped.registers}
    for register in verilog.registers:
        there = _numbers(mapped, known.get(register.name))
        for place, bit in enumerate(register.bits):
            if f"{register.name}[{place}]" not in left_out:
                yield verilog.numbers[bit.cell, bit.index], there[place]


def _numbers(testbed: StreamTestbed, register: Register | None) -> dict[int, int]:
    """Position in the register -> number of the bit."""
    bits = () if register is None else register.bits
    return {bit.offset: testbed.numbers[bit.cell, bit.index] for bit in bits}


if __name__ == "__main__":
    main()
