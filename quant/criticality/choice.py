"""Which neurons to protect: the highest scores within a share of the multiplications."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import shapes
from ..errors import InputError
from ..ir import Conv2d, Dense, Graph

__all__ = ["choose", "macs_per_neuron", "risk"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


def macs_per_neuron(graph: Graph) -> dict[str, int]:
    """Multiplications of one neuron for one image, by Conv2d or Dense layer."""
    sizes = shapes.infer(graph)
    return {
        node.name: math.prod(sizes[node.name][:-1]) * math.prod(node.weight.shape[1:])
        for node in graph
        if isinstance(node, Conv2d | Dense)
    }


def risk(scores: Mapping[str, FloatArray], macs: Mapping[str, int]) -> dict[str, FloatArray]:
    """What a neuron's protection takes away: how much one wrong element matters, times the MACs of
    the neuron: so long it occupies multipliers and accumulators, where upsets strike it.

    Both by layer: `scores` [out_channels], `macs` of one neuron.
    """
    return {layer: values * macs[layer] for layer, values in scores.items()}


def choose(
    scores: Mapping[str, FloatArray], macs: Mapping[str, int], share: float
) -> dict[str, list[int]]:
    """Neurons to protect, ascending, by layer: greedy by score per MAC within `share` of all MACs.

    `scores` is what a neuron's protection is worth (`risk`), `macs` the cost of one neuron of each
    layer (`macs_per_neuron`). Equal ratios go in the order
    of layers and neurons. A neuron that no longer fits is passed over; one with score 0 is not
    taken, except that the result holds at least one neuron. Raises InputError for a share outside
    0..1 and for one too small for any neuron.
    """
    budget = share * sum(macs[layer] * len(values) for layer, values in scores.items())
    if not 0 < share <= 1 or budget < min(macs[layer] for layer in scores):
        raise InputError(f"share {share}: must lie in 0..1 and pay for one neuron; raise it")
    ranked = sorted(
        ((layer, i) for layer, values in scores.items() for i in range(len(values))),
        key=lambda item: -scores[item[0]][item[1]] / macs[item[0]],
    )
    chosen: dict[str, list[int]] = {}
    for layer, i in ranked:
        wanted = scores[layer][i] > 0 or not chosen
        if wanted and macs[layer] <= budget:
            budget -= macs[layer]
            chosen.setdefault(layer, []).append(i)
    return {layer: sorted(neurons) for layer, neurons in chosen.items()}
