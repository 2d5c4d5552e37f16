"""A campaign in numbers: counts, rates with intervals, by role, by layer, by input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import statistics
from .outcomes import Outcome
from .sites import Register
from .store import Table

__all__ = ["Setting", "report"]

Json = dict[str, Any]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

_DETECTED = (Outcome.DUE, Outcome.RECOVERED, Outcome.CORRECTED)
_UNDETECTED = (Outcome.HANG, Outcome.SDC_CRITICAL, Outcome.SDC_TOLERABLE)


@dataclass(frozen=True)
class Setting:
    """What the numbers depend on besides the experiments; the interval is in cycles."""

    engine: str
    seed: int
    confidence: float
    seconds: float
    initiation_interval: float


def report(registers: Sequence[Register], table: Table, setting: Setting) -> Json:
    """The JSON of `tercet inject` without its audit."""
    ff_bits, everything = sum(r.width for r in registers), np.ones(len(table.outcome), bool)
    per_input = _per_input(table)
    result: Json = {
        "engine": setting.engine,
        "experiments": len(table.outcome),
        "seconds": setting.seconds,
        "rate_per_s": len(table.outcome) / setting.seconds,
        "ff_bits": ff_bits,
        "initiation_interval": setting.initiation_interval,
        "seed": setting.seed,
        "fault_model": "single-event upset of one flip-flop bit; memories and configuration not",
    }
    result |= _group(table, everything, ff_bits, setting)
    counts = statistics.Counts(
        np.array(per_input["sdc_critical"]), np.array(per_input["experiments"])
    )
    low, high = statistics.cluster_interval(counts, setting.confidence, setting.seed)
    result["sdc_critical"] |= {"low_inputs": low, "high_inputs": high}
    result["by_role"] = _split(registers, table, setting, "role")
    result["by_layer"] = _split(registers, table, setting, "layer")
    result |= {"exhaustive": False, "inputs": len(per_input["index"]), "per_input": per_input}
    return result | {"notes": _notes(result)}


def _group(table: Table, mask: Mask, ff_bits: int, setting: Setting) -> Json:
    """Counts and rates of the experiments in `mask`, drawn from `ff_bits` bits."""
    counts = np.bincount(table.outcome[mask], minlength=len(Outcome))
    total, critical = int(mask.sum()), int(counts[Outcome.SDC_CRITICAL])
    rate: Json | None = None
    if total:
        low, high = statistics.wilson(critical, total, setting.confidence)
        scaled = statistics.vulnerable_bit_cycles(
            critical / total, ff_bits, setting.initiation_interval
        )
        rate = {"avf": critical / total, "low": low, "high": high}
        rate |= {"vulnerable_bit_cycles": scaled, "confidence": setting.confidence}
    detected = sum(int(counts[outcome]) for outcome in _DETECTED)
    failures = detected + sum(int(counts[outcome]) for outcome in _UNDETECTED)
    return {
        "outcomes": {o.label: int(counts[o]) for o in sorted(Outcome, reverse=True)},
        "sdc_critical": rate,
        "detection_coverage": detected / failures if failures else None,
    }


def _split(registers: Sequence[Register], table: Table, setting: Setting, key: str) -> Json:
    """The same for each value of `key`, a field of the registers."""
    labels = np.array([getattr(register, key) or "none" for register in registers])
    widths = np.array([register.width for register in registers])
    found = {}
    for label in sorted(set(labels.tolist())):
        mask, ff_bits = labels[table.register] == label, int(widths[labels == label].sum())
        group = _group(table, mask, ff_bits, setting)
        found[label] = {"ff_bits": ff_bits, "experiments": int(mask.sum())} | group
    return found


def _per_input(table: Table) -> dict[str, list[int]]:
    index, which = np.unique(table.input, return_inverse=True)
    critical = table.outcome == Outcome.SDC_CRITICAL
    return {
        "index": index.tolist(),
        "experiments": np.bincount(which, minlength=len(index)).tolist(),
        "sdc_critical": np.bincount(which, critical, minlength=len(index)).astype(int).tolist(),
    }


def _notes(result: Json) -> list[str]:
    notes = []
    if result["inputs"] < statistics.ENOUGH_INPUTS:
        notes.append(
            f"{result['inputs']} inputs: an interval over inputs needs {statistics.ENOUGH_INPUTS}"
        )
    events = result["outcomes"][Outcome.SDC_CRITICAL.label]
    if events < statistics.ENOUGH_EVENTS:
        notes.append(f"{events} critical upsets: take more faults before comparing designs")
    return notes
