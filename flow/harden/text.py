"""`tercet harden` on the terminal: the front, the plan and why, predicted beside measured."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from ..terminal import console, table

__all__ = ["show"]

Json = dict[str, Any]
LINES = 14


def show(result: Json) -> None:
    """Short tables, then where everything lies."""
    out = console()
    profile = result["profile"]
    out.print(
        f"{result['source']} for {result['target']}: {profile['vulnerable_bit_cycles']:,.0f} "
        f"vulnerable bit-cycles without protection ({profile['source']})"
    )
    _front(out, result)
    _plan(out, result)
    _explain(out, result)
    _measured(out, result)
    for note in result["notes"]:
        out.print(f"note: {note}")
    out.print(f"plan: {result['out']}/plan.toml; front: {result['out']}/front.json")


def _front(out: Console, result: Json) -> None:
    points = result["front"]
    step = -(-len(points) // LINES)
    rows = [*points[:-1:step], points[-1]]
    shown = table("front, predicted", "area", "ratio", "layers protected")
    for point in rows:
        layers = point["plan"]["layer"]
        number = sum(one != {"control": "none"} for one in layers.values())
        shown.add_row(f"{point['overhead']:+.1%}", f"{point['ratio']:.4f}", str(number))
    out.print(shown)


def _plan(out: Console, result: Json) -> None:
    shown = table("plan", "layer", "settings", "area", "removes", "for each 1 % of area")
    for row in result["layers"]:
        shown.add_row(row["layer"], *_cells(row))
    out.print(shown)


def _explain(out: Console, result: Json) -> None:
    if "explain" not in result:
        return
    columns = ("layer", "settings", "area", "removes", "for each 1 % of area", "")
    shown = table("options (* chosen): shares of the plain design's", *columns)
    for row in result["explain"]:
        shown.add_row(row["layer"], *_cells(row), "*" * row["chosen"])
    out.print(shown)


def _cells(row: Json) -> tuple[str, ...]:
    each = row["per_percent"]
    return (
        row["settings"],
        f"{row['overhead']:+.2%}",
        f"{row['removes']:.2%}",
        "-" if each is None else f"{each:.2%}",
    )


def _measured(out: Console, result: Json) -> None:
    predicted, found = result["predicted"], result["measured"]
    ratio = found["ratio"]
    shown = table("this plan", "", "predicted", "measured")
    shown.add_row("area overhead", f"{predicted['overhead']:+.1%}", f"{found['overhead']:+.1%}")
    limits = f"{_number(ratio['value'])} ({_number(ratio['low'])} to {_number(ratio['high'])})"
    shown.add_row("ratio of vulnerable bit-cycles", f"{predicted['ratio']:.4f}", limits)
    out.print(shown)
    before, after = found["plain_outcomes"], found["outcomes"]
    out.print(
        f"{found['experiments']:,} upsets each on {found['inputs']} inputs, plain / this plan: "
        + ", ".join(f"{key} {before[key]:,} / {after[key]:,}" for key in after if key != "masked")
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
