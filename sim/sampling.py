"""Fault models, and the experiments that a campaign draws from them.

All draws are uniform over sites x cycles of the window, from one seed, before any engine runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..quant.errors import InputError
from ..quant.ir import IntArray
from ..quant.names import printable
from .faults import PERMANENT, Faults
from .targets import Kind, Targets
from .testbed import Testbed

__all__ = [
    "KINDS",
    "Complete",
    "FaultModel",
    "Listed",
    "Population",
    "draw",
    "population",
    "upsets_per_inference",
]

KINDS = ("seu", "mbu", "stuck0", "stuck1", "memory", "config")

Rng = np.random.Generator
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class FaultModel:
    """What an experiment does to the design.

    `kind` is one of `KINDS`; `bits` neighbours of an mbu; `cycles` that a stuck-at holds, None for
    ever. `per_inference` upsets strike each inference, or a Poisson number at `rate` upsets per
    bit and cycle. `layers` and `roles` restrict the sites. Raises InputError for what cannot be.
    """

    kind: str = "seu"
    bits: int | None = None
    cycles: int | None = None
    per_inference: int | None = None
    rate: float | None = None
    layers: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"fault must be one of {', '.join(KINDS)}, not {printable(self.kind)}")
        if self.bits is not None and (self.kind != "mbu" or self.bits < 2):
            raise InputError("bits is the number of neighbours of fault mbu, 2 or more")
        if self.cycles is not None and (not self.stuck or self.cycles < 1):
            raise InputError("cycles is how long a stuck-at holds, 1 or more")
        if self.per_inference is not None and self.rate is not None:
            raise InputError("give either per-inference or rate")
        if self.several and (self.stuck or self.kind == "config"):
            raise InputError("per-inference and rate are for upsets, not for lasting faults")
        if self.per_inference is not None and self.per_inference < 1:
            raise InputError("per-inference must be at least 1")
        if self.rate is not None and not 0 < self.rate < 1:
            raise InputError("rate must lie between 0 and 1 upsets per bit and cycle")

    @property
    def stuck(self) -> bool:
        """Is it a stuck-at?"""
        return self.kind.startswith("stuck")

    @property
    def several(self) -> bool:
        """May several upsets strike one inference at different cycles?"""
        return self.per_inference is not None or self.rate is not None

    @property
    def neighbours(self) -> int:
        """Bits that one event of an mbu inverts."""
        return self.bits or 2

    @property
    def where(self) -> Kind:
        """Kind of the sites it strikes."""
        return {"memory": "memory", "config": "config"}.get(self.kind, "register")  # type: ignore

    @property
    def text(self) -> str:
        """The model in a line, with what it leaves out."""
        lasting = "for ever" if self.cycles is None else f"for {self.cycles} cycles"
        what = {
            "seu": "single-event upset of one flip-flop bit",
            "mbu": f"upset of {self.neighbours} neighbouring flip-flop bits",
            "stuck0": f"one flip-flop bit stuck at 0 {lasting}",
            "stuck1": f"one flip-flop bit stuck at 1 {lasting}",
            "memory": "upset of one memory bit",
            "config": "one configuration bit inverted for good",
        }[self.kind]
        if self.per_inference is not None:
            what += f", {self.per_inference} in each inference"
        if self.rate is not None:
            what += f", Poisson arrivals at {self.rate:g} per bit and cycle"
        for key, names in (("layer", self.layers), ("role", self.roles)):
            if names:
                what += f", {key} {' or '.join(names)} only"
        others = {"register": "flip-flops", "memory": "memories", "config": "configuration"}
        left = [name for kind, name in others.items() if kind != self.where]
        return f"{what}; {' and '.join(left)} not"


@dataclass(frozen=True)
class Population:
    """The faults that a campaign draws from: `targets` [m] x the cycles of the window."""

    model: FaultModel
    targets: IntArray
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of different faults (of one event)."""
        return len(self.targets) * (self.stop - self.start)

    def at(self, numbers: IntArray) -> tuple[IntArray, IntArray]:
        """Target [n] and cycle [n] of faults numbered by cycle, then target."""
        bits = len(self.targets)
        return self.targets[numbers % bits], self.start + numbers // bits


