"""A design beside the same network without protection: cost, cycles, critical upsets."""

from __future__ import annotations

from typing import Any

from ...quant.errors import InputError
from ...sim import campaign as campaigns
from ..demo import area
from .evidence import RESOURCES, Campaign, Evidence

__all__ = ["against"]

Json = dict[str, Any]


def against(mine: Evidence, plain: Evidence) -> Json:
    """What protection costs and buys.

    {directory, design, area, latency_cycles, initiation_interval, ratio, campaigns, notes}: `area`
    holds both designs' resources by the same means ("measured" where both were synthesised for
    this target, else "estimated"), `overhead` of each and of LUT + 0.5 FF + 100 DSP + 200 BRAM;
    `ratio` is that of vulnerable bit-cycles with its bootstrap interval (`sim.campaign.compare`).
    Raises InputError if `plain` is another network.
    """
    if mine.network != plain.network:
        raise InputError(
            f"--against {plain.directory}: another network (its graph.json differs); build the "
            f"graph.json of {mine.directory} without a plan"
        )
    first, second = _pair(mine, plain)
    confidence = first.report["sdc_critical"]["confidence"]
    notes = []
    if plain.manifest.raw.get("folding") != mine.manifest.raw.get("folding"):
        notes.append("the foldings differ: not all of the difference is the plan's")
    if first.stalls != second.stalls:
        notes.append("the streams stalled in one campaign only")
    return {
        "directory": plain.directory.name,
        "design": plain.manifest.design,
        "area": _area(mine, plain),
        "latency_cycles": _pairs(mine, plain, "latency_cycles"),
        "initiation_interval": _pairs(mine, plain, "initiation_interval"),
        "ratio": campaigns.compare(first.report, second.report, confidence),
        "campaigns": [first.name, second.name],
        "notes": notes,
    }


def _pair(mine: Evidence, plain: Evidence) -> tuple[Campaign, Campaign]:
    """The main campaign and the one to set beside it: on the same inputs if there is one."""
    first, other = mine.main, plain.main
    alike = [c for c in plain.campaigns if c.whole and _same(c, first)]
    return first, max(alike, key=lambda c: c.report["experiments"]) if alike else other


def _same(one: Campaign, other: Campaign) -> bool:
    inputs = one.report.get("inputs_digest") == other.report.get("inputs_digest")
    return inputs and one.stalls == other.stalls


def _pairs(mine: Evidence, plain: Evidence, key: str) -> Json:
    values = getattr(mine.manifest, key), getattr(plain.manifest, key)
    return {"this": values[0], "plain": values[1], "difference": values[0] - values[1]}


def _area(mine: Evidence, plain: Evidence) -> Json | None:
    """Resources of both by the same means; None where there is no such."""
    for source in ("measured", "estimated"):
        one, other = getattr(mine, source), getattr(plain, source)
        if one and other and mine.target == plain.target:
            overhead = {key: one[key] / other[key] - 1 if other[key] else None for key in RESOURCES}
            overhead["area"] = area(one) / area(other) - 1 if area(other) else None
            return {"source": source, "this": one, "plain": other, "overhead": overhead}
    return None
