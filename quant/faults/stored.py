"""Changed stored words of one layer: weights and biases, one or a whole map of them.

A weight serves every position of its channel. One change in an inference is a difference for one
channel; many are a matrix of differences, multiplied with the windows of the operand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..ir import IntArray
from .records import Tensor
from .words import changed, changed_in_order, exact_matmul

if TYPE_CHECKING:
    from .layer import Events, LayerWords

__all__ = ["stored_results"]

CHUNK_ELEMENTS = 1 << 21  # of the windows that are multiplied at a time

Results = tuple[IntArray, IntArray, Any]


def stored_results(
    words: LayerWords, operand: Any, acc: Any, events: Events, image: IntArray
) -> Results:
    """As `LayerWords.results` for events of WEIGHT and BIAS only; `image` [rows]."""
    if (np.diff(events.at) > 0).all():
        kinds = [events.tensor == int(kind) for kind in (Tensor.WEIGHT, Tensor.BIAS)]
        parts = [events.take(kind) for kind in kinds if kind.any()]
        found = [_column(words, operand, acc, part, image[part.at]) for part in parts]
        at, element, value = zip(*found, strict=True)
        return np.concatenate(at), np.concatenate(element), words.xp.concatenate(value)
    rows, where = np.unique(events.at, return_inverse=True)
    size = words.positions * words.channels
    chunk = max(1, CHUNK_ELEMENTS // (words.positions * max(words.terms, words.channels)))
    values = []
    for start in range(0, len(rows), chunk):
        inside = np.flatnonzero((where >= start) & (where < start + chunk))
        part = events.take(inside)
        part.at[:] = where[inside] - start
        values.append(_maps(words, operand, acc, part, image[rows[start : start + chunk]]))
    value = words.xp.concatenate(values).reshape(-1)
    return np.repeat(rows, size), np.tile(np.arange(size), len(rows)), value


def _column(words: LayerWords, operand: Any, acc: Any, events: Events, image: IntArray) -> Results:
    """One changed word of one kind in each row: all positions of one channel."""
    array, row = words.array, words.array(image)
    how = (array(events.op), array(events.value))
    if events.tensor[0] == Tensor.WEIGHT:
        host, step = events.index // words.terms, array(events.index % words.terms)
        channel = array(host)
        word = words.weight[channel, step]
        width = 0 * word + words.weight_type.bits
        new = changed(words.xp, word, *how, width, words.weight_type)
        times = _windows(words, operand, row, step, channel)
    else:
        host, channel, times = events.index, array(events.index), 1
        word = words.bias[channel]
        width = array(np.where(events.width, events.width, words.acc.bits))
        new = changed(words.xp, word, *how, width, words.acc)
    start = acc.reshape(len(operand), words.positions, -1)[row, :, channel]
    total = words.wrapped(start + (new - word)[:, None] * times)
    element = np.arange(words.positions) * words.channels + host[:, None]
    value = words.finish(total, channel[:, None])
    return np.repeat(events.at, words.positions), element.ravel(), value.reshape(-1)


def _windows(words: LayerWords, operand: Any, row: Any, step: Any, channel: Any) -> Any:
    """[m, positions]: what product `step` reads at every position."""
    place = words.places[:, step].T
    flat = operand.reshape(len(operand), -1)
    found = flat[row[:, None], place.clip(0) + words.offset[channel][:, None]]
    return words.xp.where(place < 0, words.act.zero_point, found)


def _maps(words: LayerWords, operand: Any, acc: Any, events: Events, image: IntArray) -> Any:
    """Any number of changed words in each row: [rows, positions, channels]."""
    row, xp = words.array(image), words.xp
    differences = []
    for kind, golden, kind_of_word in (
        (Tensor.WEIGHT, words.weight, words.weight_type),
        (Tensor.BIAS, words.bias, words.acc),
    ):
        part = events.take(events.tensor == int(kind))
        own = np.where((part.width > 0) & (kind == Tensor.BIAS), part.width, kind_of_word.bits)
        copies = golden.reshape(1, -1) + 0 * row[:, None]
        columns = (part.at, part.index, part.op, part.value, own)
        changed_in_order(xp, words.array, copies, columns, kind_of_word)
        differences.append(copies - golden.reshape(1, -1))
    weights = differences[0].reshape(-1, words.channels, words.terms)
    total = acc.reshape(len(operand), words.positions, -1)[row] + differences[1][:, None]
    each = words.channels // words.groups
    for group in range(words.groups):
        channels = slice(group * each, (group + 1) * each)
        place = words.places.clip(0) + words.offset[group * each]
        acts = operand.reshape(len(operand), -1)[row][:, place]
        acts = xp.where(words.places < 0, words.act.zero_point, acts)
        total[:, :, channels] += exact_matmul(xp, acts, weights[:, channels])
    return words.finish(words.wrapped(total))
