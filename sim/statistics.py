"""Intervals for fault campaigns: over sampled faults, and over the inputs they were run on.

Faults are independent draws: Wilson (E. B. Wilson, JASA 22, 1927) or exact (Clopper and Pearson,
Biometrika 26, 1934). Inputs are clusters: all faults on one input share it, so the interval over
inputs resamples whole inputs (A. C. Davison and D. V. Hinkley, Bootstrap Methods, 1997, ch. 3.8).
Strata are combined by the square-and-add method (G. Zou, W. Huang, X. Zhang, Computational
Statistics & Data Analysis 53, 2009). Sequential looks share out the error (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from ..quant.ir import IntArray

__all__ = [
    "ENOUGH_EVENTS",
    "ENOUGH_INPUTS",
    "Counts",
    "Looks",
    "Ratio",
    "clopper_pearson",
    "cluster_interval",
    "ratio",
    "sample_size",
    "stratified",
    "vulnerable_bit_cycles",
    "widest",
    "wilson",
]

#: Fewer inputs than this make an interval over inputs unreliable.
ENOUGH_INPUTS = 30
#: With fewer events than this on a side the bootstrap of a ratio is widened by exact bounds.
ENOUGH_EVENTS = 10
RESAMPLES = 4000

Floats = np.ndarray[Any, np.dtype[np.float64]]


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _check(events: int, trials: int) -> None:
    if trials < 1 or not 0 <= events <= trials:
        raise ValueError(f"{events} events in {trials} trials cannot be")


def wilson(
    events: int, trials: int, confidence: float = 0.95, population: int | None = None
) -> tuple[float, float]:
    """Wilson's score interval of a proportion; narrower where the trials were drawn without
    replacement from a finite `population`, of which nothing is left unknown at the end."""
    _check(events, trials)
    p, n = events / trials, float(trials)
    if population is not None:
        if population <= trials:
            return p, p
        n *= (population - 1) / (population - trials)
    z = _z(confidence)
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    low = 0.0 if events == 0 else max(0.0, middle - half)
    return low, 1.0 if events == trials else min(1.0, middle + half)


def clopper_pearson(events: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a proportion: never covers less than `confidence`."""
    _check(events, trials)
    tail = math.log((1 - confidence) / 2)
    low = 0.0 if events == 0 else 1 - _upper(trials - events, trials, tail)
    return low, 1.0 if events == trials else _upper(events, trials, tail)


def _upper(events: int, trials: int, tail: float) -> float:
    """p for which at most `events` of `trials` has the log-probability `tail`, by bisection."""
    i = np.arange(1, events + 1)
    choose = np.concatenate(([0.0], np.cumsum(np.log(trials - i + 1) - np.log(i))))
    k = np.arange(events + 1)
    low, high = events / trials, 1.0
    for _ in range(60):
        p = (low + high) / 2
        if p in (0.0, 1.0):
            break
        terms = choose + k * math.log(p) + (trials - k) * math.log1p(-p)
        below = terms.max() + math.log(np.exp(terms - terms.max()).sum())
        low, high = (p, high) if below > tail else (low, p)
    return high


def sample_size(margin: float, confidence: float = 0.95, population: int | None = None) -> int:
    """Faults for an interval of +-margin at the worst proportion 1/2 (R. Leveugle et al., DATE
    2009, equation 1); `population` is the number of different faults."""
    if not 0 < margin < 1:
        raise ValueError(f"margin must lie between 0 and 1, not {margin}")
    needed = (_z(confidence) / (2 * margin)) ** 2
    if population is not None:
        needed = population / (1 + (population - 1) / needed)
    return math.ceil(needed)


