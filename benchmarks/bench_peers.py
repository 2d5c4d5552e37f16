"""Area and cycles of two small networks, from one multiplier a layer to one frame a cycle.

`python benchmarks/bench_peers.py --data DIR [--point NAME ...]` reads DIR/w2.npz and DIR/w3.npz
(int8 weights, power-of-two scales, 256 frames and their integer results), builds every folding of
`POINTS`, checks all frames and the cycles on Verilator, maps the Verilog with Yosys for xc7 and
ECP5 and prints the counts beside those of other generators, read from the table of DIR/README.md.
A point takes minutes; its result is kept under --out and used again while the Verilog is the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tercet.flow import yosys
from tercet.flow.builder import build_design
from tercet.flow.design import prepare
from tercet.hw.configure import Fold
from tercet.quant import ir
from tercet.quant.errors import ClaimError, InputError
from tercet.quant.reference import run as reference
from tercet.sim.verify import verify

DATA = Path("../shared/bench")


@dataclass(frozen=True)
class Point:
    """A folding of a workload."""

    workload: str
    folding: Mapping[str, Fold]


def _mlp(first: Fold, second: Fold) -> Point:
    return Point("w2", {"dense0": first, "dense1": second})


def _cnn(*folds: Fold) -> Point:
    names = ("conv2d0", "maxpool21", "conv2d2", "maxpool23", "dense5")
    return Point("w3", dict(zip(names, folds, strict=True)))


POINTS = {
    "w2-2": _mlp(Fold(1, 1), Fold(1, 1)),
    "w2-12": _mlp(Fold(1, 8), Fold(1, 4)),
    "w2-42": _mlp(Fold(2, 16), Fold(5, 2)),
    "w2-shift": _mlp(Fold(32, 64, "shift"), Fold(10, 32, "shift")),
    "w3-12": _cnn(Fold(1, 3), Fold(1), Fold(1, 8), Fold(1), Fold(1, 1)),
    "w3-122": _cnn(Fold(2, 9), Fold(2), Fold(4, 24), Fold(4), Fold(2, 4)),
}
"""Named by workload and number of multipliers."""

SCRIPTS = {
    "xc7": "synth_xilinx -flatten -noiopad -family xc7 -top {top}",
    "ecp5": "synth_ecp5 -top {top} -json netlist.json",
}

_LUTS = {f"LUT{n}": 1.0 for n in range(1, 7)} | {"SRL16E": 1, "SRLC32E": 1}

COUNTS: dict[str, dict[str, dict[str, float]]] = {
    "xc7": {
        "LUT": _LUTS | {"RAM32M": 4, "RAM64M": 4, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4},
        "FF": dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE"), 1.0),
        "DSP": {"DSP48E1": 1},
        "BRAM36": {"RAMB36E1": 1, "RAMB18E1": 0.5},
    },
    "ecp5": {
        "LUT": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4},
        "FF": {"TRELLIS_FF": 1},
        "DSP": {"MULT18X18D": 1},
        "BRAM": {"DP16KD": 1, "PDPW16KD": 1},
    },
}
"""Cells of each resource and what each counts, as in DATA/synth.py."""


def main() -> int:
    """Measure what was asked for and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, help=f"folder of the workloads (default: {DATA})")
    parser.add_argument("--point", nargs="+", choices=POINTS, default=list(POINTS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("build/bench_peers"))
    options = parser.parse_args()
    data = options.data or DATA
    if not (data / "README.md").is_file():
        print(f"{data}: no README.md with the other generators' figures; give --data DIR")
        return 2 if options.data else 0
    try:
        found = {name: _measured(POINTS[name], data, options.out / name) for name in options.point}
        _print(found, _peers(data / "README.md"))
    except (InputError, ClaimError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


def _graph(workload: str, data: Path) -> tuple[ir.Graph, ir.IntArray]:
    """The workload as a graph, and its frames; InputError unless the reference gives its `y`."""
    path = data / f"{workload}.npz"
    try:
        arrays = dict(np.load(path, allow_pickle=False))
        described = json.loads(str(arrays["graph"]))
        kind = ir.TensorType(described["input"]["bits"], described["input"]["signed"])
        shape, nodes, source = tuple(described["input"]["shape"]), [], "x"
        for index, layer in enumerate(described["layers"]):
            nodes.append(_node(layer, f"{layer['op']}{index}", source, arrays, index))
            source = nodes[-1].name
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a workload of this benchmark: {error}") from None
    graph = ir.Graph(workload, "x", shape, kind, tuple(nodes), source)
    frames = arrays["x"].astype(np.int64)
    if not np.array_equal(reference(graph, frames), arrays["y"]):
        raise InputError(f"{path}: the reference does not give its results")
    return graph, frames


def _node(
    layer: Mapping[str, Any], name: str, source: str, arrays: Mapping[str, Any], index: int
) -> ir.Node:
    """One layer; max(acc, 0) before the shift equals a clamp at 0 behind it."""
    named: dict[str, Any] = {"name": name, "inputs": (source,)}
    if layer["op"] == "maxpool2":
        return ir.MaxPool(**named, kernel=(2, 2), stride=(2, 2))
    if layer["op"] == "flatten":
        return ir.Flatten(**named)
    named |= {"weight": arrays[f"w{index}"], "bias": arrays[f"b{index}"]}
    if "shift" in layer:
        out = ir.TensorType(layer["bits"] - 1, False)
        named["requantize"] = ir.Requantize(np.ones(1, int), np.array([layer["shift"]]), out)
    if layer["op"] == "dense":
        return ir.Dense(**named)
    if layer["op"] == "conv2d":
        return ir.Conv2d(**named, padding=(layer["pad"],) * 4)
    raise ValueError(f"unknown operator {layer['op']!r}")


def _measured(point: Point, data: Path, folder: Path) -> dict[str, Any]:
    """Cycles and counts of a point; kept in `folder`/result.json for the same Verilog."""
    graph, frames = _graph(point.workload, data)
    design = prepare(graph, point.folding)
    shutil.rmtree(folder / "design", ignore_errors=True)
    build_design(design, folder / "design", frames=frames)
    verilog = folder / "design" / "top.v"
    digest = hashlib.sha256(verilog.read_bytes()).hexdigest()
    kept = folder / "result.json"
    if kept.is_file():
        result: dict[str, Any] = json.loads(kept.read_text())
        if result["design"] == digest:
            return result
    checked = verify(folder / "design")
    if checked["mismatches"] or checked["images"] != len(frames):
        raise ClaimError(f"{folder.name}: {checked['mismatches']} mismatches on Verilator")
    for name, predicted in checked["predicted"].items():
        if checked.get(name, predicted) != predicted:
            raise ClaimError(f"{folder.name}: {name} is {checked[name]}, predicted {predicted}")
    result = {"design": digest, "workload": point.workload}
    result["cycles"] = [checked["latency_cycles"], checked["initiation_interval"]]
    for family in SCRIPTS:
        result[family] = _counts(family, verilog, folder)
    kept.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _counts(family: str, verilog: Path, folder: Path) -> dict[str, float]:
    """Cells by Yosys, counted as DATA/synth.py counts them."""
    work = folder / family
    work.mkdir(exist_ok=True)
    commands = [f"read_verilog -sv {verilog.resolve()}", SCRIPTS[family].format(top="top")]
    commands.append("tee -q -o stat.json stat -json -top top")
    yosys.run(commands, workdir=work, name="synth")
    stat = json.loads((work / "stat.json").read_text())
    cells = (stat.get("design") or stat["modules"]["\\top"])["num_cells_by_type"]
    return {
        name: sum(cells.get(cell, 0) * weight for cell, weight in weights.items())
        for name, weights in COUNTS[family].items()
    }


def _peers(readme: Path) -> list[dict[str, Any]]:
    """Rows `| w2 NAME | cycles / II | LUT / FF / DSP / BRAM36 | ... |` of the table of a README."""
    found = []
    for line in readme.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if not re.match(r"w\d ", cells[0]) or len(cells) < 4:
            continue
        workload, _, name = cells[0].partition(" ")
        cycles, xc7, ecp5 = (_numbers(cell) for cell in cells[1:4])
        found.append({"name": name, "workload": workload, "cycles": cycles})
        found[-1] |= {"xc7": dict(zip(COUNTS["xc7"], xc7, strict=False))}
        found[-1] |= {"ecp5": dict(zip(COUNTS["ecp5"], ecp5, strict=False))}
    return found


def _numbers(cell: str) -> list[float]:
    """The numbers of `a / b / c` with thousands' commas; none where the cell holds words."""
    parts = [part.strip().replace(",", "") for part in cell.split("/")]
    return [float(part) for part in parts] if all(map(_is_number, parts)) else []


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"\d+(\.\d+)?", text))


