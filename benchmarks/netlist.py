"""Upsets of the Verilog's registers, of the mapped flip-flops and of LUT-INIT bits, side by side.

`python benchmarks/netlist.py DIR` takes a build directory, runs three campaigns of the same size,
seed and inputs on it, and prints what docs/netlist.md shows: rates by kind of bit and by layer,
what synthesis did to the registers, the audit of each campaign.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tercet.flow.mapped_netlist import run_netlist_campaign
from tercet.sim.campaign import run_campaign
from tercet.sim.sampling import FaultModel

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
    reports = {"registers of the Verilog": run_campaign(args.directory, engine="native", **common)}
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
    registers = {k: v for k, v in found["registers"].items() if k != "merged_registers"}
    print(f"\n{found['target']} without {', '.join(found['forbidden'])}:", end=" ")
    print(", ".join(f"{key} {found[key]}" for key in COUNTS), end=", ")
    print(f"of these reachable {found['lut_init_bits_reachable']}")
    print(", ".join(f"{key} {value}" for key, value in registers.items()))
    print(", ".join(f"{key} {value}" for key, value in report["tools"].items()))


if __name__ == "__main__":
    main()
