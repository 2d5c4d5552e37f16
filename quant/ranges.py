"""Value ranges of every tensor and of every partial sum: the proof that no accumulator wraps.

Interval arithmetic with the real weights, one interval for a tensor, sums per output channel:
sum_i w_i d_i with d_i in [lo, hi] lies in [lo P + hi N, hi P + lo N], P and N the sums of the
positive and the negative weights. A partial sum may miss any term, so its d also reaches 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from . import shapes
from .errors import InputError
from .ir import (
    Add,
    ArgMax,
    AvgPool,
    Concat,
    Conv2d,
    Dense,
    GlobalAvgPool,
    Graph,
    IntArray,
    Node,
    Pad,
    Requantize,
    TensorType,
    Thresholds,
)

__all__ = ["Range", "infer", "signed_bits", "types", "valid_counts", "window_multiplier"]

Interval = tuple[int, int]


def signed_bits(lo: int, hi: int) -> int:
    """Bits of the narrowest two's complement word, at least 2, that holds lo and hi."""
    return max(2, hi.bit_length() + 1, (-lo - 1).bit_length() + 1 if lo < 0 else 1)


@dataclass(frozen=True)
class Range:
    """Bounds of a tensor and of its accumulator, all inclusive.

    `lo`, `hi`: the tensor's values. `acc_lo`, `acc_hi`: every partial sum, in any order and with or
    without the bias, of b + sum w (x - zp). `raw_lo`, `raw_hi`: the same for the folded form
    b' + sum w x, b' = b - zp sum w, where padding contributes w zp. The weights of pools are 1,
    those of Add its multipliers. Nodes that sum nothing repeat lo and hi.
    """

    lo: int
    hi: int
    acc_lo: int
    acc_hi: int
    raw_lo: int
    raw_hi: int

    @property
    def acc_bits(self) -> int:
        """Width of a signed accumulator of sum w (x - zp)."""
        return signed_bits(self.acc_lo, self.acc_hi)

    @property
    def raw_bits(self) -> int:
        """Width of a signed accumulator of the folded form."""
        return signed_bits(self.raw_lo, self.raw_hi)


def infer(graph: Graph) -> dict[str, Range]:
    """Range of every tensor by name, the input included.

    Raises InputError, naming the layer, for an invalid graph (shapes.infer) and where
    acc * m + 2^(s-1) needs more than 63 bits and a sign.
    """
    return dict(_walk(graph)[0])


def types(graph: Graph) -> dict[str, TensorType]:
    """Type of every tensor: accumulators signed of their proven width, ArgMax unsigned."""
    return dict(_walk(graph)[1])


@functools.lru_cache(maxsize=8)
def _walk(graph: Graph) -> tuple[dict[str, Range], dict[str, TensorType]]:
    sizes, declared = shapes.infer(graph), shapes.declared_types(graph)
    ranges = {graph.input_name: _plain(graph.input_type.lo, graph.input_type.hi)}
    kinds = {graph.input_name: graph.input_type}
    for node in graph:
        operands = [_Operand(sizes[n], kinds[n], ranges[n]) for n in node.inputs]
        found = _range(node, operands)
        ranges[node.name] = found
        kinds[node.name] = declared[node.name] or _undeclared(node, operands, found)
    return ranges, kinds


@dataclass(frozen=True)
class _Operand:
    shape: shapes.Shape
    kind: TensorType
    range: Range

    def raw(self, padded: bool) -> Interval:
        """Interval of x; padding adds the zero point."""
        zero = self.kind.zero_point if padded else self.range.lo
        return min(self.range.lo, zero), max(self.range.hi, zero)

    def centred(self, padded: bool) -> Interval:
        """Interval of x - zp."""
        lo, hi = self.raw(padded)
        return lo - self.kind.zero_point, hi - self.kind.zero_point


def _undeclared(node: Node, operands: list[_Operand], found: Range) -> TensorType:
    match node:
        case ArgMax():
            return TensorType(bits=max(1, found.hi.bit_length()), signed=False)
        case Conv2d() | Dense():
            return TensorType(bits=found.acc_bits, signed=True)
    return operands[0].kind  # Flatten passes what it gets


