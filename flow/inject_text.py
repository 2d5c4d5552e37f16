"""A fault campaign on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .terminal import cell, console, table

__all__ = ["inject", "replay", "software"]

Result = dict[str, Any]


def inject(result: Result) -> None:
    """Outcomes, where the critical ones come from, rates with intervals, recovery, the audit."""
    out = console()
    how = "all" if result["exhaustive"] else "a sample of the"
    title = (
        f"{cell(result['experiments'])} experiments, {how} faults of {cell(result['sites'])} bits"
    )
    rows = table(title, "outcome", "number")
    for name, number in result["outcomes"].items():
        rows.add_row(name, cell(number))
    out.print(rows)
    for key in ("role", "layer"):
        _groups(out, result, key)
    _cross(out, result["by_layer_role"])
    _rates(out, result)
    _recovery(out, result["recovery"])
    audit = result["audit"]
    out.print(f"audit in cocotb: {audit['disagreements']} of {audit['sampled']} differ")
    out.print(
        f"engine {result['engine']}, {result['rate_per_s']:,.0f} a second; {result['fault_model']}"
    )
    for note in result["notes"]:
        out.print(f"note: {note}")
    out.print(f"campaign {result['id']}")


def _groups(out: Console, result: Result, key: str) -> None:
    rows = table(f"by {key}", key, "bits", "experiments", "sdc_critical", "share")
    for name, group in result[f"by_{key}"].items():
        rate = group["sdc_critical"]
        critical = group["outcomes"]["sdc_critical"]
        share = "-" if rate is None else f"{rate['avf']:.3%}"
        rows.add_row(name, *map(cell, (group["sites"], group["experiments"], critical)), share)
    out.print(rows)


def _cross(out: Console, found: Result) -> None:
    """Critical share, layers x roles."""
    roles = sorted({role for row in found.values() for role in row})
    rows = table("critical share by layer and role", "layer", *roles)
    for layer, row in found.items():
        shares = (row.get(role, {}).get("avf") for role in roles)
        rows.add_row(layer, *("-" if share is None else f"{share:.2%}" for share in shares))
    out.print(rows)


def _rates(out: Console, result: Result) -> None:
    rate, intervals = result["sdc_critical"], []
    exposure = rate["vulnerable_bit_cycles"]
    if not result["exhaustive"]:
        intervals.append(f"{rate['low']:.3%} to {rate['high']:.3%} over faults")
    if result["inputs"] > 1:
        intervals.append(f"{rate['low_inputs']:.3%} to {rate['high_inputs']:.3%} over inputs")
    stated = f"{', '.join(intervals)}, at {rate['confidence']:.0%}" if intervals else "one input"
    out.print(
        f"sdc_critical: {rate['avf']:.3%} of experiments ({stated})"
        + ("" if exposure is None else f", {cell(round(exposure))} vulnerable bit-cycles")
    )
    if result["detection_coverage"] is not None:
        out.print(f"detection coverage: {result['detection_coverage']:.2%} of what was not masked")
    if "poisson" in result:
        poisson = result["poisson"]
        each = poisson["sdc_critical_per_inference"]
        out.print(
            f"{poisson['upsets_per_inference']:.3g} upsets an inference, "
            f"{poisson['share_without_upset']:.3%} of inferences without; sdc_critical "
            f"{each['avf']:.3g} an inference ({each['low']:.3g} to {each['high']:.3g})"
        )
    if "until" in result:
        until = result["until"]
        out.print(f"ended at +-{until['half_width']:.3%}, asked for +-{until['margin']:.3%}")


def _recovery(out: Console, found: Result) -> None:
    broken = ", ".join(f"{n} {name}" for name, n in found["disorder"].items() if n)
    largest = "-" if found["largest"] is None else found["largest"]
    out.print(
        f"recovery: golden again after at most {largest} inferences; not in the watch: "
        f"{cell(found['flagged'])} flagged, {cell(found['never'])} not; "
        f"out of order: {broken or 'none'}"
    )


def replay(result: Result) -> None:
    """The fault, what it did, and where the waves are."""
    out = console()
    for event in result["events"]:
        out.print(event)
    verdict = "as in the campaign" if result["agrees"] else f"the campaign had {result['outcome']}"
    out.print(f"{result['id']}: {result['cocotb']} in cocotb, {verdict}")
    for path in result["waves"]:
        out.print(f"waves: {path}")


def software(result: Result) -> None:
    """Outcomes and rates of a law, by layer."""
    out = console()
    rate = "" if result["rate"] is None else f" at {result['rate']:g}"
    rows = table(
        f"{cell(result['experiments'])} inferences, law {result['law']}{rate}", "", "number"
    )
    for name, number in result["outcomes"].items():
        rows.add_row(name, cell(number))
    out.print(rows)
    layers = table("by layer", "layer", "words changed", "inferences", "sdc_critical", "share")
    for name, group in result["by_layer"].items():
        critical, share = group["outcomes"]["sdc_critical"], group["sdc_critical"]["avf"]
        counts = map(cell, (group["words_changed"], group["experiments"], critical))
        layers.add_row(name, *counts, f"{share:.3%}")
    out.print(layers)
    found = result["sdc_critical"]
    out.print(
        f"sdc_critical: {found['avf']:.3%} of inferences ({found['low']:.3%} to "
        f"{found['high']:.3%} over faults, {found['low_inputs']:.3%} to "
        f"{found['high_inputs']:.3%} over inputs, at {found['confidence']:.0%})"
    )
    out.print(f"engine software on {result['device']}, {result['rate_per_s']:,.0f} a second")
    for note in result["notes"]:
        out.print(f"note: {note}")
    out.print(f"campaign {result['id']}")
