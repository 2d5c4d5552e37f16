"""Curves of a convolution or dense layer: what its multipliers, sums and rescaling do to a flip."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..criticality.injection import flipped
from ..ir import Conv2d, Dense, IntArray, Requantize
from .records import LANES
from .trials import Trials, curve, flip_element

__all__ = ["linear_curves"]

Curves = dict[str, tuple[float, ...]]
PRIOR = 8.0
"""Trials at the layer's mean that stand beside a neuron's own."""


def linear_curves(trials: Trials) -> tuple[Curves, tuple[float, ...]]:
    """The curves of the layer, and its neurons relative to their mean."""
    linear = _Linear(trials)
    curves = {name: linear.sums(name) for name in ("product", "partial", "acc", "weight")}
    for lanes in LANES:
        if lanes == 1 or lanes <= linear.outputs:
            curves[f"act{lanes}"] = linear.act(lanes)
    if isinstance(linear.node.requantize, Requantize):
        curves["total"] = linear.total()
        if len(linear.node.requantize.multiplier) > 1:
            curves["multiplier"] = linear.multiplier()
    curves["result"] = linear.result()
    return curves, linear.neurons()


class _Linear:
    """Windows, weights and prefix sums of random neurons at random places."""

    def __init__(self, trials: Trials) -> None:
        assert isinstance(trials.node, Conv2d | Dense)
        self.trials, self.node, self.run = trials, trials.node, trials.run
        model = trials.run.model
        self.acc_bits = model.ranges[self.node.name].acc_bits
        self.kind = model.types[self.node.inputs[0]]
        self.groups = self.node.groups if isinstance(self.node, Conv2d) else 1
        self.outputs = self.node.out_channels // self.groups
        self.weights = self.node.weight.reshape(self.node.out_channels, -1)
        self.hits = np.zeros(self.node.out_channels)
        self.seen = np.zeros(self.node.out_channels)

    def _draw(self) -> tuple[list[IntArray], IntArray, IntArray]:
        """Places, neurons, and the elements [trials, terms] of their windows as they are stored."""
        places, neurons = self.trials.places(), self.trials.channels()
        operand = self.run.golden[self.node.inputs[0]]
        if isinstance(self.node, Dense):
            return places, neurons, operand[places[0]]
        node = self.node
        top, left, bottom, right = node.padding
        sides = ((0, 0), (top, bottom), (left, right), (0, 0))
        image = np.pad(operand, sides, constant_values=self.kind.zero_point)
        rows, columns = (
            place[:, None] * stride + np.arange(k) * dilation
            for place, stride, k, dilation in zip(
                places[1:], node.stride, node.kernel, node.dilation, strict=True
            )
        )
        per_group = operand.shape[-1] // node.groups
        group = neurons // self.outputs
        channels = group[:, None] * per_group + np.arange(per_group)
        found = image[
            places[0][:, None, None, None],
            rows[:, :, None, None],
            columns[:, None, :, None],
            channels[:, None, None, :],
        ]
        return places, neurons, found.reshape(len(neurons), -1)

    def sums(self, name: str) -> tuple[float, ...]:
        """A flip in a product, a running or complete sum, or a weight for one product."""
        trials, trial = self.trials, self.trials.trial
        places, neurons, elements = self._draw()
        terms = elements * self.weights[neurons]
        step = trials.rng.integers(0, terms.shape[1], trials.count)
        words = trials.acc[tuple(places)]
        complete = words[trial, neurons]
        if name == "weight":
            width = self.node.weight_bits
            bits = trials.bits(width)
            old = self.weights[neurons, step]
            new = -old if self.node.weight_bipolar else flipped(old, bits, width)
            change = (new - old) * elements[trial, step]
        else:
            start = {"product": terms[trial, step], "acc": complete}
            if name == "partial":
                after = (np.cumsum(terms, axis=1)[:, -1:] - np.cumsum(terms, axis=1))[trial, step]
                start["partial"] = complete - after
            width = self._product_bits() if name == "product" else self.acc_bits
            bits = trials.bits(width)
            change = self._flips(start[name], bits, width) - start[name]
        words[trial, neurons] = self._wrapped(complete + change)
        changed = trials.outcome(places, words)
        if name != "weight":
            np.add.at(self.hits, neurons, changed)
            np.add.at(self.seen, neurons, 1)
        return curve(changed, bits, width)

    def _flips(self, words: IntArray, bits: IntArray, width: int) -> IntArray:
        if width == 1:  # both operands bipolar: the product's bit is its sign
            return -words
        return flipped(words, bits, width)

    def _product_bits(self) -> int:
        """Bits of a product register, as in `hw.linear_config`."""
        bipolar = self.kind.bipolar or self.node.weight_bipolar
        if self.kind.bipolar and self.node.weight_bipolar:
            return 1
        extra = not bipolar and not self.kind.signed
        return self.kind.bits + self.node.weight_bits + extra

    def _wrapped(self, words: IntArray) -> IntArray:
        half = np.int64(1) << (self.acc_bits - 1)
        found: IntArray = ((words + half) & (2 * half - 1)) - half
        return found

    def act(self, lanes: int) -> tuple[float, ...]:
        """A flip in an element that `lanes` neurons of a group multiply in the same step."""
        trials, trial = self.trials, self.trials.trial
        places, neurons, elements = self._draw()
        step = trials.rng.integers(0, elements.shape[1], trials.count)
        old = elements[trial, step]
        bits = trials.bits(self.kind.bits)
        change = flip_element(old, bits, self.kind) - old
        group, place = neurons // self.outputs, neurons % self.outputs
        first = group * self.outputs + place // lanes * lanes
        many = first[:, None] + np.arange(lanes)
        inside = many < ((group + 1) * self.outputs)[:, None]
        many = np.where(inside, many, first[:, None])
        change = np.where(inside, change[:, None] * self.weights[many, step[:, None]], 0)
        words = trials.acc[tuple(places)]
        np.add.at(words, (trial[:, None], many), change)
        return curve(trials.outcome(places, self._wrapped(words)), bits, self.kind.bits)

    def _rescaled(self) -> tuple[list[IntArray], IntArray, IntArray, Any, Any]:
        """Places, neurons, their accumulators, multipliers and shifts."""
        table = self.node.requantize
        assert isinstance(table, Requantize)
        places, neurons = self.trials.places(), self.trials.channels()
        acc = self.trials.acc[tuple(places)][self.trials.trial, neurons]
        m, s = (
            np.broadcast_to(values, (self.node.out_channels,))[neurons].astype(object)
            for values in (table.multiplier, table.shift)
        )
        return places, neurons, acc, m, s

    def _clamped(self, places: list[IntArray], neurons: IntArray, total: Any) -> Any:
        """Whether the top-1 changes when the rounded sums of the neurons become `total`."""
        table = self.node.requantize
        assert isinstance(table, Requantize)
        low, high = table.limits
        q = np.clip(total + table.out.zero_point, low, high).astype(np.int64)
        if table.bound is not None:
            bound = np.broadcast_to(table.bound, (self.node.out_channels,))[neurons]
            instead = bound if table.bound_kind == "saturate" else table.out.zero_point
            q = np.where(q > bound, instead, q)
        return self._results(places, neurons, q)

    def _results(self, places: list[IntArray], neurons: IntArray, q: IntArray) -> Any:
        found = self.trials.golden[tuple(places)]
        found[self.trials.trial, neurons] = q
        return self.run.changed(self.node.name, places, found)

    def total(self) -> tuple[float, ...]:
        """A flip in the scaled and rounded sum, before the zero point and the clamp."""
        table = self.node.requantize
        assert isinstance(table, Requantize)
        places, neurons, acc, m, s = self._rescaled()
        shift = int(table.shift.max())
        largest = int((table.multiplier << (shift - table.shift)).max())
        width = max(2, self.acc_bits + largest.bit_length() - shift)
        total = _rounded(acc, m, s)
        bits = self.trials.bits(width)
        half = 1 << (width - 1)
        wrong = ((total + half) ^ (1 << bits.astype(object))) - half
        return curve(self._clamped(places, neurons, wrong), bits, width)

    def multiplier(self) -> tuple[float, ...]:
        """A flip in the multiplier of one rescaling, at the largest shift of the table."""
        table = self.node.requantize
        assert isinstance(table, Requantize)
        places, neurons, acc, m, s = self._rescaled()
        shift = int(table.shift.max())
        m = m << (shift - s)
        width = max(1, int((table.multiplier << (shift - table.shift)).max()).bit_length())
        bits = self.trials.bits(width)
        wrong = _rounded(acc, m ^ (1 << bits.astype(object)), shift)
        return curve(self._clamped(places, neurons, wrong), bits, width)

    def result(self) -> tuple[float, ...]:
        """A flip in a word that the layer delivers."""
        kind = self.run.model.types[self.node.name]
        places, neurons = self.trials.places(), self.trials.channels()
        golden = self.trials.golden[tuple(places)][self.trials.trial, neurons]
        bits = self.trials.bits(kind.bits)
        return curve(
            self._results(places, neurons, flip_element(golden, bits, kind)), bits, kind.bits
        )

    def neurons(self) -> tuple[float, ...]:
        """Flips of products and sums by neuron, relative to their mean."""
        if not self.hits.any():
            return (1.0,) * len(self.hits)
        mean = float(self.hits.sum() / self.seen.sum())
        found = (self.hits + PRIOR * mean) / (self.seen + PRIOR)
        return tuple((found / found.mean()).tolist())


def _rounded(acc: IntArray, m: Any, s: Any) -> Any:
    """(acc m + 2^(s-1)) >> s in Python's integers."""
    return (acc.astype(object) * m + ((1 << s) >> 1)) >> s
