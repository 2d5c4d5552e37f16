"""What a candidate is worth: its network trained, quantised and measured, its circuit estimated.

A network is trained once and kept under FOLDER/networks/DIGEST/; what its circuits cost takes
milliseconds. Everything follows from the space's seeds and the candidate.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ...hw.fold import Fold
from ...quant.errors import InputError
from ...quant.ir import Conv2d, Dense, Graph
from ...quant.names import printable
from ...quant.quantize import quantize_input
from .. import targets
from ..design import Design, prepare
from ..estimator import estimate_design
from ..folding import meeting
from ..resilience import resilience_estimate
from . import topology
from .candidate import Candidate, NetworkSpec
from .images import Images, load_images
from .objectives import COSTS, Own, is_own, load_own
from .space import Space
from .training import Trained, judge, trained, training_seed

__all__ = ["Evaluator", "folding"]

RECENT = 16
"""Networks, and graphs with the bounds of a plan, that are held in memory."""

Key = TypeVar("Key")

SHAPE: dict[str, Callable[[Graph], float]] = {
    "macs": topology.macs,
    "parameters": topology.parameters,
    "asi_fault": lambda graph: topology.asi(graph).per_fault,
    "asi_ber": lambda graph: topology.asi(graph).per_ber,
    "asi_worst": lambda graph: topology.asi(graph).worst,
    "adcr": topology.adcr,
}
"""Objectives of the graph alone."""


def folding(graph: Graph, candidate: Candidate) -> dict[str, Fold]:
    """The fewest multipliers that meet the candidate's interval, of its kind."""
    found = meeting(graph, candidate.interval)
    linear = {node.name for node in graph if isinstance(node, Conv2d | Dense)}
    return {
        name: replace(fold, multiplier=candidate.multiplier) if name in linear else fold
        for name, fold in found.items()
    }


class Evaluator:
    """Evaluates the candidates of a `space`; networks are kept in `folder`.

    Nothing is read or trained before it is asked for, and a copy in another process (it can be
    pickled) shares the folder.
    """

    def __init__(self, space: Space, folder: Path) -> None:
        self.space, self.folder = space, Path(folder)
        self._recent: dict[str, Trained] = {}
        self._bounded: dict[tuple[str, str], Trained] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.space, self.folder)

    @functools.cached_property
    def images(self) -> Images:
        """The images of the space, split."""
        return load_images(self.space.data)

    def train_network(self, spec: NetworkSpec) -> Trained:
        """The network trained and quantised, its error on the select images and its sensitivity.

        Kept in `folder`: a second call reads it. Raises InputError where it cannot be expressed in
        integers, or `folder` holds networks of another space.
        """
        digest = spec.digest
        if digest not in self._recent:
            found = trained(spec, self.space, lambda: self.images, self.folder)
            _keep(self._recent, digest, found)
        return self._recent[digest]

    def design(self, candidate: Candidate) -> Design:
        """The circuits of a candidate, configured. Raises InputError naming what is refused."""
        graph = self.train_network(candidate.network).graph
        plan = self.space.plan(candidate.plan_name)
        frames = quantize_input(graph, self.images.select_x)
        return prepare(graph, folding(graph, candidate), plan, frames)

    def evaluate(self, candidate: Candidate) -> dict[str, float]:
        """Every objective that the space asks for (`Space.asked`), by name.

        Raises InputError where circuits or target refuse the candidate, and whatever an objective
        of the user's own raises.
        """
        design, asked = self.design(candidate), self.space.asked
        judged = self._judged(candidate, design)
        found: dict[str, float] = {}
        if not {*COSTS}.isdisjoint(asked):
            found |= self._costs(design)
        if "error" in asked:
            found["error"] = judged.error
        if "vulnerable_bit_cycles" in asked:
            estimate = resilience_estimate(design, judged.sensitivity)
            found["vulnerable_bit_cycles"] = estimate.vulnerable_bit_cycles
        for name in asked:
            if name in SHAPE:
                found[name] = float(SHAPE[name](design.graph))
            elif is_own(name):
                found[name] = self._own(name, design)
        return {name: found[name] for name in asked}

    def _judged(self, candidate: Candidate, design: Design) -> Trained:
        """The network with the bounds of its plan: they change its graph."""
        network = self.train_network(candidate.network)
        if design.graph is network.graph:
            return network
        key = (candidate.network.digest, candidate.plan_name)
        if key not in self._bounded:
            seed = training_seed(candidate.network, self.space.train)
            _keep(self._bounded, key, judge(design.graph, self.images, seed))
        return self._bounded[key]

    def _costs(self, design: Design) -> dict[str, float]:
        cost = estimate_design(design, targets.find(self.space.target))
        return {name: float(cost[name]) for name in COSTS}

    @functools.cached_property
    def _owns(self) -> dict[str, Own]:
        names = [name for name in self.space.asked if is_own(name)]
        return {name: load_own(name, self.space.folder) for name in names}

    def _own(self, name: str, design: Design) -> float:
        value = self._owns[name](design.graph, design)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(
                f"objective {printable(name)}: gave {printable(repr(value))}, not a finite number"
            )
        return number


def _keep(recent: dict[Key, Trained], key: Key, value: Trained) -> None:
    """Hold `value`, and let go of the oldest where there are too many."""
    if len(recent) >= RECENT:
        del recent[next(iter(recent))]
    recent[key] = value
