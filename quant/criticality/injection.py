"""Measured scores: bits of a neuron are flipped in the integer graph, changes of the top-1 counted.

After the idea of Ruospo et al., "Selective Hardening of Critical Neurons in Deep Neural Networks"
(DDECS 2022): rank neurons, triplicate the critical few. Their score was not available to us; the
scores here are our own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InputError
from ..ir import Conv2d, Dense, Graph, IntArray, TensorType
from .propagate import Propagation

__all__ = ["flipped", "msb_scores", "neuron_scores"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

TRIALS, LEAST = 1_000_000, 2000
"""Flips in all, shared among the neurons, and the fewest of each: where one wrong element in 200
changes the class, 2000 flips leave an error of a third, as large as neurons differ."""
BATCH = 2000
"""Flips of each neuron of a layer that are held at once."""


def neuron_scores(
    graph: Graph, x: IntArray, *, seed: int, trials: int | None = None
) -> dict[str, FloatArray]:
    """Score of every neuron of each Conv2d and Dense by layer name: [out_channels], 0..1.

    A trial flips one bit of one accumulator: image of `x`, position and bit uniform, the bit within
    the proven width `acc_bits`, two's complement. The score is the share of `trials` of a neuron
    (default: `TRIALS` shared among all neurons, but `LEAST` of each) in which the top-1 class
    (arg-max of the output, or its value if the graph ends in ArgMax) differs from the fault-free
    run; its standard error is sqrt(p (1 - p) / trials). Every layer has its own stream of random
    numbers from `seed`. Raises InputError for an empty `x` or fewer than one trial.
    """
    linear = [node for node in graph if isinstance(node, Conv2d | Dense)]
    if trials is None:
        trials = max(LEAST, TRIALS // max(1, sum(node.out_channels for node in linear)))
    if trials < 1 or not len(x):
        raise InputError(f"criticality: needs trials and images, not {trials} and {len(x)}")
    run = Propagation(graph, x)
    scores = {}
    for i, node in enumerate(graph):
        if isinstance(node, Conv2d | Dense):
            rng = np.random.default_rng([seed, i])
            hits = np.zeros(node.out_channels)
            acc = run.model.accumulate(node, [run.golden[name] for name in node.inputs])
            for first in range(0, trials, BATCH):
                each = min(BATCH, trials - first)
                neurons = np.repeat(np.arange(node.out_channels), each)
                hits += _strike(run, node, acc, neurons, rng).reshape(-1, each).sum(axis=1)
            scores[node.name] = hits / trials
    return scores


def _strike(
    run: Propagation,
    node: Conv2d | Dense,
    acc: IntArray,
    neurons: IntArray,
    rng: np.random.Generator,
) -> Any:
    """Whether the top-1 changes, for one random fault in each of `neurons`: bool [trials]."""
    count, bits = len(neurons), run.model.ranges[node.name].acc_bits
    places = [rng.integers(0, n, count) for n in acc.shape[:-1]]  # image, row, column
    words = acc[tuple(places)]  # [trials, channels]: tables need a row for each channel
    trial = np.arange(count)
    words[trial, neurons] = flipped(words[trial, neurons], rng.integers(0, bits, count), bits)
    found = run.golden[node.name][tuple(places)]
    found[trial, neurons] = run.finish(node, words, bits)[trial, neurons]
    return run.changed(node.name, places, found)


def msb_scores(graph: Graph, x: IntArray, *, seed: int) -> dict[str, FloatArray]:
    """Share of the images of `x` whose top-1 changes when the MSB of a neuron's result flips.

    By layer name, [out_channels]. In each image the most significant bit (of two's complement, the
    sign) of one element of the channel flips, at a position drawn from `seed`, as the layer
    delivers it: requantised, or the raw accumulator. Raises InputError for an empty `x`.
    """
    if not len(x):
        raise InputError("criticality: needs images, not 0")
    run = Propagation(graph, x)
    scores = {}
    for i, node in enumerate(graph):
        if isinstance(node, Conv2d | Dense):
            rng = np.random.default_rng([seed, i])
            golden, channels = run.golden[node.name], node.out_channels
            neurons = np.repeat(np.arange(channels), len(x))
            places = [np.tile(np.arange(len(x)), channels)]
            places += [rng.integers(0, n, len(neurons)) for n in golden.shape[1:-1]]
            found, trial = golden[tuple(places)], np.arange(len(neurons))
            kind = run.model.types[node.name]
            found[trial, neurons] = _inverted(found[trial, neurons], kind)
            scores[node.name] = run.changed(node.name, places, found).reshape(channels, -1).mean(1)
    return scores


def _inverted(words: IntArray, kind: TensorType) -> IntArray:
    """The words with their most significant bit inverted."""
    if kind.bipolar:
        return -words
    if kind.signed:
        return flipped(words, np.full(len(words), kind.bits - 1), kind.bits)
    return words ^ (np.int64(1) << (kind.bits - 1))


def flipped(words: IntArray, bit: IntArray, bits: Any) -> IntArray:
    """Two's complement words of `bits` bits with one bit inverted; the sign bit wraps."""
    half = np.int64(1) << (bits - 1)
    raised = (words + half) ^ (np.int64(1) << bit)  # offset binary: the same bit is inverted
    result: IntArray = np.asarray(raised - half)
    return result
