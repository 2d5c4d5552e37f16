"""Synthesise a sample of designs and fit the LUT models to it; run by hand, it takes an hour.

    python -m tercet.flow.characterize all FOLDER --minutes 20
    python -m tercet.flow.characterize measure OUT.jsonl --target T --designs FIRST LAST
    python -m tercet.flow.characterize fit OUT.jsonl [--write]

`measure` appends one JSON line a design and goes on where it stopped. Designs are drawn from their
number alone, so the file holds no networks. `fit` prints the errors, those of LUTs on designs that
the fit did not see, and with --write replaces the family's table in `flow/costs/tables`. `all` does
both for every family.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..hw.config import LayerConfig
from ..quant.errors import InputError
from . import targets
from .costs import blocks, ffs, luts, mapped
from .costs.families import FAMILIES
from .costs.fit import Equations, cross_validate, solve
from .costs.layer import around, forks, layer_resources, operand_lanes
from .costs.sample import sample

__all__ = ["main", "measure"]

DEVICES = {
    "xc7": ["xc7a35t"],
    "ice40": ["ice40-up5k", "ice40-hx8k"],
    "gowin": ["gw1n-9", "gw2a-18"],
    "ecp5": ["ecp5-85k"],
}
"""Targets that the designs of a table are measured on, in turn."""

FOLDS = 8
"""Parts of the designs, each predicted by a fit to the others."""

NAMED = 0.6
"""Share of the LUTs whose names tell their layer, below which a design is one equation."""


def measure(seed: int, target: targets.Target) -> dict[str, Any]:
    """Synthesise the sample of this number: {design, target, pyosys, rtl_ffs, luts, ..., layers}.

    `layers` holds the same counts by layer, as far as the names of the mapped cells tell: Yosys
    names a cell after the net that it drives. A converter counts to the layer behind it.
    """
    from ..sim import sites
    from .emit import TOP, emit
    from .netlist import Netlist
    from .synth import synthesize

    layers = sample(seed)
    with tempfile.TemporaryDirectory(prefix="tercet-characterize-") as folder:
        work = Path(folder)
        verilog = emit(layers, work)
        rtl = sum(register.width for register in sites.enumerate(verilog, TOP))
        found = synthesize(verilog, TOP, target, workdir=work / "synth")
        cells = Netlist.load(Path(found["netlist"]), TOP).cells
    by_layer = {layer.name: Counter[str]() for layer in layers}
    for cell in cells:
        name = re.sub(r"^to_(.*?)(_[0-9]+)?_(gather|split)$", r"\1", cell.name.split(".")[0])
        if name in by_layer:
            by_layer[name][cell.type] += 1
    head = {"design": seed, "target": target.name, "pyosys": version("pyosys"), "rtl_ffs": rtl}
    counts = {key: found[key] for key in ("luts", "ffs", "dsps", "brams", "cells", "seconds")}
    split = {
        name: {**target.family.count(count), "cells": count} for name, count in by_layer.items()
    }
    return head | counts | {"layers": split}


def _records(path: Path) -> list[dict[str, Any]]:
    """The measured designs of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _measure(args: argparse.Namespace) -> None:
    known = {(r["design"], r["target"]) for r in _records(args.file)}
    left = 60 * args.minutes if args.minutes else float("inf")
    for seed in range(*args.designs):
        target = targets.find(args.target[seed % len(args.target)])
        if (seed, target.name) in known:
            continue
        try:
            record = measure(seed, target)
        except InputError as error:
            print(f"{seed}: left out: {error}", file=sys.stderr)
            continue
        with args.file.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(f"{seed}: {record['luts']} LUTs in {record['seconds']:.0f} s", file=sys.stderr)
        left -= record["seconds"]
        if left < 0:
            break


