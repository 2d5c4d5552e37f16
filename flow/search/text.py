"""`tercet search` on the terminal: the front, what failed, finalists predicted beside measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from ...quant.names import printable
from ..terminal import console, table

__all__ = ["genome_text", "number", "show"]

Json = dict[str, Any]
ROWS = 24


def show(result: Json) -> None:
    """The Pareto table, then where everything lies."""
    out = console()
    out.print(
        f"{result['evaluations']:,} evaluations of {result['candidates']:,} candidates by "
        f"{result['algorithm']} in {result['seconds']:,.1f} s, {result['overhead_seconds']:,.1f} s "
        "of it not evaluation"
    )
    if result["exhausted"]:
        out.print("the space is exhausted: nothing is left to evaluate")
    _front(out, result)
    for word in ("failures", "refused"):
        for reason, count in list(result[word].items())[:5]:
            out.print(f"{word}: {count:,} x {reason}")
    for finalist in result.get("finalists", []):
        _finalist(out, finalist)
    where = result["out"]
    if result["front"]:
        out.print(f"build one: {result['front'][0]['build']}")
        out.print(f"plots: {where}/front.html, {where}/front.png")
    out.print(f"result: {where}/search.json; all candidates: {where}/archive.json")


def _front(out: Console, result: Json) -> None:
    points, names = result["front"], result["objectives"]
    title = f"front: {len(points)} members, hypervolume {result['hypervolume']:.4f}"
    shown = table(title, "network and circuit", "number", *(printable(name) for name in names))
    step = -(-len(points) // ROWS) or 1
    for point in points[::step]:
        values = (number(point["objectives"][name]) for name in names)
        shown.add_row(genome_text(point["genome"]), str(point["number"]), *values)
    out.print(shown)
    if step > 1:
        out.print(f"every {step} th of them is shown")


def genome_text(genome: Mapping[str, Any]) -> str:
    """A candidate on one line: "chain 1x8k3 2x16k3 mean w8a8 scale, 144 cycles, dsp, none"."""
    stages = zip(genome["blocks"], genome["width"], genome["kernel"], strict=True)
    network = " ".join(f"{blocks}x{width}k{kernel}" for blocks, width, kernel in stages)
    bits = f"w{genome['weight_bits']}a{genome['act_bits']}"
    circuit = f"{genome['interval']} cycles, {genome['multiplier']}, {genome['plan']}"
    return printable(
        f"{genome['family']} {network} {genome['head']} {bits} {genome['scheme']}, {circuit}"
    )


def number(value: float | None) -> str:
    """Four digits, or all of a whole number; a dash for what is missing."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1e4 else f"{value:.4g}"


def _finalist(out: Console, finalist: Json) -> None:
    title = f"finalist {finalist['number']}: {genome_text(finalist['genome'])}"
    shown = table(title, "", "predicted", "measured", "95 % interval")
    for row in finalist["rows"]:
        limits = "" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}"
        values = (number(row["predicted"]), number(row["measured"]), limits)
        shown.add_row(printable(row["objective"]), *values)
    out.print(shown)
    verify = finalist["verify"]
    out.print(
        f"error on {finalist['test_images']} test images by the Verilog; {verify['mismatches']} "
        f"mismatches on {verify['images']} images; {finalist['experiments']:,} upsets; "
        f"{finalist['build']}"
    )