def stratified(
    events: IntArray, trials: IntArray, sizes: IntArray, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Proportion of a population whose strata have `sizes` [h], and its interval, from `events`
    [h] in `trials` [h] of each: (value, low, high)."""
    weights, p = sizes / sizes.sum(), events / trials
    limits = np.array(
        [
            wilson(int(e), int(t), confidence, int(s))
            for e, t, s in zip(events, trials, sizes, strict=True)
        ]
    )
    down, up = (np.sqrt(((weights * (limits[:, i] - p)) ** 2).sum()) for i in (0, 1))
    value = float((weights * p).sum())
    return value, float(max(0.0, value - down)), float(min(1.0, value + up))


@dataclass(frozen=True)
class Looks:
    """A sample that grows until the interval of its rate is narrow enough.

    The rate is looked at when 1/2^9, 1/2^8, .. 1 of the largest sample are there. Each look uses
    an exact interval with a tenth of the error, so that all of them together hold with
    `confidence`, whichever is the last. At the latest the largest sample has half-width `margin`.
    """

    margin: float
    confidence: float = 0.95
    number: int = 10

    @property
    def each(self) -> float:
        """Confidence of the interval at one look."""
        return 1 - (1 - self.confidence) / self.number

    @property
    def sizes(self) -> list[int]:
        """Sample sizes at which the rate is looked at."""
        largest = sample_size(self.margin, self.each) + math.ceil(1 / self.margin)
        return [max(1, largest >> (self.number - 1 - i)) for i in range(self.number)]

    def interval(self, events: int, trials: int) -> tuple[float, float]:
        """The interval at a look, which holds at all of them."""
        return clopper_pearson(events, trials, self.each)

    def enough(self, events: int, trials: int) -> bool:
        """May the sample end here?"""
        low, high = self.interval(events, trials)
        return (high - low) / 2 <= self.margin


def vulnerable_bit_cycles(avf: float, ff_bits: int, initiation_interval: float) -> float:
    """What designs are compared by: AVF x flip-flop bits x cycles of one inference."""
    return avf * ff_bits * initiation_interval


@dataclass(frozen=True)
class Counts:
    """`events` [k] and `trials` [k] of k inputs; `scale` turns a proportion into the compared
    quantity (flip-flop bits x initiation interval)."""

    events: IntArray
    trials: IntArray
    scale: float = 1.0

    @property
    def value(self) -> float:
        """scale x all events / all trials."""
        return float(self.scale * self.events.sum() / self.trials.sum())

    def resampled(self, picks: IntArray) -> Floats:
        """The value of each row of `picks` [r, k], drawn input numbers; nan without trials."""
        trials = self.trials[picks].sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.scale * self.events[picks].sum(axis=1) / trials, np.float64)

    def exact(self, confidence: float) -> tuple[float, float]:
        """Clopper-Pearson over the faults, scaled."""
        low, high = clopper_pearson(int(self.events.sum()), int(self.trials.sum()), confidence)
        return self.scale * low, self.scale * high


def _percentiles(values: Floats, confidence: float) -> tuple[float, float]:
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(values, [tail, 100 - tail], method="inverted_cdf")
    return float(low), float(high)


def cluster_interval(
    counts: Counts, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of `counts.value` over resampled inputs."""
    rng = np.random.default_rng(seed)
    size = len(counts.trials)
    return _percentiles(counts.resampled(rng.integers(0, size, (RESAMPLES, size))), confidence)


@dataclass(frozen=True)
class Ratio:
    """a / b with its interval; None where b allows no bound (no event seen)."""

    value: float | None
    low: float
    high: float | None


def ratio(a: Counts, b: Counts, *, paired: bool, confidence: float = 0.95, seed: int = 0) -> Ratio:
    """a.value / b.value by cluster bootstrap; `paired` if both ran on the same inputs.

    With fewer than `ENOUGH_EVENTS` events on a side the bootstrap alone is too narrow (without
    any event it has no width): the quotient of the exact bounds is then included.
    """
    if paired and len(a.trials) != len(b.trials):
        raise ValueError("paired campaigns must have the same inputs")
    rng = np.random.default_rng(seed)
    first = rng.integers(0, len(a.trials), (RESAMPLES, len(a.trials)))
    second = first if paired else rng.integers(0, len(b.trials), (RESAMPLES, len(b.trials)))
    with np.errstate(invalid="ignore", divide="ignore"):
        values = a.resampled(first) / b.resampled(second)
    value = a.value / b.value if b.value else None
    low, high = (0.0, math.inf) if np.isnan(values).all() else _percentiles(values, confidence)
    if min(a.events.sum(), b.events.sum()) < ENOUGH_EVENTS:
        (a_low, a_high), (b_low, b_high) = a.exact(confidence), b.exact(confidence)
        low = min(low, a_low / b_high)
        high = max(high, a_high / b_low if b_low else math.inf)
    return Ratio(value, low, high if math.isfinite(high) else None)


def widest(rate: Mapping[str, Any]) -> tuple[float, float]:
    """The interval of a report's RATE over faults and that over inputs, the wider limit of each:
    without an event all inputs agree, and say nothing of how many faults were too few."""
    low, high = rate["low_inputs"], rate["high_inputs"]
    return min(rate["low"], low), max(rate["high"], high)
