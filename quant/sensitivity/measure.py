"""Flips of random bits of every kind of word, in the integer graph with NumPy."""

from __future__ import annotations

import numpy as np

from ..criticality.propagate import Propagation
from ..errors import InputError
from ..ir import ArgMax, AvgPool, Conv2d, Dense, GlobalAvgPool, Graph, IntArray, MaxPool, Node
from ..serialize import digest
from .linear import linear_curves
from .records import LayerSensitivity, Sensitivity
from .reducing import argmax_curves, pool_curves, result_curves
from .trials import Trials

__all__ = ["MODULI", "measure"]

MODULI = (3, 7, 15, 255)
IMAGES, TRIALS = 64, 384


def measure(
    graph: Graph, x: IntArray, *, seed: int = 0, images: int = IMAGES, trials: int = TRIALS
) -> Sensitivity:
    """The sensitivities of every node, on the first `images` of `x` [n, *input_shape].

    `trials` flips of each kind of word, spread evenly over its bits and over the neurons; image,
    position and step drawn from `seed`. The standard error of a mean over bits is
    sqrt(p (1 - p) / trials). Raises InputError for an empty `x` or fewer than one trial.
    """
    if trials < 1 or images < 1 or not len(x):
        raise InputError(f"sensitivity: needs trials and images, not {trials} and {len(x)}")
    run = Propagation(graph, x[:images])
    layers = {}
    for i, node in enumerate(graph):
        rng = np.random.default_rng([seed, i])
        layers[node.name] = _layer(Trials(run, node, rng, trials))
    return Sensitivity(digest(graph), len(run.top1), trials, seed, layers)


def _layer(trials: Trials) -> LayerSensitivity:
    node = trials.node
    curves = {f"operand{port}": trials.operand(port) for port in range(len(node.inputs))}
    neurons: tuple[float, ...] = ()
    blind: dict[int, float] = {}
    match node:
        case Conv2d() | Dense():
            found, neurons = linear_curves(trials)
            curves |= found
            blind = _blind(trials, node)
        case MaxPool() | AvgPool() | GlobalAvgPool():
            curves |= pool_curves(trials)
        case ArgMax():
            curves |= argmax_curves(trials)
        case _:
            curves |= result_curves(trials)
    return LayerSensitivity(node.name, curves, neurons, blind)


def _blind(trials: Trials, node: Node) -> dict[int, float]:
    """Share of the operand's values other than 0 that a modulus divides: it misses their weights'
    flips."""
    values = trials.run.golden[node.inputs[0]]
    values = values[values != 0]
    return {m: float((values % m == 0).mean()) if len(values) else 0.0 for m in MODULI}
