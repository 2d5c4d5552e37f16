"""Which neurons matter: measured by flipping bits of their accumulators in the integer graph.

After the idea of Ruospo et al., "Selective Hardening of Critical Neurons in Deep Neural Networks"
(DDECS 2022): rank neurons, triplicate the critical few. Their score was not available to us; the
score here is our own: the share of accumulator bit flips of a neuron that change the top-1 class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import shapes
from .errors import InputError
from .ir import ArgMax, Conv2d, Dense, Graph, IntArray, Node, Requantize
from .reference import Reference

__all__ = ["choose", "macs_per_neuron", "neuron_scores"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
CHUNK_ELEMENTS = 1 << 20  # of the largest tensor that one batch of faulty images holds


def neuron_scores(
    graph: Graph, x: IntArray, *, seed: int, trials: int = 2000
) -> dict[str, FloatArray]:
    """Score of every neuron of each Conv2d and Dense by layer name: [out_channels], 0..1.

    A trial flips one bit of one accumulator: image of `x`, position and bit uniform, the bit within
    the proven width `acc_bits`, two's complement. The score is the share of `trials` in which the
    top-1 class (arg-max of the output, or its value if the graph ends in ArgMax) differs from the
    fault-free run; its standard error is sqrt(p (1 - p) / trials). Every layer has its own stream
    of random numbers from `seed`. Raises InputError for an empty `x` or fewer than one trial.
    """
    if trials < 1 or not len(x):
        raise InputError(f"criticality: needs trials and images, not {trials} and {len(x)}")
    injector = _Injector(graph, x)
    scores = {}
    for i, node in enumerate(graph):
        if isinstance(node, Conv2d | Dense):
            rng = np.random.default_rng([seed, i])
            neurons = np.repeat(np.arange(node.out_channels), trials)
            changed = injector.inject(node, neurons, rng)
            scores[node.name] = changed.reshape(-1, trials).mean(axis=1)
    return scores


def macs_per_neuron(graph: Graph) -> dict[str, int]:
    """Multiplications of one neuron for one image, by Conv2d or Dense layer."""
    sizes = shapes.infer(graph)
    return {
        node.name: math.prod(sizes[node.name][:-1]) * math.prod(node.weight.shape[1:])
        for node in graph
        if isinstance(node, Conv2d | Dense)
    }


def choose(
    scores: Mapping[str, FloatArray], macs: Mapping[str, int], share: float
) -> dict[str, list[int]]:
    """Neurons to protect, ascending, by layer: greedy by score per MAC within `share` of all MACs.

    `macs` is the cost of one neuron of each layer (`macs_per_neuron`). Equal ratios go in the order
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


class _Injector:
    """The fault-free run of some images, and the way from a faulty accumulator to the top-1."""

    def __init__(self, graph: Graph, x: IntArray) -> None:
        self.model = Reference(graph)
        self.golden = self.model.execute(x)
        self.top1 = self._top1(self.golden[graph.output])

    def _top1(self, output: IntArray) -> IntArray:
        flat = output.reshape(len(output), -1)
        last = isinstance(self.model.graph.nodes[-1], ArgMax)
        top1: IntArray = flat[:, 0] if last else flat.argmax(axis=1)
        return top1

    def inject(self, node: Conv2d | Dense, neurons: IntArray, rng: np.random.Generator) -> Any:
        """Whether the top-1 changes, for one random fault in each of `neurons`: bool [trials]."""
        acc = self.model.accumulate(node, [self.golden[name] for name in node.inputs])
        count, bits = len(neurons), self.model.ranges[node.name].acc_bits
        places = [rng.integers(0, n, count) for n in acc.shape[:-1]]  # image, row, column
        words = acc[tuple(places)]  # [trials, channels]: tables need a row for each channel
        trial = np.arange(count)
        words[trial, neurons] = _flipped(words[trial, neurons], rng.integers(0, bits, count), bits)
        found = self._finish(node, words, bits)[trial, neurons]
        seen = np.flatnonzero(found != self.golden[node.name][(*places, neurons)])
        spots = [place[seen] for place in (*places, neurons)]
        changed = np.zeros(count, dtype=bool)
        changed[seen] = self._propagate(node, spots, found[seen])
        return changed

    def _finish(self, node: Conv2d | Dense, words: IntArray, bits: int) -> IntArray:
        """Requantise faulty words; Python's integers where int64 is proven for good words only."""
        table = node.requantize
        if isinstance(table, Requantize):
            largest = (int(table.multiplier.max()) << (bits - 1)) + (1 << int(table.shift.max()))
            if largest >= 1 << 63:
                return self.model.finish(node, words.astype(object)).astype(np.int64)
        return self.model.finish(node, words)

    def _propagate(self, node: Node, spots: list[IntArray], found: IntArray) -> Any:
        """Whether the top-1 changes when element `spots` of the node's tensor becomes `found`."""
        nodes = self._downstream(node.name)
        largest = max(math.prod(self.model.shapes[n.name]) for n in [node, *nodes])
        step = max(1, CHUNK_ELEMENTS // largest)
        changed = np.zeros(len(found), dtype=bool)
        for i in range(0, len(found), step):
            part = slice(i, i + step)
            images = spots[0][part]
            faulty = self.golden[node.name][images]
            trial = np.arange(len(images))
            faulty[(trial, *(spot[part] for spot in spots[1:]))] = found[part]
            changed[part] = self._run(nodes, node.name, images, faulty)
        return changed

    def _downstream(self, name: str) -> list[Node]:
        """The nodes that depend on `name`, in order."""
        reached, nodes = {name}, []
        for node in self.model.graph:
            if reached.intersection(node.inputs):
                reached.add(node.name)
                nodes.append(node)
        return nodes

    def _run(self, nodes: list[Node], name: str, images: IntArray, faulty: IntArray) -> Any:
        """Evaluate `nodes` for a batch; a trial leaves once every tensor still read is golden."""
        trials = np.arange(len(images))
        changed = np.zeros(len(images), dtype=bool)
        live = {name: faulty}
        for i, node in enumerate(nodes):
            operands = [
                live[source] if source in live else self.golden[source][images]
                for source in node.inputs
            ]
            live[node.name] = self.model.evaluate(node, operands)
            needed = {source for later in nodes[i + 1 :] for source in later.inputs}
            needed.add(self.model.graph.output)
            live = {source: value for source, value in live.items() if source in needed}
            keep = np.zeros(len(images), dtype=bool)
            for source, value in live.items():
                differs = value != self.golden[source][images]
                keep |= differs.reshape(len(images), -1).any(axis=1)
            if not keep.all():
                trials, images = trials[keep], images[keep]
                live = {source: value[keep] for source, value in live.items()}
            if not len(images):
                return changed
        output = live[self.model.graph.output]
        changed[trials] = self._top1(output) != self.top1[images]
        return changed


def _flipped(words: IntArray, bit: IntArray, bits: int) -> IntArray:
    """Two's complement words of `bits` bits with one bit inverted; the sign bit wraps."""
    half = np.int64(1) << (bits - 1)
    raised = (words + half) ^ (np.int64(1) << bit)  # offset binary: the same bit is inverted
    result: IntArray = np.asarray(raised - half)
    return result
