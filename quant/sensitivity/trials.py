"""One node's trials: where the flips fall, and what becomes of them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..criticality.injection import flipped
from ..criticality.propagate import Propagation
from ..ir import Conv2d, Dense, IntArray, Node, TensorType

__all__ = ["Trials", "curve", "flip_element"]

CHUNK = 64  # trials of which whole operands are held at once


class Trials:
    """`count` trials on the result of `node`: an image and a position each, and a neuron."""

    def __init__(self, run: Propagation, node: Node, rng: np.random.Generator, count: int) -> None:
        self.run, self.node, self.rng, self.count = run, node, rng, count
        self.golden = run.golden[node.name]
        self.trial = np.arange(count)

    def places(self) -> list[IntArray]:
        """Image, then row and column of an image, of each trial."""
        return [self.rng.integers(0, n, self.count) for n in self.golden.shape[:-1]]

    def channels(self) -> IntArray:
        """The neuron of each trial: all of them in turn, so that each has its share."""
        start = int(self.rng.integers(self.golden.shape[-1]))
        return (start + self.trial) % int(self.golden.shape[-1])

    def bits(self, width: int) -> IntArray:
        """The bit of each trial: in random order, each as often as the others."""
        return self.rng.permutation(self.trial % width)

    @functools.cached_property
    def acc(self) -> IntArray:
        """The node's accumulators."""
        return self.run.model.accumulate(
            self.node, [self.run.golden[name] for name in self.node.inputs]
        )

    def finished(self, places: list[IntArray], words: IntArray) -> IntArray:
        """Results [trials, channels] of accumulators that stand at `places`."""
        node, run = self.node, self.run
        if isinstance(node, Conv2d | Dense):
            return run.finish(node, words, run.model.ranges[node.name].acc_bits)
        found = np.empty_like(words)
        for i in range(0, self.count, CHUNK):  # tables may depend on the position
            part = slice(i, i + CHUNK)
            whole = self.acc[places[0][part]]
            at = (np.arange(len(whole)), *(place[part] for place in places[1:]))
            whole[at] = words[part]
            found[part] = run.model.finish(node, whole)[at]
        return found

    def outcome(self, places: list[IntArray], words: IntArray) -> Any:
        """Whether the top-1 changes when the accumulators at `places` become `words`."""
        return self.run.changed(self.node.name, places, self.finished(places, words))

    def operand(self, port: int) -> tuple[float, ...]:
        """Curve of an element of an operand, for all that this node reads of it."""
        run, name = self.run, self.node.inputs[port]
        golden, kind = run.golden[name], run.model.types[name]
        places = [self.rng.integers(0, n, self.count) for n in golden.shape]
        bits = self.bits(kind.bits)
        found = flip_element(golden[tuple(places)], bits, kind)
        changed = np.zeros(self.count, dtype=bool)
        for i in range(0, self.count, CHUNK):
            part = slice(i, i + CHUNK)
            images = places[0][part]
            operands = [run.golden[other][images] for other in self.node.inputs]
            at = (np.arange(len(images)), *(place[part] for place in places[1:]))
            operands[port] = operands[port].copy()
            operands[port][at] = found[part]
            result = run.model.evaluate(self.node, operands)
            changed[part] = run.tensors_changed(self.node.name, images, result)
        return curve(changed, bits, kind.bits)


def curve(changed: Any, bits: IntArray, width: int) -> tuple[float, ...]:
    """Share of trials whose top-1 changed, by bit; a bit without a trial has the mean."""
    hits = np.bincount(bits[changed], minlength=width)
    trials = np.bincount(bits, minlength=width)
    mean = float(np.mean(changed))
    return tuple(
        float(h / n) if n else mean for h, n in zip(hits.tolist(), trials.tolist(), strict=True)
    )


def flip_element(words: IntArray, bits: IntArray, kind: TensorType) -> IntArray:
    """Elements of a type with one bit inverted."""
    if kind.bipolar:
        return -words
    if kind.signed:
        return flipped(words, bits, kind.bits)
    return words ^ (np.int64(1) << bits)
