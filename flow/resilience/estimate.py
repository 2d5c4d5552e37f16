"""Vulnerable bit-cycles of a design, predicted: bits x residency x sensitivity, by layer and role.

A register's share is the product of its bits (`flow.costs.ffs`, exact), of the cycles of a frame in
which it holds something that is read (from steps, passes and groups), and of the probability that
a flip then changes the class (`quant.sensitivity`; for control a measured constant). What the plan
detects, corrects or votes away is taken off. docs/resilience.md compares it with campaigns.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ...hw.config import INPUT, LayerConfig
from ...hw.configure import configure
from ...hw.fold import Fold, Protection
from ...hw.linear_config import LinearConfig
from ...hw.timing import initiation_interval
from ...quant.errors import InputError
from ...quant.ir import Graph, IntArray
from ...quant.sensitivity import LayerSensitivity, Sensitivity
from ...quant.serialize import digest
from ..costs.layer import forks, operand_lanes
from ..design import Design
from .coverage import Guards, covered
from .exposure import exposures

__all__ = ["LayerResilience", "Resilience", "RoleResilience", "resilience_estimate"]


@dataclass(slots=True)
class RoleResilience:
    """Registers of one role: `bits`; bit-cycles of a frame in which a flip changes the class
    (`critical_bit_cycles`), and those of them that the plan leaves (`vulnerable_bit_cycles`)."""

    bits: int = 0
    critical_bit_cycles: float = 0.0
    vulnerable_bit_cycles: float = 0.0


@dataclass(frozen=True)
class LayerResilience:
    """A layer with the converters before it and the forks behind it, by role."""

    name: str
    op: str
    roles: Mapping[str, RoleResilience] = field(default_factory=dict)

    @property
    def vulnerable_bit_cycles(self) -> float:
        """Of all roles."""
        return sum(role.vulnerable_bit_cycles for role in self.roles.values())


@dataclass(frozen=True)
class Resilience:
    """Predicted vulnerable bit-cycles of a design, comparable with those of a campaign.

    `avf` is P(critical SDC | one upset of any flip-flop in any cycle); `plain_bit_cycles` are those
    of the same folding without a plan, `ratio` what the plan leaves of them.
    """

    vulnerable_bit_cycles: float
    plain_bit_cycles: float
    ff_bits: int
    initiation_interval: int
    layers: tuple[LayerResilience, ...]

    @property
    def avf(self) -> float:
        """Critical upsets of all."""
        return self.vulnerable_bit_cycles / (self.ff_bits * self.initiation_interval)

    @property
    def ratio(self) -> float | None:
        """Share of the plain design's that is left; None if that has none."""
        plain = self.plain_bit_cycles
        return self.vulnerable_bit_cycles / plain if plain else None

    def to_json(self) -> dict[str, Any]:
        """All fields, with `avf`, `ratio` and the sum of each layer."""
        layers = [
            asdict(layer) | {"vulnerable_bit_cycles": layer.vulnerable_bit_cycles}
            for layer in self.layers
        ]
        return asdict(self) | {"layers": layers, "avf": self.avf, "ratio": self.ratio}


def resilience_estimate(design: Design, sensitivity: Sensitivity) -> Resilience:
    """What is predicted for a design, from the sensitivity of its graph; no file, no tool.

    Milliseconds at most, so that a search can ask for thousands of plans and foldings. Memories
    (weight stores, line buffers, FIFOs) are not registers and not in it. Raises InputError if the
    sensitivity was measured on another graph (a bound changes the graph).
    """
    if sensitivity.graph != _digest(design.graph):
        raise InputError(
            f"sensitivity: measured on another graph than {design.graph.name}; measure it again"
        )
    folding = tuple(sorted(design.folding.items()))
    plain = _plain(design.graph, folding, sensitivity)
    interval = initiation_interval(design.layers)
    layers = _layers(
        design.layers,
        sensitivity,
        design.protection,
        design.permutation,
        watchdog=design.plan.watchdog,
    )
    return Resilience(
        vulnerable_bit_cycles=sum(layer.vulnerable_bit_cycles for layer in layers),
        plain_bit_cycles=plain,
        ff_bits=sum(role.bits for layer in layers for role in layer.roles.values()),
        initiation_interval=interval,
        layers=layers,
    )


@functools.lru_cache(maxsize=8)
def _digest(graph: Graph) -> str:
    """Graphs compare by identity; writing one out takes longer than an estimate."""
    return digest(graph)


@functools.lru_cache(maxsize=4096)
def _plain(graph: Graph, folding: tuple[tuple[str, Fold], ...], table: Sensitivity) -> float:
    """Vulnerable bit-cycles of a folding without a plan."""
    layers = _layers(configure(graph, dict(folding)), table, {}, {}, watchdog=False)
    return sum(layer.vulnerable_bit_cycles for layer in layers)


def _layers(
    layers: tuple[LayerConfig, ...],
    sensitivity: Sensitivity,
    protection: Mapping[str, Protection],
    permutation: Mapping[str, IntArray],
    *,
    watchdog: bool,
) -> tuple[LayerResilience, ...]:
    interval = initiation_interval(layers)
    between = zip(layers, operand_lanes(layers), forks(layers), strict=True)
    reader = next(layer.name for layer in layers if INPUT in layer.sources)
    found = []
    for layer, lanes, behind in between:
        table = sensitivity.layers[layer.name]
        guards = Guards(layer, protection, reader, watchdog=watchdog)
        roles: dict[str, RoleResilience] = {}
        single, left = _replication(layer, permutation.get(layer.name), table)
        for one in exposures(layer, lanes, behind, table):
            cycles = interval if one.live is None else one.live
            critical = one.bits * cycles * one.probability
            remaining = 1.0 - covered(layer, one, guards, table)
            if one.lane:
                critical *= single
                remaining *= left
            if one.role == "control" and guards.own.control == "tmr":
                critical /= 3  # of the three copies one is what is read
            role = roles.setdefault(one.role, RoleResilience())
            role.bits += one.bits
            role.critical_bit_cycles += critical
            role.vulnerable_bit_cycles += critical * remaining
        found.append(LayerResilience(layer.name, layer.op, roles))
    return tuple(found)


def _replication(
    layer: LayerConfig, order: IntArray | None, table: LayerSensitivity
) -> tuple[float, float]:
    """(bit-cycles of the lanes without copies, in space or in time, by those with them; risk of the
    neurons that are not voted by that of all)."""
    if not isinstance(layer, LinearConfig) or not (layer.replicated or layer.repeated):
        return 1.0, 1.0
    single = layer.pe / (layer.pe + 2 * len(layer.replicated))
    single *= sum(layer.leaving) / len(layer.leaving)
    weights = np.array(table.neurons)
    places, lanes = np.arange(len(weights)), layer.pe // layer.pixels
    voted = np.isin(places % lanes, [lane % lanes for lane in layer.replicated])
    voted |= np.isin(places // layer.pe, layer.repeated) & np.isin(places % layer.pe, layer.voted)
    risk = weights if order is None else weights[np.asarray(order)]
    return single, float(risk[~voted].sum() / weights.sum())