def _range(node: Node, operands: list[_Operand]) -> Range:
    first = operands[0]
    match node:
        case Conv2d() | Dense():
            return _linear(node, first)
        case AvgPool():
            counts = np.outer(*valid_counts(node, first.shape)).ravel()
            return _mean(node, first, sorted({int(n) for n in counts}), math.prod(node.kernel))
        case GlobalAvgPool():
            return _mean(node, first, [math.prod(first.shape[:2])], math.prod(first.shape[:2]))
        case Add():
            return _add(node, operands)
        case Concat():
            return _concat(node, operands)
        case ArgMax():
            return _plain(0, first.shape[0] - 1)
        case Pad():
            return _plain(*first.raw(any(node.padding + node.channels)))
    return _plain(first.range.lo, first.range.hi)  # a padded MaxPool never picks the padding


def _plain(lo: int, hi: int) -> Range:
    return Range(lo, hi, lo, hi, lo, hi)


def _weighted(positive: IntArray, negative: IntArray, interval: Interval) -> list[IntArray]:
    """[lo, hi] of sum w d by channel, d in the interval, from the sums of both signs of w."""
    lo, hi = interval
    return [positive * lo + negative * hi, positive * hi + negative * lo]


def _partial(bias: IntArray, sums: list[IntArray]) -> Interval:
    return (
        int((np.minimum(bias, 0) + sums[0]).min()),
        int((np.maximum(bias, 0) + sums[1]).max()),
    )


def _with_zero(interval: Interval) -> Interval:
    return min(interval[0], 0), max(interval[1], 0)


def _sums(
    operand: _Operand, weight: IntArray, bias: IntArray, padded: bool
) -> tuple[list[IntArray], Interval, Interval]:
    """Full sums by channel [lo, hi], partial sums, partial folded sums; weight is [out, terms]."""
    positive, negative = np.maximum(weight, 0).sum(1), np.minimum(weight, 0).sum(1)
    full = [bias + part for part in _weighted(positive, negative, operand.centred(padded))]
    acc = _weighted(positive, negative, _with_zero(operand.centred(padded)))
    raw = _weighted(positive, negative, _with_zero(operand.raw(padded)))
    folded = bias - operand.kind.zero_point * (positive + negative)
    return full, _partial(bias, acc), _partial(folded, raw)


def _linear(node: Conv2d | Dense, operand: _Operand) -> Range:
    padded = isinstance(node, Conv2d) and any(node.padding)
    weight = node.weight.reshape(node.out_channels, -1)
    full, acc, raw = _sums(operand, weight, node.bias, padded)
    match node.requantize:
        case None:
            lo, hi = int(full[0].min()), int(full[1].max())
        case Thresholds() as table:
            lo, hi = _thresholds(table, full)
        case Requantize() as table:
            lo, hi = _requantized(node.name, table, full)
    return Range(lo, hi, *acc, *raw)


def _thresholds(table: Thresholds, full: list[IntArray]) -> Interval:
    step = 2 if table.out.bipolar else 1
    low, high = ((end[:, None] >= table.values).sum(1) for end in full)
    return table.out.lo + step * int(low.min()), table.out.lo + step * int(high.max())


def _requantized(
    name: str, table: Requantize, full: list[IntArray], multiplier: IntArray | None = None
) -> Interval:
    """Interval of the requantised [lo, hi], in Python's integers so that nothing can wrap."""
    multiplier = table.multiplier if multiplier is None else multiplier
    count = max(len(full[0]), len(multiplier), 1 if table.bound is None else len(table.bound))
    found: list[int] = []
    m, s = _stretch(multiplier, count), _stretch(table.shift, count)
    bounds: Iterable[int | None] = (
        [None] * count if table.bound is None else _stretch(table.bound, count)
    )
    ends = zip(_stretch(full[0], count), _stretch(full[1], count), strict=True)
    for (lo, hi), mult, shift, bound in zip(ends, m, s, bounds, strict=True):
        half = 1 << (shift - 1) if shift else 0
        if max(-lo, hi) * mult + half >= 1 << 63:
            raise InputError(
                f"{name}: acc * multiplier + rounding needs more than 63 bits and a sign"
                f" (acc {lo}..{hi}, multiplier {mult}, shift {shift}); use fewer m_bits"
            )
        low, high = table.limits
        q_lo, q_hi = (
            min(max(((end * mult + half) >> shift) + table.out.zero_point, low), high)
            for end in (lo, hi)
        )
        found += _bounded(q_lo, q_hi, bound, table)
    return min(found), max(found)


