"""The golden model: a graph executed with NumPy, integer in and integer out.

Every operator does what docs/ir.md says. Sums of products run through a floating-point matrix
product that is exact: `ranges` proves every partial sum, so float32 serves below 2^24 and float64
below 2^53. Requantisation is int64; `ranges.infer` refuses a graph where that could wrap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import ranges, shapes
from .errors import InputError
from .ir import (
    Add,
    ArgMax,
    AvgPool,
    Concat,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    Graph,
    IntArray,
    MaxPool,
    Node,
    Pad,
    Requantize,
    Thresholds,
)

__all__ = ["Reference", "check_input", "execute", "requantize", "run", "thresholds"]

CHUNK_BYTES = 16 << 20  # of unrolled windows at a time: about a cache, not the whole batch
CHUNK_IMAGES = 128


def execute(graph: Graph, x: IntArray) -> dict[str, IntArray]:
    """Every tensor by name, the input included; x is [N, *input_shape]."""
    return Reference(graph).execute(x)


def run(graph: Graph, x: IntArray) -> IntArray:
    """The output alone, [N, *shape]; memory does not grow with the depth of the graph."""
    reference = Reference(graph)
    x = check_input(graph, x)
    parts = [x[i : i + CHUNK_IMAGES] for i in range(0, max(len(x), 1), CHUNK_IMAGES)]
    result: IntArray = np.concatenate([reference.run(part) for part in parts])
    return result


def check_input(graph: Graph, x: Any) -> IntArray:
    """x as int64; InputError unless it is [N, *input_shape] and holds values of the type."""
    x = np.asarray(x)
    kind = graph.input_type
    if x.dtype.kind not in "iu":
        raise InputError(f"{graph.input_name}: needs integers, not {x.dtype}; quantise them first")
    if x.shape[1:] != graph.input_shape or x.ndim != len(graph.input_shape) + 1:
        raise InputError(f"{graph.input_name}: shape {x.shape} is not (N, *{graph.input_shape})")
    if x.size and (x.min() < kind.lo or x.max() > kind.hi or (kind.bipolar and not x.all())):
        raise InputError(f"{graph.input_name}: values outside {kind.lo}..{kind.hi}")
    result: IntArray = x.astype(np.int64)
    return result


class Reference:
    """A graph made ready to run: `accumulate` and `finish` split each layer at its accumulator.

    Fault models use the split: they change an accumulator between the two.
    """

    def __init__(self, graph: Graph, found: Mapping[str, ranges.Range] | None = None) -> None:
        """`found` replaces the proven ranges, for operands that a fault moved out of them."""
        self.graph = graph
        self.shapes = shapes.infer(graph)
        self.ranges = found or ranges.infer(graph)
        self.types = ranges.types(graph)
        self._weights = {
            node.name: _matrix(node, self.ranges[node.name])
            for node in graph
            if isinstance(node, Conv2d | Dense)
        }

    def execute(self, x: IntArray) -> dict[str, IntArray]:
        """Every tensor by name, the input included; x is [N, *input_shape]."""
        values = {self.graph.input_name: check_input(self.graph, x)}
        for node in self.graph:
            values[node.name] = self.evaluate(node, [values[name] for name in node.inputs])
        return values

    def run(self, x: IntArray) -> IntArray:
        """The output alone; a tensor is dropped after its last use."""
        last = {name: node for node in self.graph for name in node.inputs}
        values = {self.graph.input_name: check_input(self.graph, x)}
        for node in self.graph:
            values[node.name] = self.evaluate(node, [values[name] for name in node.inputs])
            for name in set(node.inputs):
                if last[name] is node and name != self.graph.output:
                    del values[name]
        return values[self.graph.output]

    def evaluate(self, node: Node, operands: Sequence[IntArray]) -> IntArray:
        """The node's tensor from its operands, each [N, *shape]."""
        match node:
            case Conv2d() | Dense() | AvgPool() | GlobalAvgPool() | Add():
                return self.finish(node, self.accumulate(node, operands))
            case MaxPool():
                return self._max_pool(node, operands[0])
            case Concat():
                return self._concat(node, operands)
            case Flatten():
                return operands[0].reshape(-1, *self.shapes[node.name])
            case Pad():
                zero = self.types[node.inputs[0]].zero_point
                padded: IntArray = _padded(operands[0], node.padding, zero, node.channels)
                return padded
            case ArgMax():
                index: IntArray = operands[0].argmax(axis=-1, keepdims=True).astype(np.int64)
                return index
        raise InputError(f"{node.name}: unknown operator {type(node).__name__}")

    def accumulate(self, node: Node, operands: Sequence[IntArray]) -> IntArray:
        """The exact accumulator of a Conv2d, Dense, AvgPool, GlobalAvgPool or Add, before rounding.

        The bias and zero points are in it. InputError for an operator that sums nothing.
        """
        zeros = [self.types[name].zero_point for name in node.inputs]
        centred = [x - zero if zero else x for x, zero in zip(operands, zeros, strict=True)]
        match node:
            case Dense() | Conv2d():
                acc = _products(node, centred[0], self._weights[node.name])
                acc += node.bias
                return acc
            case AvgPool():
                image = _padded(centred[0], node.padding, 0)
                sums: IntArray = _sum(_taps(image, node.kernel, node.stride))
                return sums
            case GlobalAvgPool():
                total: IntArray = centred[0].sum(axis=(1, 2))
                return total
            case Add():
                return centred[0] * node.multipliers[0] + centred[1] * node.multipliers[1]
        raise InputError(f"{node.name}: {type(node).__name__} has no accumulator")

    def finish(self, node: Node, acc: IntArray) -> IntArray:
        """The node's tensor from its accumulator: requantise, thresholds or nothing."""
        match node:
            case Conv2d() | Dense():
                if node.requantize is None:
                    return acc
                if isinstance(node.requantize, Thresholds):
                    return thresholds(node.requantize, acc)
                return requantize(node.requantize, acc)
            case AvgPool():
                counts = ranges.valid_counts(node, self.shapes[node.inputs[0]])
                return requantize(
                    node.requantize, acc, ranges.window_multiplier(node, np.outer(*counts))
                )
            case GlobalAvgPool():
                return requantize(node.requantize, acc)
            case Add():
                return _scaled(acc, 1, node.shift, node.out.zero_point, node.limits)
        raise InputError(f"{node.name}: {type(node).__name__} has no accumulator")

    def _max_pool(self, node: MaxPool, operand: IntArray) -> IntArray:
        image = _padded(operand, node.padding, self.types[node.name].lo)
        taps = _taps(image, node.kernel, node.stride)
        result: IntArray = next(taps).copy()
        for tap in taps:
            np.maximum(result, tap, out=result)
        return result

    def _concat(self, node: Concat, operands: Sequence[IntArray]) -> IntArray:
        parts = [
            operand if table is None else requantize(table, operand - self.types[name].zero_point)
            for name, operand, table in zip(node.inputs, operands, node.requantize, strict=True)
        ]
        result: IntArray = np.concatenate(parts, axis=-1)
        return result


