"""Curves of pools, arg-max, and of the results of layers that only join streams."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..criticality.injection import flipped
from ..ir import Add, AvgPool, GlobalAvgPool, IntArray, MaxPool, TensorType
from .trials import Trials, curve, flip_element

__all__ = ["argmax_curves", "pool_curves", "result_curves"]

Curves = dict[str, tuple[float, ...]]


def result_curves(trials: Trials) -> Curves:
    """A flip in a delivered word, and in the sum of an Add."""
    kind = trials.run.model.types[trials.node.name]
    places, channels, bits = trials.places(), trials.channels(), trials.bits(kind.bits)
    found = trials.golden[tuple(places)]
    at = (trials.trial, channels)
    found[at] = flip_element(found[at], bits, kind)
    changed = trials.run.changed(trials.node.name, places, found)
    curves = {"result": curve(changed, bits, kind.bits)}
    if isinstance(trials.node, Add | AvgPool | GlobalAvgPool):
        curves["acc"] = _sums(trials)
    return curves


def _sums(trials: Trials) -> tuple[float, ...]:
    """A flip in the exact sum, before it is rescaled."""
    width = trials.run.model.ranges[trials.node.name].acc_bits
    places, channels, bits = trials.places(), trials.channels(), trials.bits(width)
    words = trials.acc[tuple(places)]
    at = (trials.trial, channels)
    words[at] = flipped(words[at], bits, width)
    return curve(trials.outcome(places, words), bits, width)


def pool_curves(trials: Trials) -> Curves:
    """A flip in an element of one window, and in what stands for the elements so far."""
    node = trials.node
    curves = result_curves(trials)
    places, channels, elements = _windows(trials)
    kind = trials.run.model.types[node.inputs[0]]
    step = trials.rng.integers(0, elements.shape[1], trials.count)
    bits = trials.bits(kind.bits)
    wrong = elements.copy()
    at = (trials.trial, step)
    wrong[at] = flip_element(elements[at], bits, kind)
    curves["act"] = curve(_reduced(trials, places, channels, elements, wrong), bits, kind.bits)
    if not isinstance(node, MaxPool):
        curves["partial"] = curves["acc"]
        return curves
    running = np.maximum.accumulate(elements, axis=1)
    bits = trials.bits(kind.bits)
    so_far = flip_element(running[at], bits, kind)
    later = np.arange(elements.shape[1]) > step[:, None]
    rest = np.where(later, elements, kind.lo).max(axis=1)
    result = np.maximum(so_far, rest)
    curves["partial"] = curve(_placed(trials, places, channels, result), bits, kind.bits)
    return curves


def _windows(trials: Trials) -> tuple[list[IntArray], IntArray, IntArray]:
    """Places, channels and the elements [trials, taps] of their windows."""
    node, run = trials.node, trials.run
    places, channels = trials.places(), trials.channels()
    operand = run.golden[node.inputs[0]]
    if isinstance(node, GlobalAvgPool):
        found = operand[places[0], :, :, channels]
        return places, channels, found.reshape(trials.count, -1)
    assert isinstance(node, MaxPool | AvgPool)
    kind = run.model.types[node.inputs[0]]
    top, left, bottom, right = node.padding
    fill = kind.lo if isinstance(node, MaxPool) else kind.zero_point
    sides = ((0, 0), (top, bottom), (left, right), (0, 0))
    image = np.pad(operand, sides, constant_values=fill)
    rows, columns = (
        place[:, None] * stride + np.arange(k)
        for place, stride, k in zip(places[1:], node.stride, node.kernel, strict=True)
    )
    found = image[
        places[0][:, None, None],
        rows[:, :, None],
        columns[:, None, :],
        channels[:, None, None],
    ]
    return places, channels, found.reshape(trials.count, -1)


def _reduced(
    trials: Trials, places: list[IntArray], channels: IntArray, right: IntArray, wrong: IntArray
) -> Any:
    """Whether the top-1 changes when the windows' elements become `wrong`."""
    if isinstance(trials.node, MaxPool):
        return _placed(trials, places, channels, wrong.max(axis=1))
    words = trials.acc[tuple(places)]
    words[trials.trial, channels] += wrong.sum(axis=1) - right.sum(axis=1)
    return trials.outcome(places, words)


def _placed(trials: Trials, places: list[IntArray], channels: IntArray, result: IntArray) -> Any:
    found = trials.golden[tuple(places)]
    found[trials.trial, channels] = result
    return trials.run.changed(trials.node.name, places, found)


def argmax_curves(trials: Trials) -> Curves:
    """A flip in the largest element so far, and in its index, while the rest is still read."""
    run, name = trials.run, trials.node.inputs[0]
    kind, images = run.model.types[name], trials.places()[0]
    values = run.golden[name][images]
    step = trials.rng.integers(0, values.shape[1], trials.count)
    running = np.maximum.accumulate(values, axis=1)[trials.trial, step]
    later = np.arange(values.shape[1]) > step[:, None]
    bits = trials.bits(kind.bits)
    best = _best(flip_element(running, bits, kind), values, later)
    first = np.where(later, _least(kind), values).argmax(axis=1)
    golden = run.golden[trials.node.name][images][:, 0]
    curves = {"best": curve(np.where(best < 0, first, best) != golden, bits, kind.bits)}
    width = max(1, (values.shape[1] - 1).bit_length())
    bits = trials.bits(width)
    kept = _best(running, values, later) < 0
    curves["index"] = curve(kept, bits, width)
    return curves


def _best(start: IntArray, values: IntArray, later: Any) -> IntArray:
    """Index of the largest later element above `start`, the first of equals; -1 if none is."""
    rest = np.where(later, values, np.iinfo(np.int64).min)
    return np.where(rest.max(axis=1) > start, rest.argmax(axis=1), -1)


def _least(kind: TensorType) -> int:
    return kind.lo - 1