def fit(path: Path) -> dict[str, Any]:
    """The table of a family from its measured designs: prices, tools and errors.

    Designs that the circuits of today would make of other registers are left out. Raises InputError
    when none is left.
    """
    measured = _records(path)
    found = [record for record in measured if record["rtl_ffs"] == _registers(record["design"])]
    if len(found) < len(measured):
        print(f"{path.name}: {len(measured) - len(found)} designs are out of date", file=sys.stderr)
    if not found:
        raise InputError(f"{path.name}: no measured designs of today's circuits; measure first")
    devices = [targets.find(record["target"]) for record in found]
    equations, totals, wrong = Equations(), [], []
    for number, (record, device) in enumerate(zip(found, devices, strict=True)):
        layers = sample(record["design"])
        exact, registers = _equations(number, record, layers, device.family.name, equations)
        totals.append((record["luts"], exact))
        wrong.append(abs(registers - record["ffs"]) / record["ffs"])
    predicted = cross_validate(equations, FOLDS)
    errors = np.array(
        [
            (predicted[index] + exact - measured) / measured
            for index, (measured, exact) in enumerate(totals)
        ]
    )
    return {
        "family": FAMILIES[devices[0].family.name].table,
        "targets": sorted({device.name for device in devices}),
        "tools": f"pyosys {found[0]['pyosys']}",
        "command": f"python -m tercet.flow.characterize fit {path.name} --write",
        "luts_are": devices[0].family.lut_metric,
        "designs": len(found),
        "errors": {
            "luts": round(float(np.abs(errors).mean()), 4),
            "median": round(float(np.median(np.abs(errors))), 4),
            "worst": round(float(np.abs(errors).max()), 4),
            "more": round(float(np.quantile(1 / (1 + errors) - 1, 0.9)), 4),
            "ffs": round(float(np.mean(wrong)), 4),
        },
        "prices": solve(equations),
    }


def _registers(design: int) -> int:
    """Register bits of a sampled design."""
    return sum(one.rtl_ffs for one in layer_resources(sample(design), ""))


def _equations(
    number: int,
    record: dict[str, Any],
    layers: tuple[LayerConfig, ...],
    family_name: str,
    equations: Equations,
) -> tuple[float, int]:
    """Add one equation a layer of design `number`; its (LUTs that hold words, flip-flops).

    One for the whole design where the mapped cells do not say which layer they belong to.
    """
    family = FAMILIES[family_name]
    exact, registers = 0.0, 0
    known = sum(part["luts"] for part in record["layers"].values())
    rows: list[tuple[Mapping[str, float], float, float]] = []
    between = zip(layers, operand_lanes(layers), forks(layers), strict=True)
    for index, (layer, widths, behind) in enumerate(between):
        placed = blocks.place(layer, family)
        held = sum(one.lutrams for one in placed)
        # Logic of the streams between layers is named after ports of the design: all share it.
        measured = record["layers"][layer.name]["luts"] + (record["luts"] - known) / len(layers)
        found = tuple(ffs.registers(layer))
        rows.append((luts.features(layer, found, placed, widths, family), held, measured))
        registers += ffs.ff_bits(found) + ffs.ff_bits(around(layer, widths, behind))
        registers += mapped.added(layer, placed, family, first=index == 0)
        exact += held
    if known < NAMED * record["luts"]:
        total: Counter[str] = Counter()
        for amounts, _, _ in rows:
            total.update(amounts)
        rows = [(total, exact, record["luts"])]
    for amounts, held, measured in rows:
        equations.add(number, amounts, measured - held, measured)
    return exact, registers


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m tercet.flow.characterize`."""
    parser = argparse.ArgumentParser(description="Fit the LUT models to synthesised designs.")
    commands = parser.add_subparsers(required=True, metavar="measure|fit|all")
    command = commands.add_parser("measure", help="synthesise designs, one JSON line each")
    command.add_argument("file", type=Path)
    command.add_argument("--target", nargs="+", default=[targets.DEFAULT])
    _budget(command)
    command.set_defaults(run=_measure)
    command = commands.add_parser("fit", help="prices from measured designs")
    command.add_argument("file", type=Path)
    command.add_argument("--write", action="store_true", help="replace the family's table")
    command.set_defaults(run=_fit)
    command = commands.add_parser("all", help="measure and fit every family, replace the tables")
    command.add_argument("folder", type=Path, help="for the measured designs")
    _budget(command)
    command.set_defaults(run=_all)
    args = parser.parse_args(argv)
    args.run(args)


def _budget(command: argparse.ArgumentParser) -> None:
    command.add_argument("--designs", type=int, nargs=2, default=(0, 100), metavar=("FIRST", "END"))
    command.add_argument("--minutes", type=float, help="of synthesis, after which no more is begun")


def _all(args: argparse.Namespace) -> None:
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, devices in DEVICES.items():
        file = args.folder / f"{name}.jsonl"
        _measure(argparse.Namespace(**{**vars(args), "file": file, "target": devices}))
        _fit(argparse.Namespace(file=file, write=True))


def _fit(args: argparse.Namespace) -> None:
    table = fit(args.file)
    text = json.dumps(table, indent=1) + "\n"
    print(text, end="")
    if args.write:
        luts.TABLES.mkdir(exist_ok=True)
        (luts.TABLES / f"{table['family']}.json").write_text(text)


if __name__ == "__main__":
    main()