def population(model: FaultModel, targets: Targets, testbed: Testbed) -> Population:
    """InputError if the model's filters leave no site."""
    return Population(
        model, targets.choose(model.where, model.layers, model.roles), *testbed.window
    )


class Listed:
    """Experiments that were drawn."""

    grain = 1

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def __len__(self) -> int:
        return len(self._faults)

    def take(self, numbers: IntArray) -> Faults:
        """The experiments of these numbers."""
        return self._faults.take(numbers)


class Complete:
    """Every single upset of a population, cycle by cycle; `grain` upsets a cycle."""

    def __init__(self, everything: Population) -> None:
        self._all, self.grain = everything, len(everything.targets)

    def __len__(self) -> int:
        return self._all.size

    def take(self, numbers: IntArray) -> Faults:
        """The experiments of these numbers."""
        target, cycle = self._all.at(numbers)
        return Faults.single(cycle, target)


def draw(
    source: Population,
    targets: Targets,
    testbed: Testbed,
    count: int,
    seed: int,
    strata: IntArray | None = None,
) -> Listed:
    """`count` experiments. Single events are drawn without replacement; `strata` [m] are numbers
    of the strata of `source.targets`, drawn from in proportion to their sizes.

    Raises InputError if there are fewer different faults, or fewer faults than strata.
    """
    rng, model = np.random.default_rng(seed), source.model
    if model.several:
        return Listed(_several(source, targets, testbed, count, rng))
    if count > source.size:
        raise InputError(
            f"{count} faults: there are only {source.size} different ones; take fewer, or all of "
            "them with --exhaustive"
        )
    if strata is None:
        numbers = rng.choice(source.size, count, replace=False)
    else:
        numbers = _stratified(source, strata, count, rng)
    target, cycle = source.at(np.asarray(numbers, np.int64))
    if model.stuck:
        stop = cycle + model.cycles if model.cycles else np.full(count, PERMANENT)
        value = np.full(count, int(model.kind == "stuck1"))
        return Listed(Faults.stuck(cycle, stop, target, value))
    if model.kind == "mbu":
        groups, first = _clusters(source, targets, target)
        return Listed(Faults.flips(cycle, first, groups))
    return Listed(Faults.single(cycle, target))