def _stretch(vector: IntArray, count: int) -> list[int]:
    return [int(v) for v in np.broadcast_to(vector, (count,))]


def _bounded(lo: int, hi: int, bound: int | None, table: Requantize) -> list[int]:
    if bound is None or hi <= bound:
        return [lo, hi]
    if table.bound_kind == "saturate":
        return [min(lo, bound), bound]
    zero = table.out.zero_point
    return [zero] if lo > bound else [zero, lo, bound]


def valid_counts(node: AvgPool, shape: shapes.Shape) -> tuple[IntArray, IntArray]:
    """Rows and columns inside the image of each window position: vectors of out_h and out_w."""
    found = []
    for axis in (0, 1):
        before, after = node.padding[axis], node.padding[axis + 2]
        size, kernel, stride = shape[axis], node.kernel[axis], node.stride[axis]
        start = np.arange(0, size + before + after - kernel + 1, stride, dtype=np.int64) - before
        found.append(np.minimum(start + kernel, size) - np.maximum(start, 0))
    return found[0], found[1]


def window_multiplier(node: AvgPool, count: IntArray | int) -> IntArray:
    """Multipliers [..., 1 or channels] for windows of `count` valid elements, m if padding counts.

    m_n = (m * kh * kw + n // 2) // n.
    """
    n = np.asarray(count, dtype=np.int64)[..., None]
    m = np.broadcast_to(
        node.requantize.multiplier, (*n.shape[:-1], len(node.requantize.multiplier))
    )
    return m if node.count_include_pad else (m * math.prod(node.kernel) + n // 2) // n


def _mean(
    node: AvgPool | GlobalAvgPool, operand: _Operand, counts: list[int], window: int
) -> Range:
    """Range of a mean over windows that hold one of `counts` elements, `window` of them at most."""
    padded = isinstance(node, AvgPool) and any(node.padding)
    ones, zero = np.ones((1, 1), dtype=np.int64) * window, np.zeros(1, dtype=np.int64)
    _, acc, raw = _sums(operand, ones, zero, padded)
    lo, hi = operand.centred(False)
    found: list[int] = []
    for n in counts:
        ends = [np.array([n * end], dtype=np.int64) for end in (lo, hi)]
        m = window_multiplier(node, n) if isinstance(node, AvgPool) else None
        found += _requantized(node.name, node.requantize, ends, m)
    return Range(min(found), max(found), *acc, *raw)


def _add(node: Add, operands: list[_Operand]) -> Range:
    pairs = list(zip(operands, node.multipliers, strict=True))
    full = [sum(op.centred(False)[end] * m for op, m in pairs) for end in (0, 1)]
    acc = [sum(_with_zero(op.centred(False))[end] * m for op, m in pairs) for end in (0, 1)]
    folded = -sum(op.kind.zero_point * m for op, m in pairs)
    raw = [sum(_with_zero(op.raw(False))[end] * m for op, m in pairs) for end in (0, 1)]
    lo, hi = (_add_requantized(node, end) for end in full)
    return Range(lo, hi, acc[0], acc[1], min(folded, 0) + raw[0], max(folded, 0) + raw[1])


def _add_requantized(node: Add, acc: int) -> int:
    half = 1 << (node.shift - 1) if node.shift else 0
    low, high = node.limits
    return min(max(((acc + half) >> node.shift) + node.out.zero_point, low), high)


def _concat(node: Concat, operands: list[_Operand]) -> Range:
    found, acc, raw = [], [0], [0]
    one, zero = np.ones((1, 1), dtype=np.int64), np.zeros(1, dtype=np.int64)
    for operand, table in zip(operands, node.requantize, strict=True):
        if table is None:
            found += [operand.range.lo, operand.range.hi]
            continue
        full, centred, folded = _sums(operand, one, zero, padded=False)
        found += _requantized(node.name, table, full)
        acc, raw = [*acc, *centred], [*raw, *folded]
    return Range(min(found), max(found), min(acc), max(acc), min(raw), max(raw))
