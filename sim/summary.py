"""A campaign in numbers: counts, rates with intervals, by role, by layer, by input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..quant.ir import IntArray
from . import detection, recovery, statistics
from .outcomes import Outcome
from .sampling import Population
from .store import Table
from .targets import Targets

__all__ = ["Setting", "report"]

Json = dict[str, Any]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

_DETECTED = (Outcome.DUE, Outcome.RECOVERED, Outcome.CORRECTED)
_UNDETECTED = (Outcome.HANG, Outcome.SDC_CRITICAL, Outcome.SDC_TOLERABLE)


@dataclass(frozen=True)
class Setting:
    """What the numbers depend on besides the experiments: the faults they were drawn from, the
    cycles of one inference, and how they were drawn. `strata` is role, layer or none; `poisson`
    the (upsets of an inference, share of inferences without) of a fault model with a rate."""

    engine: str
    seed: int
    confidence: float
    seconds: float
    initiation_interval: float
    source: Population
    exhaustive: bool = False
    strata: str = "none"
    looks: statistics.Looks | None = None
    poisson: tuple[float, float] | None = None

    @property
    def cycles(self) -> int:
        """Cycles of the window."""
        return self.source.stop - self.source.start

    @property
    def single(self) -> bool:
        """Is an experiment one upset, so that vulnerable bit-cycles have a meaning?"""
        return not (self.source.model.several or self.source.model.stuck)


def report(targets: Targets, table: Table, setting: Setting) -> Json:
    """The JSON of `tercet inject` without its audit."""
    bits = np.bincount(targets.owner[setting.source.targets], minlength=len(targets.sites))
    per_input, seconds = _per_input(table), setting.seconds
    result: Json = {
        "engine": setting.engine,
        "experiments": len(table.outcome),
        "seconds": seconds,
        "rate_per_s": len(table.outcome) / seconds if seconds else 0.0,
        "ff_bits": _flip_flops(targets, np.ones(len(targets.sites), bool)),
        "sites": int(bits.sum()),
        "initiation_interval": setting.initiation_interval,
        "seed": setting.seed,
        "fault_model": setting.source.model.text,
    }
    result |= _group(table, np.ones(len(table.outcome), bool), int(bits.sum()), setting)
    low, high = _over_inputs(table.outcome, table.input, setting)
    result["sdc_critical"] |= {"low_inputs": low, "high_inputs": high}
    for key in ("role", "layer"):
        result[f"by_{key}"] = _split(targets, table, bits, setting, key)
    result["by_layer_role"] = _cross(targets, table, bits, setting)
    result |= {"exhaustive": setting.exhaustive, "inputs": len(per_input["index"])}
    result |= {"per_input": per_input, "recovery": recovery.report(table, targets.labels("role"))}
    result["detection_latency"] = detection.report(table)
    result |= _strata(result, targets, table, bits, setting) | _looks(result, setting)
    result |= _poisson(result, setting)
    return result | {"notes": _notes(result, setting)}


def _flip_flops(targets: Targets, chosen: Mask) -> int:
    sites = zip(targets.sites, chosen, strict=True)
    return sum(len(site.targets) for site, yes in sites if yes and site.kind == "register")


def _group(table: Table, mask: Mask, bits: int, setting: Setting) -> Json:
    """Counts and rates of the experiments in `mask`, drawn from `bits` bits."""
    counts = np.bincount(table.outcome[mask], minlength=len(Outcome))
    total, critical = int(mask.sum()), int(counts[Outcome.SDC_CRITICAL])
    rate: Json | None = None
    if total:
        low, high = _interval(table, mask, critical, bits, setting)
        rate = {"avf": critical / total, "low": low, "high": high}
        rate |= {"vulnerable_bit_cycles": None, "confidence": setting.confidence}
        if setting.single:
            rate["vulnerable_bit_cycles"] = statistics.vulnerable_bit_cycles(
                critical / total, bits, setting.initiation_interval
            )
    detected = sum(int(counts[outcome]) for outcome in _DETECTED)
    failures = detected + sum(int(counts[outcome]) for outcome in _UNDETECTED)
    return {
        "outcomes": {o.label: int(counts[o]) for o in sorted(Outcome, reverse=True)},
        "sdc_critical": rate,
        "detection_coverage": detected / failures if failures else None,
    }


def _interval(
    table: Table, mask: Mask, critical: int, bits: int, setting: Setting
) -> tuple[float, float]:
    """Over the faults; where all of them were run, over the inputs."""
    if setting.exhaustive:
        return _over_inputs(table.outcome[mask], table.input[mask], setting)
    population = None if setting.source.model.several else bits * setting.cycles
    return statistics.wilson(critical, int(mask.sum()), setting.confidence, population)


def _over_inputs(outcome: IntArray, owner: IntArray, setting: Setting) -> tuple[float, float]:
    _, which = np.unique(owner, return_inverse=True)
    events = np.bincount(which, outcome == Outcome.SDC_CRITICAL).astype(np.int64)
    counts = statistics.Counts(events, np.bincount(which))
    return statistics.cluster_interval(counts, setting.confidence, setting.seed)


def _split(targets: Targets, table: Table, bits: IntArray, setting: Setting, key: Any) -> Json:
    """The same for each role or layer that was struck: `bits` that could be (of registers,
    memories or look-up tables, `sites` is the same number), `ff_bits` all its flip-flops."""
    labels = np.array(targets.labels(key))
    found = {}
    for label in sorted(set(labels[bits > 0].tolist())):
        chosen = labels == label
        mask, number = chosen[table.site], int(bits[chosen].sum())
        found[label] = {
            "ff_bits": _flip_flops(targets, chosen),
            "bits": number,
            "sites": number,
            "experiments": int(mask.sum()),
        } | _group(table, mask, number, setting)
    return found


def _cross(targets: Targets, table: Table, bits: IntArray, setting: Setting) -> Json:
    """Layer -> role -> {sites, experiments, avf, low, high} of critical outcomes."""
    pairs = np.array([f"{site.layer}\n{site.role}" for site in targets.sites])
    names, which = np.unique(pairs, return_inverse=True)
    sizes, owner = np.bincount(which, bits).astype(int), which.astype(np.int32)[table.site]
    found: Json = {}
    for number in np.flatnonzero(sizes):
        mask = owner == number
        total = int(mask.sum())
        critical = int((table.outcome[mask] == Outcome.SDC_CRITICAL).sum())
        row: Json = {"sites": int(sizes[number]), "experiments": total}
        if total:
            low, high = _interval(table, mask, critical, int(sizes[number]), setting)
            row |= {"avf": critical / total, "low": low, "high": high}
        layer, role = str(names[number]).split("\n")
        found.setdefault(layer, {})[role] = row
    return found


def _per_input(table: Table) -> dict[str, list[int]]:
    index, which = np.unique(table.input, return_inverse=True)
    critical = table.outcome == Outcome.SDC_CRITICAL
    return {
        "index": index.tolist(),
        "experiments": np.bincount(which, minlength=len(index)).tolist(),
        "sdc_critical": np.bincount(which, critical, minlength=len(index)).astype(int).tolist(),
    }


def _strata(result: Json, targets: Targets, table: Table, bits: IntArray, setting: Setting) -> Json:
    """The post-stratified rate and its interval in place of the plain ones."""
    if setting.strata == "none":
        return {}
    key: Any = setting.strata
    names, which = np.unique(np.array(targets.labels(key)), return_inverse=True)
    sizes = np.bincount(which, bits).astype(np.int64)
    trials = np.bincount(which[table.site], minlength=len(names))
    critical = table.outcome == Outcome.SDC_CRITICAL
    events = np.bincount(which[table.site], critical, minlength=len(names)).astype(np.int64)
    there = sizes > 0
    value, low, high = statistics.stratified(
        events[there], trials[there], sizes[there] * setting.cycles, setting.confidence
    )
    rate = {"avf": value, "low": low, "high": high}
    rate["vulnerable_bit_cycles"] = statistics.vulnerable_bit_cycles(
        value, int(bits.sum()), setting.initiation_interval
    )
    plain = result["sdc_critical"]
    result["sdc_critical"] = plain | {key: rate[key] for key in rate if plain[key] is not None}
    return {"strata": {"by": setting.strata, "number": int(there.sum())}}


def _looks(result: Json, setting: Setting) -> Json:
    """The interval of a sample that could have ended earlier."""
    if setting.looks is None:
        return {}
    critical = result["outcomes"][Outcome.SDC_CRITICAL.label]
    rate = result["sdc_critical"]
    if setting.source.model.several or result["experiments"] < setting.source.size:
        low, high = setting.looks.interval(critical, result["experiments"])
        rate |= {"low": low, "high": high}
    looks = {"margin": setting.looks.margin, "looks": setting.looks.number}
    return {"until": looks | {"half_width": (rate["high"] - rate["low"]) / 2}}


def _poisson(result: Json, setting: Setting) -> Json:
    """Rates of an inference, upset or not: those without an upset have no failure."""
    if setting.poisson is None:
        return {}
    mean, without = setting.poisson
    rate = {key: (1 - without) * result["sdc_critical"][key] for key in ("avf", "low", "high")}
    return {
        "poisson": {
            "rate": setting.source.model.rate,
            "upsets_per_inference": mean,
            "share_without_upset": without,
            "sdc_critical_per_inference": rate,
        }
    }


def _notes(result: Json, setting: Setting) -> list[str]:
    notes = []
    if result["inputs"] < statistics.ENOUGH_INPUTS:
        notes.append(
            f"{result['inputs']} inputs: an interval over inputs needs {statistics.ENOUGH_INPUTS}"
        )
    events = result["outcomes"][Outcome.SDC_CRITICAL.label]
    if events < statistics.ENOUGH_EVENTS and not setting.exhaustive:
        notes.append(f"{events} critical upsets: take more faults before comparing designs")
    if setting.engine == "cocotb":
        notes.append("recovery: cocotb looks at the state when the watch ends, not before")
    return notes