def _print(found: Mapping[str, dict[str, Any]], peers: list[dict[str, Any]]) -> None:
    ours = [{**point, "name": name} for name, point in found.items()]
    print("| design | cycles / II | xc7 LUT / FF / DSP / BRAM36 | ECP5 LUT / FF / DSP / BRAM |")
    print("|---|---|---|---|")
    for row in (*ours, *peers):
        cells = [" / ".join(map(_text, row["cycles"]))]
        cells += [" / ".join(map(_text, row[family].values())) or "-" for family in SCRIPTS]
        label = row["name"] if row in ours else f"{row['workload']} {row['name']}"
        print(f"| {label} | {' | '.join(cells)} |")
    print()
    for peer in peers:
        better = [point["name"] for point in ours if _dominates(point, peer)]
        verdict = f"dominated by {', '.join(better)}" if better else "not dominated"
        print(f"{peer['workload']} {peer['name']}: {verdict}")
    for point in ours:
        for peer in peers:
            if _dominates(peer, point):
                print(f"{point['name']} is dominated by {peer['name']}")


def _text(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


def _dominates(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """As fast or faster in cycles, as small or smaller in xc7's LUTs, DSPs and memory blocks.

    A table that gives one number of cycles gives the interval as well.
    """
    if one["workload"] != other["workload"]:
        return False
    figures = [
        (row["cycles"][0], row["cycles"][-1], *(row["xc7"][n] for n in ("LUT", "DSP", "BRAM36")))
        for row in (one, other)
    ]
    pairs = list(zip(*figures, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


if __name__ == "__main__":
    sys.exit(main())
