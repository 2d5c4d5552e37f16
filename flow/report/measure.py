"""Counts of a campaign by class of site, and the shares that a safety case is made of.

An upset is *dangerous* if some result was wrong or missing, or right only since it was corrected.
Dangerous and not flagged in time is *residual*. docs/report.md defines every share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...quant.errors import InputError
from ...quant.ir import IntArray
from ...sim import statistics
from ...sim.outcomes import Outcome
from ...sim.store import SiteRow, Table
from .evidence import Campaign

__all__ = ["CONTROLLED", "RESIDUAL", "Measured", "metrics"]

Json = dict[str, Any]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

CONTROLLED = (Outcome.DUE, Outcome.RECOVERED, Outcome.CORRECTED)
RESIDUAL = (Outcome.HANG, Outcome.SDC_CRITICAL, Outcome.SDC_TOLERABLE)
_VIOLATIONS = (Outcome.HANG, Outcome.SDC_CRITICAL)
_EVERY = tuple(Outcome)


@dataclass(frozen=True)
class Measured:
    """The experiments of `campaign` counted: `counts` [classes, inputs, outcomes, 2], the last
    axis whether some result had another top-1 class; `classes` are the (layer, role) of its
    sites, `bits` [classes] theirs. `judged` says whether the last axis is known."""

    campaign: Campaign
    classes: tuple[tuple[str, str], ...]
    bits: IntArray
    counts: IntArray
    judged: bool

    @classmethod
    def of(cls, campaign: Campaign, sites: list[SiteRow], table: Table) -> Measured:
        """Counted; `sites` and `table` are those of the store."""
        _check(campaign, sites, table)
        names = [(site.layer, site.role) for site in sites]
        struck = [site.kind == "register" for site in sites]
        classes = tuple(sorted({n for n, yes in zip(names, struck, strict=True) if yes}))
        index = {name: number for number, name in enumerate(classes)}
        owner = np.array([index.get(name, 0) for name in names], np.int64)
        sizes = np.array([site.bits * yes for site, yes in zip(sites, struck, strict=True)])
        bits = np.bincount(owner, sizes, minlength=len(classes)).astype(np.int64)
        inputs, which = np.unique(table.input, return_inverse=True)
        shape = (len(classes), len(inputs), len(Outcome), 2)
        critical = 0 if table.critical is None else table.critical.astype(np.int64)
        place = (owner[table.site] * len(inputs) + which) * len(Outcome) + table.outcome
        counts = np.bincount(2 * place + critical, minlength=int(np.prod(shape))).reshape(shape)
        return cls(campaign, classes, bits, counts, table.critical is not None)

    @property
    def exhaustive(self) -> bool:
        """Was every single upset run?"""
        return bool(self.campaign.report["exhaustive"])

    def group(self, chosen: Mask) -> Json:
        """Bits, outcomes, critical-SDC rate and coverage of some classes of sites."""
        counts, bits = self.counts[chosen].sum(axis=0), int(self.bits[chosen].sum())
        of_outcome = counts.sum(axis=(0, 2))
        rate = self.share(counts, (Outcome.SDC_CRITICAL,), _EVERY, bits)
        interval = self.campaign.report["initiation_interval"]
        exposure = None if rate is None else rate["value"] * bits * interval
        return {
            "bits": bits,
            "experiments": int(of_outcome.sum()),
            "outcomes": {o.label: int(of_outcome[o]) for o in sorted(Outcome, reverse=True)},
            "sdc_critical": rate,
            "vulnerable_bit_cycles": exposure,
            "diagnostic_coverage": self.share(counts, CONTROLLED, CONTROLLED + RESIDUAL),
            "critical_coverage": self.critical_coverage(counts),
        }

    def share(
        self,
        counts: IntArray,
        events: tuple[Outcome, ...],
        trials: tuple[Outcome, ...],
        bits: int | None = None,
    ) -> Json | None:
        """{value, low, high, events, trials} of outcomes among outcomes; None without a trial.
        With `bits`, the trials are drawn from all cycles of so many."""
        of_input = counts.sum(axis=2)
        return self.proportion(
            of_input[:, list(events)].sum(axis=1), of_input[:, list(trials)].sum(axis=1), bits
        )

    def proportion(
        self, events: IntArray, trials: IntArray, bits: int | None = None
    ) -> Json | None:
        """The same of events and trials [inputs]: over faults by Wilson, over inputs where all
        faults were run."""
        n, k = int(trials.sum()), int(events.sum())
        if not n:
            return None
        report = self.campaign.report
        confidence = report["sdc_critical"]["confidence"]
        low: float | None
        high: float | None
        if self.exhaustive and len(events) == 1:
            low = high = None  # exact for this input, and no sample of inputs
        elif self.exhaustive:
            counts = statistics.Counts(events, trials)
            low, high = statistics.cluster_interval(counts, confidence, int(report["seed"]))
        else:
            cycles = round(report["initiation_interval"] * report["inputs"])
            population = None if bits is None else max(bits * cycles, n)
            low, high = statistics.wilson(k, n, confidence, population)
        return {"value": k / n, "low": low, "high": high, "events": k, "trials": n}

    def critical_coverage(self, counts: IntArray) -> Json | None:
        """Of the upsets that changed a top-1 class or hung, the share that no unflagged wrong
        class followed; None if the campaign did not record it."""
        if not self.judged:
            return None
        seen = counts.copy()
        seen[:, list(_VIOLATIONS)] = 0
        detected = seen[:, :, 1].sum(axis=1)
        missed = counts[:, list(_VIOLATIONS)].sum(axis=(1, 2))
        return self.proportion(detected, detected + missed)


def _check(campaign: Campaign, sites: list[SiteRow], table: Table) -> None:
    """InputError unless every experiment names a site and an outcome that there are."""
    known = not len(table.site) or int(table.site.max()) < len(sites)
    critical = table.critical is None or not len(table.critical) or table.critical.max() <= 1
    same = len(np.unique(table.input)) == campaign.report["inputs"]
    text = all(isinstance(v, str) for s in sites for v in (s.name, s.kind, s.role, s.layer))
    sound = text and all(type(site.bits) is int and site.bits >= 0 for site in sites)
    if not (sound and known and critical and same and int(table.outcome.max()) < len(Outcome)):
        raise InputError(f"campaign {campaign.name}: its experiments are damaged; run it again")


def metrics(measured: Measured) -> Json:
    """The shares of the whole design, each {value, low, high, events, trials} or None."""
    counts = measured.counts.sum(axis=0)

    def among(*events: Outcome) -> Json | None:
        return measured.share(counts, events, _EVERY)

    safe = tuple(o for o in Outcome if o not in _VIOLATIONS)
    wordwise = tuple(o for o in Outcome if o not in RESIDUAL)
    not_latent = tuple(o for o in safe if o is not Outcome.LATENT)
    return {
        "diagnostic_coverage": measured.share(counts, CONTROLLED, CONTROLLED + RESIDUAL),
        "critical_coverage": measured.critical_coverage(counts),
        "single_point_like": among(*safe),
        "single_point_like_words": among(*wordwise),
        "latent_like": measured.share(counts, not_latent, safe),
        "residual": among(*_VIOLATIONS),
        "residual_words": among(*RESIDUAL),
        "latent": among(Outcome.LATENT),
        "hang": among(Outcome.HANG),
        "false_alarm": among(Outcome.FALSE_ALARM),
        "availability_loss": among(Outcome.DUE, Outcome.RECOVERED),
    }
