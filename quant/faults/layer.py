"""Faults inside one convolution or dense layer: operands, products, partial sums, result words.

The words are those of the circuit: the bias has the zero point folded in, products are w x with x
as it is stored (padding stores the zero point), a partial sum is the bias and the products so far,
two's complement, modulo 2^acc_bits. So one product or one weight changes the accumulator by a
difference, and only what a fault touches is computed. NumPy or torch, equal bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..ir import Conv2d, Dense, IntArray, TensorType
from .finish import Finish
from .records import LAST, Op, Tensor
from .stored import stored_results
from .words import changed, wrap

__all__ = ["Events", "LayerWords", "operand_places", "product_type"]

GATHER_ELEMENTS = 1 << 21  # of products that one partial sum after another gathers

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Events:
    """Changes of one layer, int64 [m] on the host: `at`, the row among those computed; `index`,
    `tensor`, `step`, `span`, `width`, `op`, `value` as in `TensorFaults`."""

    at: IntArray
    tensor: IntArray
    index: IntArray
    step: IntArray
    span: IntArray
    width: IntArray
    op: IntArray
    value: IntArray

    def take(self, rows: Any) -> Events:
        """Some of the rows."""
        return Events(*(getattr(self, f.name)[rows] for f in fields(self)))

    def spread(self, elements: IntArray) -> Events:
        """Each row once for each of its `elements` [m, p], which become the index."""
        again = [np.repeat(getattr(self, f.name), elements.shape[1]) for f in fields(self)]
        both = Events(*again)
        return Events(both.at, both.tensor, elements.ravel(), *again[3:])

    @classmethod
    def joined(cls, parts: list[Events]) -> Events:
        """All rows of the parts."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


def operand_places(node: Conv2d | Dense, operand: Shape, result: Shape) -> IntArray:
    """[positions, terms]: flat place in the operand that each product reads, -1 for padding; the
    first group's channels, later groups add theirs."""
    if isinstance(node, Dense):
        return np.arange(operand[0])[None]
    height, width, channels = operand
    kh, kw, each = node.weight.shape[1:]
    axes = []
    for axis, (size, kernel) in enumerate(((height, kh), (width, kw))):
        starts = np.arange(result[axis]) * node.stride[axis] - node.padding[axis]
        at = starts[:, None] + np.arange(kernel) * node.dilation[axis]
        axes.append(np.where((at >= 0) & (at < size), at, -1))
    rows, columns = axes[0][:, None, :, None, None], axes[1][None, :, None, :, None]
    flat = (rows * width + columns) * channels + np.arange(each)
    places = np.where((rows < 0) | (columns < 0), -1, flat)
    return np.asarray(places.reshape(-1, kh * kw * each), dtype=np.int64)


def product_type(node: Conv2d | Dense, act: TensorType) -> TensorType:
    """The type of a product register: one bit where both operands are bipolar."""
    if act.bipolar and node.weight_bipolar:
        return TensorType(bits=1, signed=True, bipolar=True)
    extra = not (act.signed or node.weight_bipolar)
    return TensorType(bits=act.bits + node.weight_bits + extra, signed=True)


