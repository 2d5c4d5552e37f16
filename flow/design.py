"""A design before any file is written: graph, folding, plan, and what every circuit looks like.

Nothing here needs Amaranth: the estimator and the build start from the same record.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..hw.config import LayerConfig
from ..hw.configure import Fold, Protection, circuit_nodes, configure
from ..hw.linear_config import LinearConfig
from ..hw.timing import Timing, recurrence
from ..hw.watchdog_config import WATCHDOG, WatchdogConfig, watchdog
from ..quant.errors import InputError
from ..quant.ir import Conv2d, Dense, Graph, IntArray
from ..quant.names import printable
from .folding import balance
from .passes.gather_neurons import Wanted, gather_neurons
from .plan import Plan, clip, protect

__all__ = ["Design", "arrange", "prepare"]

FRAMES = 5
"""Frames that the timing follows; the interval is that of the last two."""


@dataclass(frozen=True)
class Design:
    """A graph with its folding and protection, and the circuits' configuration.

    `permutation[layer]` is the neuron at each channel position of that layer's stream.
    """

    graph: Graph
    folding: Mapping[str, Fold]
    plan: Plan
    protection: Mapping[str, Protection]
    layers: tuple[LayerConfig, ...]
    permutation: Mapping[str, IntArray]

    def timing(self) -> Timing:
        """Beat times of the first frames."""
        return self._timing

    @property
    def watchdog(self) -> WatchdogConfig | None:
        """What guards the output, if the plan asks for it."""
        return watchdog(self.layers, self.timing()) if self.plan.watchdog else None

    @functools.cached_property
    def _timing(self) -> Timing:
        return recurrence(self.layers, FRAMES)


def prepare(
    graph: Graph,
    folding: Mapping[str, Fold] | None = None,
    plan: Plan | None = None,
    select_x: IntArray | None = None,
) -> Design:
    """Choose folding, place the protected neurons, configure the circuits; writes nothing.

    Layers that `folding` does not name get one lane; None balances them all. `select_x` are frames
    [n, *input_shape] to score neurons on. Raises InputError naming the layer.
    """
    plan = plan or Plan()
    graph = clip(plan, graph, select_x)
    folding = _complete(graph, folding) if folding is not None else balance(graph)
    return arrange(graph, folding, plan, protect(plan, graph, select_x))


def _complete(graph: Graph, folding: Mapping[str, Fold]) -> dict[str, Fold]:
    names, known = [node.name for node in circuit_nodes(graph)], {node.name for node in graph}
    for name in folding:
        if name not in known:
            raise InputError(
                f"folding: no layer {printable(name)!r}; the graph has {', '.join(names)}"
            )
    return {name: folding.get(name, Fold()) for name in names}


def arrange(
    graph: Graph,
    folding: Mapping[str, Fold],
    plan: Plan,
    protection: Mapping[str, Protection],
) -> Design:
    """The design whose protected neurons (in the graph's order) are known already."""
    moved, permutation = gather_neurons(graph, _wanted(graph, folding, protection))
    placed = {
        name: replace(guard, neurons=_positions(guard.neurons, permutation.get(name)))
        for name, guard in protection.items()
    }
    layers = configure(moved, folding, placed)
    if plan.watchdog and any(layer.name == WATCHDOG for layer in layers):
        raise InputError(f"layer {WATCHDOG}: has the name of the plan's watchdog; rename the layer")
    forms = {layer.name: layer.form for layer in layers if isinstance(layer, LinearConfig)}
    decided = {
        name: replace(guard, form=forms[name]) if guard.form == "auto" else guard
        for name, guard in protection.items()
    }
    return Design(graph, folding, plan, decided, layers, permutation)


def _wanted(
    graph: Graph, folding: Mapping[str, Fold], protection: Mapping[str, Protection]
) -> dict[str, Wanted]:
    """The neurons to gather; what is hardened costs the weight bits that it multiplies at once."""
    found = {}
    for name, guard in protection.items():
        if guard.neurons:
            node, fold = graph.node(name), folding[name]
            assert isinstance(node, Conv2d | Dense)
            temporal = guard.mode == "temporal"
            cost = fold.simd * node.weight_bits * (fold.pe if temporal else 1)
            found[name] = Wanted(guard.neurons, fold.pe, temporal, cost)
    return found


def _positions(neurons: tuple[int, ...], order: IntArray | None) -> tuple[int, ...]:
    """Channel positions of neurons in a permuted stream."""
    if order is None:
        return neurons
    where = np.argsort(order)
    return tuple(int(where[n]) for n in neurons)
