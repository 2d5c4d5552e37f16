"""Quantised layers: operators that ONNX writes in real numbers between DequantizeLinear nodes.

Each handler gets the walker and the node and returns the node's value. `linear_layer` and the
others with keyword arguments serve the QLinear operators as well.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ir
from ..float_graph import FloatArray
from .onnx_file import OnnxNode
from .onnx_layout import Window, fail, option, window
from .onnx_parameters import real_constant, single, weight_operand
from .onnx_pending import Join, Linear, Mean, Sum, scale_of
from .onnx_quantised import QuantisedWalker, Seen, Weight
from .onnx_shapes import batch_norm, check_groups, check_same, joined, operands, per_channel

__all__ = ["REAL", "add", "convolution", "dense", "join", "mean"]

BIAS_SCALE_ERROR = 1e-5  # relative; a bias scale this close to s_x * s_w is meant to be it


def _signed(node: OnnxNode, weight: Weight) -> ir.IntArray:
    """Weights with their zero point folded."""
    q = weight.q - weight.along(weight.zero_point)
    limit = 1 << (weight.bits - 1)
    if q.size == 0 or q.min() < -limit or q.max() >= limit:
        fail(
            node,
            f"its weight less the zero point does not fit {weight.bits} bits; quantise weights "
            "symmetrically (zero point 0, or 128 for uint8)",
        )
    return np.asarray(q, dtype=np.int64)


def _bias(
    walker: QuantisedWalker, node: OnnxNode, index: int, steps: FloatArray, raw: bool
) -> FloatArray:
    """The bias in steps of the accumulator; `raw` integers are in these steps already."""
    if not walker.has(node, index):
        return np.zeros(len(steps))
    name = node.inputs[index]
    stored = walker.weights.get(name)
    if raw:
        values = walker.reals(node, index, "bias")
    elif stored is not None and not stored.zero_point.any():
        scale = stored.along(stored.scale).reshape(-1)
        meant = scale.size in (1, len(steps)) and np.allclose(
            scale, steps, rtol=BIAS_SCALE_ERROR, atol=0
        )
        real = stored.real.reshape(-1)
        values = stored.q.astype(np.float64) if meant else real / _fit_size(node, real, steps)
    else:
        real = real_constant(walker, node, index, "bias").reshape(-1)
        values = real / _fit_size(node, real, steps)
    values = values.reshape(-1)
    if values.size not in (1, len(steps)):
        fail(node, f"its bias has {values.size} numbers for {len(steps)} channels")
    return np.array(np.broadcast_to(values, (len(steps),)))


def _fit_size(node: OnnxNode, real: FloatArray, steps: FloatArray) -> FloatArray:
    if real.size not in (1, len(steps)):
        fail(node, f"its bias has {real.size} numbers for {len(steps)} channels")
    return steps


def _steps(
    node: OnnxNode, kind: ir.TensorType, weight: Weight, axis: int, count: int
) -> FloatArray:
    """Real step of each accumulator."""
    if weight.scale.size > 1 and weight.axis != axis:
        fail(
            node,
            f"its weight has scales along axis {weight.axis}; only one scale or one per output "
            f"channel (axis {axis}) is supported",
        )
    return np.array(np.broadcast_to(scale_of(kind) * weight.scale, (count,)), dtype=np.float64)


def convolution(
    walker: QuantisedWalker, node: OnnxNode, value: Seen, weight: Weight, bias: int, raw: bool
) -> Seen:
    """Conv of a stored value: weight [out, in / groups, kh, kw], optional bias operand `bias`."""
    assert value.kind is not None
    q = _signed(node, weight)
    groups = check_groups(node, q.shape, value)
    outs, ins, kh, kw = q.shape
    steps = _steps(node, value.kind, weight, 0, outs)
    common: dict[str, Any] = {
        "path": node.name,
        "kinds": (value.kind,),
        "weight_bits": weight.bits,
        "steps": steps,
        "bias": _bias(walker, node, bias, steps, raw),
    }
    if value.flat and (kh, kw, groups) == (1, 1, 1):
        rows = _ordered(q.reshape(outs, ins), value.order)
        found = window(node, (ins, 1, 1), (1, 1))
        if found.result == (1, 1) and not any(found.padding):
            layer = Linear(**common, inputs=(value.name,), weight=rows)
            return walker.pend(value, layer, (outs, 1, 1), order=None)
    found = window(node, walker.planes(node, value), (kh, kw))
    value, found = _outer_padding(walker, node, value, found)
    weights = q.transpose(0, 2, 3, 1)
    layer = Linear(**common, inputs=(value.name,), weight=weights, window=found, groups=groups)
    return walker.pend(value, layer, (outs, *found.result))


def _outer_padding(
    walker: QuantisedWalker, node: OnnxNode, value: Seen, found: Window
) -> tuple[Seen, Window]:
    """Padding as wide as the window stands in a Pad of its own."""
    top, left, bottom, right = found.padding
    if max(top, bottom) < found.extent[0] and max(left, right) < found.extent[1]:
        return value, found
    rows, columns = found.image
    padded = walker.follow(value, _padder(walker, node, found.padding, (0, 0)))
    image = (rows + top + bottom, columns + left + right)
    inside = Window(found.kernel, found.stride, (0, 0, 0, 0), found.dilation, (0, 0), image)
    return padded, inside


def _padder(
    walker: QuantisedWalker,
    node: OnnxNode,
    padding: tuple[int, int, int, int],
    channels: tuple[int, int],
) -> Any:
    def step(source: str) -> str:
        return walker.emit(
            node.name,
            lambda name: ir.Pad(name=name, inputs=(source,), padding=padding, channels=channels),
        )

    return step


def _ordered(weight: ir.IntArray, order: ir.IntArray | None) -> ir.IntArray:
    return weight if order is None else weight[:, order]


def dense(
    walker: QuantisedWalker,
    node: OnnxNode,
    value: Seen,
    weight: Weight,
    *,
    bias: int,
    raw: bool = False,
    rows: bool = False,
) -> Seen:
    """Gemm or MatMul of a stored value; `rows`: the weight is [out, in], not [in, out]."""
    assert value.kind is not None
    q = _signed(node, weight)
    features, order = walker.features(node, value)
    if q.ndim != 2 or q.shape[1 if rows else 0] != features:
        fail(node, f"a weight of shape {q.shape} does not fit {features} features")
    outs = q.shape[0 if rows else 1]
    gain = option(node, "alpha", 1.0) if node.op in ("Gemm", "QGemm") else 1.0
    if not 0 < gain < math.inf:
        fail(node, f"alpha {gain} must be a positive number")
    steps = gain * _steps(node, value.kind, weight, 0 if rows else 1, outs)
    layer = Linear(
        path=node.name,
        inputs=(value.name,),
        kinds=(value.kind,),
        weight=_ordered(q if rows else q.T, order),
        weight_bits=weight.bits,
        steps=steps,
        bias=_bias(walker, node, bias, steps, raw),
    )
    return walker.pend(value, layer, (outs,), order=None, flat=True)


def _conv(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    weight = weight_operand(walker, node, 1)
    return convolution(walker, node, walker.stored(node), weight, 2, raw=False)


def _gemm(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    if option(node, "transA", 0) or option(node, "beta", 1.0) != 1.0:
        fail(node, "transA and beta are not supported; export with transA 0 and beta 1")
    value, weight = walker.stored(node), weight_operand(walker, node, 1)
    return dense(walker, node, value, weight, bias=2, rows=bool(option(node, "transB", 0)))


def _matmul(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    return dense(walker, node, walker.stored(node), weight_operand(walker, node, 1), bias=2)


def _batch_norm(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    value = walker.real(node)
    names = ("scale", "bias", "mean", "variance")
    tables = [real_constant(walker, node, i + 1, name) for i, name in enumerate(names)]
    gain, offset = batch_norm(node, tables, value)
    return walker.affine(node, value, gain, offset)


def _clamp(walker: QuantisedWalker, node: OnnxNode, lo: float, hi: float) -> Seen:
    value = walker.real(node)
    if value.pending is None:
        value = walker.rescaled(node, value)
    assert value.pending is not None
    if value.padded and value.steps and not lo <= 0 <= hi:
        fail(node, "clips padding of zeros to a range without zero; put a QuantizeLinear between")
    clamped = value.pending.clamp(lo, hi)
    kept = {"steps": value.steps, "alone": value.alone, "padded": value.padded}
    return walker.pend(value, clamped, value.shape, **kept)


def _relu(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    return _clamp(walker, node, 0.0, math.inf)


def _clip(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    """Limits are operands from opset 11 on, attributes before."""
    limits = [option(node, "min", -math.inf), option(node, "max", math.inf)]
    for i in (0, 1):
        if walker.has(node, i + 1):
            limits[i] = single(walker, node, i + 1, "limit")
    if not limits[0] <= limits[1]:
        fail(node, f"clips to {limits[0]}..{limits[1]}, which is no range")
    return _clamp(walker, node, *limits)


def add(walker: QuantisedWalker, node: OnnxNode, a: Seen, b: Seen) -> Seen:
    """The sum of two stored values."""
    check_same(node, a, b)
    assert a.kind is not None
    assert b.kind is not None
    layer = Sum(path=node.name, inputs=(a.name, b.name), kinds=(a.kind, b.kind))
    return walker.pend(a, layer, a.shape)


def _arithmetic(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    """Add, Sub, Mul, Div: of two values only Add, else with a constant."""
    constant = [walker.known(node, i) or node.inputs[i] in walker.weights for i in operands(node)]
    if not any(constant):
        if node.op != "Add":
            fail(node, f"{node.op} of two tensors is not supported; only Add is")
        return add(walker, node, walker.stored(node, 0), walker.stored(node, 1))
    place = 0 if constant[1] else 1
    if place == 1 and node.op in ("Sub", "Div"):
        fail(node, "its first operand is a constant; only tensor - or / constant is supported")
    value = walker.real(node, place)
    array = per_channel(node, real_constant(walker, node, 1 - place, "constant"), value)
    one, zero = np.ones_like(array), np.zeros_like(array)
    if node.op == "Div" and not array.all():
        fail(node, "divides by zero")
    pairs = {"Add": (one, array), "Sub": (one, -array), "Mul": (array, zero)}
    gain, offset = pairs[node.op] if node.op in pairs else (one / array, zero)
    return walker.affine(node, value, gain, offset)


def join(walker: QuantisedWalker, node: OnnxNode, values: list[Seen]) -> Seen:
    """Stored values joined along channels."""
    shape, order = joined(node, values)
    kinds = tuple(v.kind for v in values if v.kind is not None)
    layer = Join(path=node.name, inputs=tuple(v.name for v in values), kinds=kinds)
    return walker.pend(values[0], layer, shape, order=order)


def _concat(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    return join(walker, node, [walker.stored(node, i) for i in range(len(node.inputs))])


def mean(
    walker: QuantisedWalker, node: OnnxNode, value: Seen, found: Window, include: bool
) -> Seen:
    """The average over a window of a stored value."""
    if value.flat and found.kernel == (1, 1):
        return walker.rescaled(node, value)
    if found.dilation != (1, 1):
        fail(node, "average pooling with dilation is not supported")
    if include and any(found.extra):
        fail(node, "ceil_mode with count_include_pad is not supported; switch one of them off")
    assert value.kind is not None
    layer = Mean(
        path=node.name,
        inputs=(value.name,),
        kinds=(value.kind,),
        window=found,
        include=include and any(found.padding),
    )
    shape = (value.channels, *found.result)
    return walker.pend(value, layer, (*shape[1:], shape[0]) if value.last else shape)


REAL = {
    "Add": _arithmetic,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _arithmetic,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Mul": _arithmetic,
    "Relu": _relu,
    "Sub": _arithmetic,
}