def requantize(table: Requantize, acc: IntArray, multiplier: IntArray | None = None) -> IntArray:
    """The requantised [..., channels] accumulator; `multiplier` replaces the table's.

    Exact for accumulators inside the proven range; see `_scaled`.
    """
    multiplier = table.multiplier if multiplier is None else multiplier
    q = _scaled(acc, multiplier, table.shift, table.out.zero_point, table.limits)
    if table.bound is None:
        return q
    if table.bound_kind == "saturate":
        return np.minimum(q, table.bound)
    return np.where(q > table.bound, table.out.zero_point, q)


def thresholds(table: Thresholds, acc: IntArray) -> IntArray:
    """out.lo + #{t : acc >= t} of [..., channels]; a bipolar type counts in steps of two."""
    count = np.zeros(acc.shape, dtype=np.int64)
    for step in range(table.values.shape[1]):
        count += acc >= table.values[:, step]
    return table.out.lo + (2 if table.out.bipolar else 1) * count


def _scaled(
    acc: IntArray,
    multiplier: IntArray | int,
    shift: IntArray | int,
    zero_point: int,
    limits: tuple[int, int],
) -> IntArray:
    """clamp(((acc * m + 2^(s-1)) >> s) + zp, lo, hi), half of s = 0 being 0."""
    half = (np.int64(1) << np.asarray(shift, dtype=np.int64)) >> 1
    q = acc * multiplier
    q += half
    q >>= shift
    q += zero_point
    return np.clip(q, *limits, out=q)


