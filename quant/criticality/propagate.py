"""From a changed tensor to the top-1 class: the integer graph run again from there on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..ir import ArgMax, Conv2d, Dense, Graph, IntArray, Node, Requantize
from ..reference import Reference

__all__ = ["Propagation"]

CHUNK_ELEMENTS = 1 << 20  # of the largest tensor that one batch of faulty images holds


class Propagation:
    """The fault-free run of some images, and the way from a faulty element to the top-1.

    `golden` holds every tensor by name, `top1` the class of each image: the arg-max of the output,
    or its value if the graph ends in ArgMax.
    """

    def __init__(self, graph: Graph, x: IntArray) -> None:
        self.model = Reference(graph)
        self.golden = self.model.execute(x)
        self.top1 = self._top1(self.golden[graph.output])

    def _top1(self, output: IntArray) -> IntArray:
        flat = output.reshape(len(output), -1)
        last = isinstance(self.model.graph.nodes[-1], ArgMax)
        top1: IntArray = flat[:, 0] if last else flat.argmax(axis=1)
        return top1

    def finish(self, node: Conv2d | Dense, words: IntArray, bits: int) -> IntArray:
        """The node's words from accumulators of `bits` bits, some of them beyond the proof."""
        table = node.requantize
        if isinstance(table, Requantize):
            largest = (int(table.multiplier.max()) << (bits - 1)) + (1 << int(table.shift.max()))
            if largest >= 1 << 63:  # int64 is proven for good words only
                return self.model.finish(node, words.astype(object)).astype(np.int64)
        return self.model.finish(node, words)

    def changed(self, name: str, places: list[IntArray], found: IntArray) -> Any:
        """Whether the top-1 changes, for each trial by itself: bool [trials].

        In trial t the channels of tensor `name` at `places` (image, then row and column of an
        image: [trials] each) become `found[t]` [channels].
        """
        changed = np.zeros(len(found), dtype=bool)
        seen = np.flatnonzero((found != self.golden[name][tuple(places)]).any(axis=1))
        nodes = self._downstream(name)
        sizes = [self.golden[name][0].size]
        sizes += [math.prod(self.model.shapes[node.name]) for node in nodes]
        step = max(1, CHUNK_ELEMENTS // max(sizes))
        for i in range(0, len(seen), step):
            part = seen[i : i + step]
            images = places[0][part]
            faulty = self.golden[name][images]
            faulty[(np.arange(len(part)), *(place[part] for place in places[1:]))] = found[part]
            changed[part] = self._run(nodes, name, images, faulty)
        return changed

    def tensors_changed(self, name: str, images: IntArray, faulty: IntArray) -> Any:
        """Whether the top-1 of `images` [n] changes when tensor `name` is `faulty` [n, *shape]."""
        changed = np.zeros(len(images), dtype=bool)
        differs = (faulty != self.golden[name][images]).reshape(len(images), -1).any(axis=1)
        seen = np.flatnonzero(differs)
        if len(seen):
            found = self._run(self._downstream(name), name, images[seen], faulty[seen])
            changed[seen] = found
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