class LayerWords:
    """The words of one layer, and what events make of its results.

    `kinds` are the types of operand and result, `shapes` their shapes, `acc_bits` the width of
    the accumulator; `xp` is `numpy` or `torch`, `array` brings an int64 array to its device.
    """

    def __init__(
        self,
        node: Conv2d | Dense,
        kinds: tuple[TensorType, TensorType],
        shapes: tuple[Shape, Shape],
        acc_bits: int,
        xp: Any,
        array: Callable[[Any], Any],
    ) -> None:
        self.xp, self.array, self.act = xp, array, kinds[0]
        self.acc = TensorType(bits=acc_bits, signed=True)
        self.product = product_type(node, kinds[0])
        self.weight_type = TensorType(node.weight_bits, True, bipolar=node.weight_bipolar)
        self.channels = node.out_channels
        weight = node.weight.reshape(self.channels, -1)
        self.terms = weight.shape[1]
        self.positions = math.prod(shapes[1]) // self.channels
        self.groups = node.groups if isinstance(node, Conv2d) else 1
        group = np.arange(self.channels) // (self.channels // self.groups)
        self.offset = array(group * (shapes[0][-1] // self.groups))
        self.places = array(operand_places(node, *shapes))
        self.weight = array(weight)
        self.bias = array(node.bias - kinds[0].zero_point * weight.sum(axis=1))
        self.finish = Finish(node, kinds[1], xp, array)

    def wrapped(self, acc: Any) -> Any:
        """The accumulator's word for an exact sum."""
        return wrap(acc, self.acc.bits, True)

    def expanded(self, events: Events) -> Events:
        """Stored weights and biases as what they are at every position of their channel."""
        weight = events.tensor == Tensor.WEIGHT
        stored = weight | (events.tensor == Tensor.BIAS)
        if not stored.any():
            return events
        channel = np.where(weight, events.index // self.terms, events.index)[stored]
        elements = np.arange(self.positions) * self.channels + channel[:, None]
        some = events.take(stored)
        some.step[:] = np.where(weight[stored], some.index % self.terms, -1)
        return Events.joined([some.spread(elements), events.take(~stored)])

    def results(
        self,
        operand: Any,
        acc: Any,
        events: Events,
        image: IntArray | None = None,
        *,
        before: bool = False,
    ) -> tuple[IntArray, IntArray, Any]:
        """What `events` (no INPUT, no ACTIVATION) make of results: row (as in `at`) and element,
        both on the host, different pairs, and the new value.

        `operand` [images, ...] and its exact accumulators `acc` [images, ...] hold image
        `image[row]` of each row; None: row after row. `before` gives the words before the
        activation instead.
        """
        if image is None:
            image = np.arange(len(operand))
        if (events.tensor <= Tensor.BIAS).all() and not before:
            return stored_results(self, operand, acc, events, image)
        alone = bool((np.diff(events.at) > 0).all())
        events = self._timed(self.expanded(events))
        group = rank = np.arange(len(events.at))
        firsts, turns = group, 1
        if alone:
            rank = np.zeros_like(group)
        else:
            events, group, rank = self._ordered(events)
            firsts, turns = np.flatnonzero(rank == 0), int(rank.max()) + 1
            _check_spans(events, group)
        at, element = events.at[firsts], events.index[firsts]
        run = _Run(self, operand, acc, image[at], element)
        late = events.tensor == int(Tensor.PREACTIVATION)
        for phase in (~late, late):
            for turn in range(turns):
                rows = np.flatnonzero(phase & (rank == turn))
                for kind in np.unique(events.tensor[rows]):
                    some = rows[events.tensor[rows] == kind]
                    run.apply(Tensor(kind), group[some], events.take(some))
        return at, element, run.result(before)

    def _timed(self, events: Events) -> Events:
        """LAST as a number."""
        last = (events.tensor == int(Tensor.ACCUMULATOR)) & (events.step == LAST)
        return replace(events, step=np.where(last, self.terms - 1, events.step))

    def _ordered(self, events: Events) -> tuple[Events, IntArray, IntArray]:
        """Element by element in the order of time; the element's number, the event's turn."""
        key = events.at * (self.positions * self.channels) + events.index
        time = events.step + events.span - 1
        time = np.where(events.tensor == int(Tensor.PREACTIVATION), self.terms, time)
        order = np.lexsort((events.tensor, time, key))
        events, key = events.take(order), key[order]
        fresh = np.concatenate(([True], np.diff(key) != 0))
        group = np.cumsum(fresh) - 1
        return events, group, np.arange(len(key)) - np.flatnonzero(fresh)[group]


def _check_spans(events: Events, group: IntArray) -> None:
    """A sum of several products meets no other change of its element: it would miss it."""
    wide = np.unique(group[events.span > 1])
    if len(wide) and (np.bincount(group)[wide] > 1).any():
        raise InputError(
            "tensor faults: a sum of products cannot change beside other words of its element"
        )


class _Run:
    """The words of some elements while events change them."""

    def __init__(
        self, layer: LayerWords, operand: Any, acc: Any, image: IntArray, element: IntArray
    ) -> None:
        self.layer = layer
        images = len(operand)
        self.operand = operand.reshape(images, -1)
        array = layer.array
        self.row, flat = array(image), array(element)
        self.channel, self.position = flat % layer.channels, flat // layer.channels
        self.start = acc.reshape(images, -1)[self.row, flat]
        self.delta = 0 * self.start
        self.step = self.delta - 2
        self.weight, self.act, self.product = (self.delta + 0 for _ in range(3))
        self.word: Any = None

    def apply(self, kind: Tensor, group: IntArray, events: Events) -> None:
        """Events of one kind, at most one for each element."""
        wide = events.span > 1
        if wide.any() and not wide.all():
            for rows in (wide, ~wide):
                self.apply(kind, group[rows], events.take(rows))
            return
        layer, array = self.layer, self.layer.array
        g = array(group)
        width = array(np.where(events.width, events.width, self._width(kind, events.span)))
        how = (array(events.op), array(events.value), width)
        match kind:
            case Tensor.BIAS:
                bias = layer.bias[self.channel[g]] + self.delta[g]  # nothing came before it
                self.delta[g] += changed(layer.xp, bias, *how, layer.acc) - bias
            case Tensor.PREACTIVATION:
                self._preactivation(g, array(events.op), array(events.value))
            case Tensor.ACCUMULATOR:
                word = wrap(self._partial(g, events.step) + self.delta[g], width, True)
                self.delta[g] += changed(layer.xp, word, *how, layer.acc) - word
            case Tensor.PRODUCT if wide.any():
                first = events.step
                word = self._sum(g, first, first + events.span - 1)
                self.delta[g] += changed(layer.xp, word, *how, layer.acc) - word
            case _:
                self._multiplication(kind, g, array(events.step), how)

    def _width(self, kind: Tensor, span: IntArray) -> Any:
        if kind in (Tensor.BIAS, Tensor.ACCUMULATOR):
            return self.layer.acc.bits
        bits = self.layer.product.bits + self.layer.product.bipolar * (span > 1)
        return bits + np.ceil(np.log2(span)).astype(np.int64)

    def _multiplication(self, kind: Tensor, g: Any, step: Any, how: tuple[Any, Any, Any]) -> None:
        """A change of one product or of its operands; earlier ones of the same product last."""
        layer, xp = self.layer, self.layer.xp
        same = self.step[g] == step
        weight = xp.where(same, self.weight[g], layer.weight[self.channel[g], step])
        act = xp.where(same, self.act[g], self._acts(g, step))
        product = xp.where(same, self.product[g], weight * act)
        if kind == Tensor.PRODUCT:
            new = changed(xp, product, *how, layer.product)
        else:
            op, value, width = how
            if kind == Tensor.INPUT_READ:
                act = changed(xp, act, op, value, 0 * width + layer.act.bits, layer.act)
            else:
                bits = 0 * width + layer.weight_type.bits
                weight = _weight(xp, weight, op, value, bits, layer.weight_type)
            new = weight * act
            if not layer.product.bipolar:
                new = wrap(new, width, True)
        self.delta[g] += new - product
        self.step[g], self.weight[g], self.act[g], self.product[g] = step, weight, act, new

    def _acts(self, g: Any, step: Any) -> Any:
        """The stored element that product `step` of each element reads."""
        layer = self.layer
        place = layer.places[self.position[g], step]
        found = self.operand[self.row[g], place.clip(0) + layer.offset[self.channel[g]]]
        return layer.xp.where(place < 0, layer.act.zero_point, found)

    def _sum(self, g: Any, first: IntArray, last: IntArray) -> Any:
        """Sum of the fault-free products first..last."""
        layer, total = self.layer, 0 * self.start[g]
        chunk = max(1, GATHER_ELEMENTS // layer.terms)
        for i in range(0, len(first), chunk):
            part = slice(i, i + chunk)
            begin, end = int(first[part].min()), int(last[part].max()) + 1
            steps = layer.array(np.arange(begin, end))
            low, high = (layer.array(n[part])[:, None] for n in (first, last))
            acts = self._acts(g[part][:, None], steps[None])
            products = acts * layer.weight[self.channel[g[part]]][:, begin:end]
            total[part] = (products * ((steps >= low) & (steps <= high))).sum(-1)
        return total

    def _partial(self, g: Any, step: IntArray) -> Any:
        """Fault-free bias and products 0..step."""
        found = self.start[g]
        early = np.flatnonzero(step < self.layer.terms - 1)
        if len(early):
            rows = self.layer.array(early)
            some = g[rows]
            found[rows] = self.layer.bias[self.channel[some]] + self._sum(
                some, 0 * early, step[early]
            )
        return found

    def _preactivation(self, g: Any, op: Any, value: Any) -> None:
        layer = self.layer
        if self.word is None:
            self.word = layer.finish.before(self._total(), self.channel)
        low, high = layer.finish.limits
        kind = TensorType(bits=max(high.bit_length(), (-low - 1).bit_length()) + 1, signed=True)
        new = changed(layer.xp, self.word[g], op, value, 0 * value + kind.bits, kind)
        self.word[g] = new.clip(low, high)

    def _total(self) -> Any:
        return self.layer.wrapped(self.start + self.delta)

    def result(self, before: bool) -> Any:
        """The elements of the layer's result, or the words before the activation."""
        finish = self.layer.finish
        if before:
            return finish.before(self._total(), self.channel) if self.word is None else self.word
        if self.word is not None:
            return finish.after(self.word, self.channel)
        return finish(self._total(), self.channel)


def _weight(xp: Any, weight: Any, op: Any, value: Any, bits: Any, kind: TensorType) -> Any:
    """A changed weight; PUT may exceed the stored bits, as the sum of a shared multiplier does."""
    new = changed(xp, weight, op, value, bits, kind)
    return xp.where(op == int(Op.PUT), value, new)