def _matrix(node: Conv2d | Dense, found: ranges.Range) -> Any:
    """Weights as [groups, terms, out / groups] in a float type that holds every partial sum."""
    largest = max(-found.acc_lo, found.acc_hi, 256)
    if largest >= 1 << 53:
        raise InputError(f"{node.name}: its accumulator needs more than 53 bits; split the layer")
    groups = node.groups if isinstance(node, Conv2d) else 1
    matrix = node.weight.reshape(groups, node.out_channels // groups, -1).transpose(0, 2, 1)
    return np.ascontiguousarray(matrix, dtype=np.float32 if largest < 1 << 24 else np.float64)


def _products(node: Conv2d | Dense, centred: IntArray, matrix: Any) -> IntArray:
    """Sums of w (x - zp), without bias."""
    if isinstance(node, Conv2d):
        return _conv(node, centred, matrix)
    product: IntArray = (centred.astype(matrix.dtype) @ matrix[0]).astype(np.int64)
    return product


def _sum(taps: Iterator[Any]) -> Any:
    total = next(taps).copy()
    for tap in taps:
        total += tap
    return total


def _conv(node: Conv2d, centred: IntArray, matrix: Any) -> IntArray:
    """Convolution of x - zp without bias, some images at a time: windows times `matrix`."""
    image = _padded(centred.astype(matrix.dtype), node.padding, 0)
    if node.groups == node.out_channels and matrix.shape[1] == math.prod(node.kernel):
        return _depthwise(node, image, matrix)
    (sh, sw), (dh, dw) = node.stride, node.dilation
    windows = np.lib.stride_tricks.sliding_window_view(image, node.extent, axis=(1, 2))
    windows = windows[:, ::sh, ::sw, :, ::dh, ::dw]  # [N, oh, ow, c, kh, kw]
    count, rows, columns, channels, kh, kw = windows.shape
    groups, terms, _ = matrix.shape
    shape = (rows, columns, node.out_channels)
    result = np.empty((count, *shape), dtype=np.int64)
    step = max(1, CHUNK_BYTES // (rows * columns * channels * kh * kw * matrix.itemsize))
    for i in range(0, count, step):
        part = windows[i : i + step]
        patches = _patches(part, groups).reshape(groups, -1, terms)
        product = np.matmul(patches, matrix)  # [groups, pixels, out / groups]
        result[i : i + step] = product.transpose(1, 0, 2).reshape(-1, *shape)
    return result


def _depthwise(node: Conv2d, image: Any, matrix: Any) -> IntArray:
    """One channel in, one out: a sum of shifted images, each times its weights."""
    taps = _taps(image, node.kernel, node.stride, node.dilation)
    products = (tap * row for tap, row in zip(taps, matrix[:, :, 0].T, strict=True))
    result: IntArray = _sum(products).astype(np.int64)
    return result


def _patches(windows: Any, groups: int) -> Any:
    """[N, oh, ow, c, kh, kw] -> [groups, N, oh, ow, kh, kw, c / groups]."""
    count, rows, columns, channels, kh, kw = windows.shape
    strides = windows.strides
    each = channels // groups
    return np.lib.stride_tricks.as_strided(
        windows,
        (groups, count, rows, columns, kh, kw, each),
        (strides[3] * each, *strides[:3], *strides[4:], strides[3]),
        writeable=False,
    )


def _padded(
    x: Any, padding: tuple[int, int, int, int], value: int, channels: tuple[int, int] = (0, 0)
) -> Any:
    if not any(padding + channels):
        return x
    top, left, bottom, right = padding
    return np.pad(x, ((0, 0), (top, bottom), (left, right), channels), constant_values=value)


def _taps(
    image: Any,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> Iterator[Any]:
    """For each place of a window the [N, oh, ow, c] elements that stand there."""
    extents = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    rows, columns = (image.shape[1] - extents[0], image.shape[2] - extents[1])
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            yield image[:, top : top + rows : stride[0], left : left + columns : stride[1]]
