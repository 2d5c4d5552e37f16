"""The operators of a QONNX model between its quantisers.

Convolutions, dense layers, pools and sums start an accumulator; batch norms, multiplications,
additions and clamps behind it are gathered in exact arithmetic until a quantiser comes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from ..types import IntArray
from .onnx_file import OnnxNode
from .onnx_layout import fail, option, window
from .qonnx_quantisers import number
from .qonnx_steps import Line
from .qonnx_values import (
    Content,
    Joined,
    Linear,
    Pending,
    QuantConstant,
    Quantised,
    Real,
    Sum,
    Tensor,
)

__all__ = ["OPERATORS"]

Fractions = list[Fraction]


def fractions(array: Any) -> Fractions:
    """The exact values of an array, flattened."""
    return [Fraction(float(value)) for value in np.asarray(array).reshape(-1)]


def _weight(walker: Any, node: OnnxNode, rank: int) -> QuantConstant:
    """The integer weight of a layer."""
    name = node.inputs[1]
    found: QuantConstant | None = walker.weights.get(name)
    if found is None:
        array = walker.reals(node, 1, "weight")
        if (array != np.rint(array)).any() or np.abs(array).max(initial=0) > 128:
            fail(node, "its weight is not quantised; use a Quant layer (QuantConv2d, QuantLinear)")
        integers = array.astype(np.int64)
        bits = max(2, int(np.abs(integers + (integers < 0)).max(initial=0)).bit_length() + 1)
        found = QuantConstant(integers, np.ones(integers.shape), bits, False)
    if found.integers.ndim != rank:
        fail(node, f"its weight has {found.integers.ndim} axes, {rank} are supported (2-D layers)")
    if found.bits > 8 or not found.integers.size:
        fail(node, f"its weight needs {found.bits} bits; use 2..8 bits and no zero point")
    return found


def _row_scales(node: OnnxNode, weight: QuantConstant) -> Fractions:
    """The scale of every output channel, the first axis."""
    rows = weight.scale.reshape(len(weight.scale), -1)
    if (rows != rows[:, :1]).any():
        fail(node, "its weight scale changes inside an output channel; use one a channel at most")
    return fractions(rows[:, 0])


def _bias(walker: Any, node: OnnxNode, index: int, channels: int) -> Fractions:
    """The real bias, exact; zeros without one."""
    if not walker.has(node, index):
        return [Fraction(0)]
    values: Fractions = walker.exact(node, index, "bias")
    if len(values) not in (1, channels):
        fail(node, f"its bias has {len(values)} values for {channels} channels")
    return values


def _layer(
    walker: Any, node: OnnxNode, value: Tensor, linear: Linear, gains: Fractions, bias: Fractions
) -> Tensor:
    channels = len(linear.weight)
    pending = Pending(linear, (Line(linear.x.scale),), channels).affine(gains, [Fraction(0)])
    pending = pending.affine([Fraction(1)], bias)
    if linear.window is None:
        return value.holding(pending, shape=(channels,), order=None, flat=True, last=False)
    return value.holding(pending, shape=(channels, *linear.window.result))


def _conv(walker: Any, node: OnnxNode) -> Tensor:
    value, weight = walker.operand(node), _weight(walker, node, 4)
    x = walker.quantised(node, value)
    channels, groups = len(weight.integers), option(node, "group", 1)
    shape = weight.integers.shape
    if value.flat and shape[2:] == (1, 1) and groups == 1:
        weight = weight.moved(lambda array: array.reshape(shape[:2]))
        return _dense_layer(walker, node, value, x, weight, _bias(walker, node, 2, channels))
    image = walker.planes(node, value)
    if groups < 1 or channels % groups or shape[1] * groups != image[0]:
        fail(node, f"weight {shape} and {groups} groups do not fit {image[0]} channels")
    linear = Linear(
        name=node.name,
        path=node.name,
        x=x,
        weight=weight.integers.transpose(0, 2, 3, 1),
        bits=weight.bits,
        bipolar=weight.bipolar,
        window=window(node, image, (int(shape[2]), int(shape[3]))),
        groups=groups,
    )
    bias = _bias(walker, node, 2, channels)
    return _layer(walker, node, value, linear, _row_scales(node, weight), bias)


def _dense_layer(
    walker: Any,
    node: OnnxNode,
    value: Tensor,
    x: Quantised,
    weight: QuantConstant,
    bias: Fractions,
    alpha: Fraction = Fraction(1),
) -> Tensor:
    """A dense layer with `weight` [out, in] in ONNX order."""
    features = math.prod(value.shape)
    if not value.flat or weight.integers.shape[1] != features:
        fail(node, f"weight {weight.integers.shape} does not fit {value.shape}; flatten images")
    scales = [scale * alpha for scale in _row_scales(node, weight)]
    integers: IntArray = weight.integers
    if value.order is not None:
        integers = integers[:, value.order]
    linear = Linear(
        name=node.name,
        path=node.name,
        x=x,
        weight=integers,
        bits=weight.bits,
        bipolar=weight.bipolar,
        window=None,
    )
    return _layer(walker, node, value, linear, scales, bias)


def _gemm(walker: Any, node: OnnxNode) -> Tensor:
    value, weight = walker.operand(node), _weight(walker, node, 2)
    if option(node, "transA", 0):
        fail(node, "transA is not supported")
    if not option(node, "transB", 0):
        weight = weight.moved(np.transpose)
    beta, alpha = (number(node, key, 1.0) for key in ("beta", "alpha"))
    bias = [beta * b for b in _bias(walker, node, 2, len(weight.integers))]
    return _dense_layer(walker, node, value, walker.quantised(node, value), weight, bias, alpha)


def _matmul(walker: Any, node: OnnxNode) -> Tensor:
    value, weight = walker.operand(node), _weight(walker, node, 2).moved(np.transpose)
    x = walker.quantised(node, value)
    return _dense_layer(walker, node, value, x, weight, [Fraction(0)])


def change(walker: Any, node: OnnxNode, value: Tensor, gains: Fractions, more: Fractions) -> Tensor:
    """gain * y + offset, each one or one a channel."""
    content = value.content
    if isinstance(content, Real):
        if len(gains) > 1 or len(more) > 1 or gains[0] <= 0:
            fail(node, "changes the input by channel or sign before it is quantised")
        return value.holding(Real(content.line.affine(gains[0], more[0])))
    if isinstance(content, Quantised) and len(gains) == 1 and gains[0] > 0 and more == [0]:
        return value.holding(dataclasses.replace(content, scale=content.scale * gains[0]))
    if isinstance(content, Joined):
        return value.holding(_spread(walker, content, gains, more))
    pending = walker.pending(node, value)
    if len(gains) > 1 or len(more) > 1:
        if value.channels != pending.channels:
            fail(node, "changes single features of a flattened image; quantise before flattening")
        if pending.later and not all(gain > 0 for gain in gains):
            fail(node, "has a negative factor behind a max pool; quantise before it")
    elif pending.later and gains[0] <= 0:
        fail(node, "has a negative factor behind a max pool; quantise before it")
    if isinstance(pending.source, Sum) and (len(gains) > 1 or any(more)):
        fail(node, "changes a sum before it is quantised; put a quantiser behind the Add")
    return value.holding(pending.affine(gains, more))


def _spread(walker: Any, joined: Joined, gains: Fractions, more: Fractions) -> Content:
    """The change of joined parts, part by part."""
    ends = np.cumsum(joined.widths).tolist()
    parts = []
    for part, end, width in zip(joined.parts, ends, joined.widths, strict=True):
        pick = slice(end - width, end)
        piece = walker.pending_of(part, width, joined.image)
        parts.append(
            piece.affine(
                gains[pick] if len(gains) > 1 else gains, more[pick] if len(more) > 1 else more
            )
        )
    return dataclasses.replace(joined, parts=tuple(parts))


def _per_channel(node: OnnxNode, value: Tensor, array: Any, values: Fractions) -> Fractions:
    """A constant operand as one number or one a channel, in our order."""
    rank = len(value.shape) + 1
    shape = (1,) * (rank - array.ndim) + array.shape
    axis = rank - 1 if value.last else 1
    if len(shape) > rank or any(n != 1 for i, n in enumerate(shape) if i != axis):
        fail(node, f"its constant {array.shape} must be one number or one for each channel")
    if len(values) not in (1, value.channels):
        fail(node, f"its constant has {len(values)} numbers for {value.channels} channels")
    if len(values) > 1 and value.order is not None:
        return [values[i] for i in value.order]
    return values


def _arithmetic(walker: Any, node: OnnxNode) -> Tensor:
    """Add, Sub, Mul, Div with a constant; Add of two tensors."""
    first, second = node.inputs
    if first in walker.values and second in walker.values:
        return _sum(walker, node)
    index = 0 if first in walker.values else 1
    value: Tensor = walker.operand(node, index)
    array = walker.constant_array(node, 1 - index)
    values = walker.exact(node, 1 - index, "constant")
    values = _per_channel(node, value, array, values)
    one, zero = [Fraction(1)], [Fraction(0)]
    if node.op == "Mul":
        return change(walker, node, value, values, zero)
    if node.op == "Div":
        if index == 1 or not all(values):
            fail(node, "divides by a tensor of the network or by zero")
        return change(walker, node, value, [1 / v for v in values], zero)
    if node.op == "Sub" and index == 1:
        return change(walker, node, value, [-one[0]], values)
    sign = -1 if node.op == "Sub" else 1
    return change(walker, node, value, one, [sign * v for v in values])


def _sum(walker: Any, node: OnnxNode) -> Tensor:
    a, b = walker.operand(node, 0), walker.operand(node, 1)
    if node.op != "Add":
        fail(node, "is supported with a constant only")
    first, second = (np.arange(v.channels) if v.order is None else v.order for v in (a, b))
    if (a.shape, a.last, a.flat) != (b.shape, b.last, b.flat):
        fail(node, f"adds tensors of shapes {a.shape} and {b.shape}")
    if a.flat and not np.array_equal(first, second):
        fail(node, "adds a flattened image to another vector, whose order differs")
    source = Sum(
        name=node.name, path=node.name, a=walker.quantised(node, a), b=walker.quantised(node, b)
    )
    channels: int = a.channels
    made: Tensor = a.holding(Pending(source, (Line(Fraction(1)),), channels))
    return made


def _negate(walker: Any, node: OnnxNode) -> Tensor:
    return change(walker, node, walker.operand(node), [Fraction(-1)], [Fraction(0)])


def _batch_norm(walker: Any, node: OnnxNode) -> Tensor:
    """(y - mean) / sqrt(var + eps) * gamma + beta; the root is the only rounded number."""
    value = walker.operand(node)
    if option(node, "training_mode", 0):
        fail(node, "is in training mode; export for inference")
    if value.last:
        fail(node, "its operand was transposed to channels last; transpose it back before")
    names = ("scale", "bias", "mean", "variance")
    arrays = [walker.reals(node, i, what).reshape(-1) for i, what in enumerate(names, 1)]
    if any(len(array) != value.channels for array in arrays):
        fail(node, f"its parameters do not have {value.channels} values")
    scale, shift, mean, variance = arrays
    spread = variance + float(number(node, "epsilon", 1e-5))
    if (spread <= 0).any():
        fail(node, "has a variance that is not positive; train the model again")
    roots = [Fraction(math.sqrt(v)) for v in spread]
    gains = [Fraction(float(g)) / root for g, root in zip(scale, roots, strict=True)]
    more = [
        Fraction(float(b)) - Fraction(float(m)) * gain
        for b, m, gain in zip(shift, mean, gains, strict=True)
    ]
    if value.order is not None:
        gains, more = ([part[i] for i in value.order] for part in (gains, more))
    return change(walker, node, value, gains, more)


def clamp(
    walker: Any, node: OnnxNode, value: Tensor, low: Fraction | None, high: Fraction | None
) -> Tensor:
    """A clamp of the real numbers."""
    content = value.content
    if isinstance(content, Real):
        fail(node, "clamps the input before it is quantised; put the quantiser first")
    if isinstance(content, Joined):
        parts = tuple(
            walker.pending_of(part, width, content.image).each(lambda line: line.clamp(low, high))
            for part, width in zip(content.parts, content.widths, strict=True)
        )
        return value.holding(dataclasses.replace(content, parts=parts))
    if isinstance(content, Quantised):
        zero, scale = content.kind.zero_point, content.scale
        below = low is None or (content.lo - zero) * scale >= low
        if below and (high is None or (content.hi - zero) * scale <= high):
            return value
    pending: Pending = walker.pending(node, value)
    return value.holding(pending.each(lambda line: line.clamp(low, high)))


def _relu(walker: Any, node: OnnxNode) -> Tensor:
    return clamp(walker, node, walker.operand(node), Fraction(0), None)


def _clip(walker: Any, node: OnnxNode) -> Tensor:
    ends: list[Fraction | None] = []
    for index, key in ((1, "min"), (2, "max")):
        if walker.has(node, index):
            ends.append(fractions(walker.reals(node, index, key))[0])
        else:
            ends.append(number(node, key, 0.0) if key in node.attributes else None)
    return clamp(walker, node, walker.operand(node), ends[0], ends[1])


Handler = Callable[[Any, OnnxNode], Any]
OPERATORS: dict[str, Handler] = {
    "Add": _arithmetic,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Conv": _conv,
    "Div": _arithmetic,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Mul": _arithmetic,
    "Neg": _negate,
    "Relu": _relu,
    "Sub": _arithmetic,
}