def _stratified(source: Population, strata: IntArray, count: int, rng: Rng) -> IntArray:
    """Fault numbers, stratum after stratum: n_h ~ N_h by largest remainder, at least one."""
    sizes = np.bincount(strata)
    cycles, bits = source.stop - source.start, len(source.targets)
    if count < len(sizes):
        raise InputError(f"{count} faults: fewer than the {len(sizes)} strata; take more")
    exact = count * sizes / sizes.sum()
    share = np.maximum(np.floor(exact).astype(np.int64), 1)
    order = np.argsort(np.floor(exact) - exact, kind="stable")
    short = count - int(share.sum())
    share[order[: max(short, 0)]] += 1
    for _ in range(max(-short, 0)):  # strata that were lifted to one take from the largest
        share[share.argmax()] -= 1
    parts = []
    for stratum, (size, number) in enumerate(zip(sizes, share, strict=True)):
        drawn = rng.choice(int(size) * cycles, int(number), replace=False)
        members = np.flatnonzero(strata == stratum)
        parts.append(drawn // size * bits + members[drawn % size])
    return np.concatenate(parts)


def _clusters(source: Population, targets: Targets, anchor: IntArray) -> tuple[IntArray, IntArray]:
    """Targets of the run of neighbours that holds each anchor, and where each run begins.

    Neighbours are consecutive bits of one register, then of the next register by name, within one
    lane of one layer. A run does not leave its lane; a lane with fewer bits is struck whole.
    """
    sites = [targets.sites[n] for n in np.unique(targets.owner[source.targets])]
    sites.sort(key=lambda s: (s.layer, -1 if s.lane is None else s.lane, s.name))
    line = np.concatenate([site.targets for site in sites])
    group = np.repeat(
        np.unique([f"{s.layer} {s.lane}" for s in sites], return_inverse=True)[1],
        [len(site.targets) for site in sites],
    )
    edges = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
    place = np.empty(targets.owner.size, np.int64)
    place[line] = np.arange(len(line))
    at = place[anchor]
    which = np.searchsorted(edges, at, side="right")
    low, high = edges[which - 1], edges[which]
    begin = np.maximum(np.minimum(at, high - source.model.neighbours), low)
    length = np.minimum(source.model.neighbours, high - begin)
    first = np.concatenate(([0], np.cumsum(length)))
    rows = np.arange(first[-1]) + np.repeat(begin - first[:-1], length)
    return line[rows], first


def _several(
    source: Population, targets: Targets, testbed: Testbed, count: int, rng: Rng
) -> Faults:
    """`count` inferences with one upset or more, uniform over the bits and cycles of each."""
    edges = _inferences(source, testbed)
    which = rng.integers(0, len(edges) - 1, count)
    if source.model.rate is not None:  # an inference with an upset, not any
        struck = -np.expm1(-_means(source, np.diff(edges)))
        which = rng.choice(len(struck), count, p=struck / struck.sum())
    low, high = edges[which], edges[which + 1]
    number = _numbers(source, high - low, rng)
    events = np.repeat(np.arange(count), number)
    cycle, target = np.empty(len(events), np.int64), np.empty(len(events), np.int64)
    again = np.arange(len(events))
    for _ in range(1000):
        cycle[again] = rng.integers(low[events[again]], high[events[again]])
        target[again] = source.targets[rng.integers(0, len(source.targets), len(again))]
        again = _repeated(events, cycle, target)
        if not len(again):
            break
    else:
        raise InputError("more upsets in an inference than it has different ones; take fewer")
    if source.model.kind == "mbu":
        target, first = _clusters(source, targets, target)
        cycle, events = (np.repeat(column, np.diff(first)) for column in (cycle, events))
    order = np.lexsort((target, cycle, events))
    events, cycle, target = events[order], cycle[order], target[order]
    kept = np.setdiff1d(np.arange(len(events)), _repeated(events, cycle, target))
    first = np.concatenate(([0], np.cumsum(np.bincount(events[kept], minlength=count))))
    flips = np.zeros(len(kept), np.int64)
    return Faults(first, target[kept], flips, cycle[kept], cycle[kept] + 1)


def _inferences(source: Population, testbed: Testbed) -> IntArray:
    """First cycle of each inference of the window, and the end of the window."""
    owner = testbed.input_of(np.arange(source.start, source.stop))
    changes = np.flatnonzero(np.diff(owner)) + 1
    return source.start + np.concatenate(([0], changes, [len(owner)]))


def _numbers(source: Population, cycles: IntArray, rng: Rng) -> IntArray:
    """Upsets [n] of each inference; at least one, see `FaultModel`."""
    if source.model.rate is None:
        return np.full(len(cycles), source.model.per_inference, np.int64)
    mean = _means(source, cycles)
    # The first arrival given that there is one, then a Poisson number in the time that is left.
    uniform = rng.random(len(cycles))
    arrival = -np.log1p(uniform * np.expm1(-mean))
    return 1 + rng.poisson(np.maximum(mean - arrival, 0))


def _repeated(*columns: IntArray) -> IntArray:
    """Rows that an earlier row equals."""
    order = np.lexsort(columns)
    same = np.ones(max(len(order) - 1, 0), bool)
    for column in columns:
        same &= np.diff(column[order]) == 0
    return np.sort(order[1:][same])


def upsets_per_inference(source: Population, testbed: Testbed) -> tuple[float, float]:
    """Expected upsets of an inference at the model's rate, and the share of inferences without."""
    means = _means(source, np.diff(_inferences(source, testbed)))
    return float(means.mean()), float(np.exp(-means).mean())


def _means(source: Population, cycles: IntArray) -> Floats:
    """Expected upsets of inferences that take so many cycles."""
    return np.asarray((source.model.rate or 0.0) * len(source.targets) * cycles, np.float64)
