"""A float ONNX model becomes a float graph, which our own quantiser takes from there.

Float graphs are channels first, as ONNX is; `float_passes.simplify` folds batch norms, clamps and
padding as for torch modules.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import float_graph as fg
from ..float_passes import simplify
from .onnx_file import OnnxGraph, OnnxNode
from .onnx_layout import fail, label, option, window
from .onnx_operators import STANDARD
from .onnx_shapes import (
    batch_norm,
    check_groups,
    check_same,
    joined,
    mean_axes,
    operands,
    pad_value,
    pad_widths,
    per_channel,
    slice_strides,
    whole,
)
from .onnx_walk import Value, Walker

__all__ = ["import_float"]


@dataclass(frozen=True, eq=False)
class Real(Value):
    """A tensor of a float network; behind a dropped softmax or an arg-max it is `final`."""

    final: bool = False


class _FloatWalker(Walker):
    """Makes float nodes in order."""

    stores_last = False

    def __init__(self, graph: OnnxGraph) -> None:
        super().__init__(graph)
        self.nodes: list[fg.FloatNode] = []
        shape, last = self.source()
        self.values[graph.input_name] = Real(graph.input_name, shape, last)

    def tensor(self, node: OnnxNode, index: int = 0) -> Real:
        """An operand that is not behind the end of the network."""
        value: Real = self.operand(node, index)
        if value.final:
            fail(node, "stands behind a Softmax or ArgMax, which must be the last layer")
        return value

    def emit(self, kind: Any, node: OnnxNode, value: Real, shape: Any, **fields: Any) -> Real:
        """Append a node that reads `value` (or `inputs` of the fields); `shape` is ONNX's."""
        name = f"{len(self.nodes)}.tensor"
        result = dataclasses.replace(value, name=name, shape=shape)
        common = {"inputs": (value.name,), "path": node.name, "name": name}
        stored = result.image if not result.flat else (math.prod(shape),)
        self.nodes.append(kind(**{**common, **fields}, shape=stored))
        return result

    def flatten(self, node: OnnxNode, value: Real) -> Real:
        """(c, h, w) -> (c * h * w,)."""
        shape = (math.prod(value.shape),)
        return self.emit(fg.Flatten, node, dataclasses.replace(value, flat=True), shape)


def import_float(graph: OnnxGraph) -> tuple[fg.FloatGraph, tuple[str, ...]]:
    """The simplified float graph of a model without quantisers, and notes.

    Raises InputError naming the node and the fix.
    """
    walker = _FloatWalker(graph)
    walker.walk()
    value = walker.values.get(graph.output_name)
    if value is None or value.name == graph.input_name:
        node = next(n for n in graph.nodes if graph.output_name in n.outputs)
        fail(node, "the network's output does not depend on its input")
    source = walker.values[graph.input_name]
    result = fg.FloatGraph(
        graph.name, graph.input_name, source.image, tuple(walker.nodes), value.name
    )
    return simplify(result), tuple(walker.notes)


def _conv(walker: _FloatWalker, node: OnnxNode) -> Real:
    value, weight = walker.tensor(node), walker.reals(node, 1, "weight")
    groups = check_groups(node, weight.shape, value)
    outs, _, kh, kw = weight.shape
    found = window(node, walker.planes(node, value), (kh, kw))
    padding, (top, left, bottom, right) = found.padding, found.padding
    if max(top, bottom) >= found.extent[0] or max(left, right) >= found.extent[1]:
        shape = (value.shape[0], found.image[0] + top + bottom, found.image[1] + left + right)
        value = walker.emit(fg.Pad, node, value, shape, padding=padding, channels=(0, 0))
        padding = (0, 0, 0, 0)
    return walker.emit(
        fg.Conv,
        node,
        value,
        (outs, *found.result),
        weight=weight,
        bias=_bias(walker, node, outs),
        stride=found.stride,
        padding=padding,
        dilation=found.dilation,
        groups=groups,
    )


def _bias(walker: _FloatWalker, node: OnnxNode, outs: int) -> fg.FloatArray:
    if not walker.has(node, 2):
        return np.zeros(outs)
    bias = walker.reals(node, 2, "bias").reshape(-1)
    if bias.size not in (1, outs):
        fail(node, f"its bias has {bias.size} numbers for {outs} channels")
    return np.array(np.broadcast_to(bias, (outs,)))


def _dense(walker: _FloatWalker, node: OnnxNode) -> Real:
    """Gemm, or MatMul without attributes."""
    value, weight = walker.tensor(node), walker.reals(node, 1, "weight")
    features, order = walker.features(node, value)
    if option(node, "transA", 0):
        fail(node, "transA is not supported; export with transA 0")
    rows = weight if option(node, "transB", 0) else weight.T
    if weight.ndim != 2 or rows.shape[1] != features:
        fail(node, f"a weight of shape {weight.shape} does not fit {features} features")
    rows = rows * option(node, "alpha", 1.0)
    bias = _bias(walker, node, len(rows)) * option(node, "beta", 1.0)
    if not (np.isfinite(rows).all() and np.isfinite(bias).all()):
        fail(node, "alpha or beta is NaN or infinity; export the model again")
    rows = rows if order is None else rows[:, order]
    plain = dataclasses.replace(value, flat=True, order=None)
    return walker.emit(fg.Dense, node, plain, (len(rows),), weight=rows, bias=bias)


def _batch_norm(walker: _FloatWalker, node: OnnxNode) -> Real:
    value = walker.tensor(node)
    names = ("scale", "bias", "mean", "variance")
    tables = [walker.reals(node, i + 1, name) for i, name in enumerate(names)]
    gain, offset = batch_norm(node, tables, value)
    return _affine(walker, node, value, gain, offset)


def _affine(
    walker: _FloatWalker, node: OnnxNode, value: Real, gain: fg.FloatArray, offset: fg.FloatArray
) -> Real:
    if not (np.isfinite(gain).all() and np.isfinite(offset).all()):
        fail(node, "a constant operand is zero, NaN or infinity")
    if value.order is not None:
        gain, offset = gain[value.order], offset[value.order]
    return walker.emit(fg.Affine, node, value, value.shape, gain=gain, offset=offset)


def _arithmetic(walker: _FloatWalker, node: OnnxNode) -> Real:
    """Add, Sub, Mul, Div: of two tensors only Add, else with a constant."""
    constant = [walker.known(node, i) for i in operands(node)]
    if not any(constant):
        if node.op != "Add":
            fail(node, f"{node.op} of two tensors is not supported; only Add is")
        a, b = walker.tensor(node, 0), walker.tensor(node, 1)
        check_same(node, a, b)
        return walker.emit(fg.Sum, node, a, a.shape, inputs=(a.name, b.name))
    place = 0 if constant[1] else 1
    if place == 1 and node.op in ("Sub", "Div"):
        fail(node, "its first operand is a constant; only tensor - or / constant is supported")
    value = walker.tensor(node, place)
    array = per_channel(node, walker.reals(node, 1 - place, "constant"), value)
    one, zero = np.ones_like(array), np.zeros_like(array)
    if node.op == "Div" and not array.all():
        fail(node, "divides by zero")
    pairs = {"Add": (one, array), "Sub": (one, -array), "Mul": (array, zero)}
    gain, offset = pairs[node.op] if node.op in pairs else (one / array, zero)
    return _affine(walker, node, value, gain, offset)


def _relu(walker: _FloatWalker, node: OnnxNode) -> Real:
    value = walker.tensor(node)
    return walker.emit(fg.Clamp, node, value, value.shape, lo=0.0)


def _clip(walker: _FloatWalker, node: OnnxNode) -> Real:
    """Limits are operands from opset 11 on, attributes before."""
    value = walker.tensor(node)
    limits = [option(node, "min", -math.inf), option(node, "max", math.inf)]
    for i in (0, 1):
        if walker.has(node, i + 1):
            limit = walker.reals(node, i + 1, "limit").reshape(-1)
            limits[i] = float(limit[0]) if limit.size else limits[i]
    if not limits[0] <= limits[1]:
        fail(node, f"clips to {limits[0]}..{limits[1]}, which is no range")
    return walker.emit(fg.Clamp, node, value, value.shape, lo=limits[0], hi=limits[1])


def _concat(walker: _FloatWalker, node: OnnxNode) -> Real:
    values = [walker.tensor(node, i) for i in range(len(node.inputs))]
    shape, order = joined(node, values)
    first = dataclasses.replace(values[0], order=order)
    return walker.emit(fg.Concat, node, first, shape, inputs=tuple(v.name for v in values))


def _max_pool(walker: _FloatWalker, node: OnnxNode) -> Real:
    value = walker.tensor(node)
    image = walker.planes(node, value)
    found = whole(node, value) if node.op == "GlobalMaxPool" else window(node, image)
    if found.dilation != (1, 1):
        fail(node, "max pooling with dilation is not supported")
    fields = {"kernel": found.kernel, "stride": found.stride, "padding": found.padding}
    return walker.emit(fg.MaxPool, node, value, (image[0], *found.result), **fields)


def _avg_pool(walker: _FloatWalker, node: OnnxNode) -> Real:
    value = walker.tensor(node)
    image = walker.planes(node, value)
    found = window(node, image)
    include = bool(option(node, "count_include_pad", 0)) and any(found.padding)
    if found.dilation != (1, 1):
        fail(node, "average pooling with dilation is not supported")
    if include and any(found.extra):
        fail(node, "ceil_mode with count_include_pad is not supported; switch one of them off")
    fields = {"kernel": found.kernel, "stride": found.stride, "padding": found.padding}
    shape = (image[0], *found.result)
    return walker.emit(fg.AvgPool, node, value, shape, **fields, count_include_pad=include)


def _global_mean(walker: _FloatWalker, node: OnnxNode, value: Real) -> Real:
    found = whole(node, value)
    if value.flat:
        return value
    shape = (1, 1, value.channels) if value.last else (value.channels, 1, 1)
    fields = {"kernel": found.kernel, "stride": (1, 1), "padding": (0, 0, 0, 0)}
    return walker.emit(fg.AvgPool, node, value, shape, **fields, count_include_pad=False)


def _global_avg_pool(walker: _FloatWalker, node: OnnxNode) -> Real:
    value = walker.tensor(node)
    if value.last:
        fail(node, "its operand was transposed to channels last; transpose it back before")
    return _global_mean(walker, node, value)


def _reduce_mean(walker: _FloatWalker, node: OnnxNode) -> Real:
    value = walker.tensor(node)
    mean_axes(node, value, walker.axes(node, len(value.shape) + 1))
    result = _global_mean(walker, node, value)
    if option(node, "keepdims", 1):
        return result
    result = result if result.flat else walker.flatten(node, result)
    return dataclasses.replace(result, shape=(value.channels,), last=False)


def _pad(walker: _FloatWalker, node: OnnxNode) -> Real:
    value = walker.tensor(node)
    shape, padding, channels = pad_widths(walker, node, value)
    fill = option(node, "value", 0.0)
    if walker.has(node, 2):
        fill = float(walker.reals(node, 2, "value").sum())
    pad_value(node, option(node, "mode", "constant"), fill, 0.0)
    return walker.emit(fg.Pad, node, value, shape, padding=padding, channels=channels)


def _slice(walker: _FloatWalker, node: OnnxNode) -> Real:
    """A strided slice is a pool over a window of one."""
    value = walker.tensor(node)
    strides = slice_strides(walker, node, value)
    if strides == (1, 1):
        return value
    rows, columns = (-(-n // s) for n, s in zip(value.shape[1:], strides, strict=True))
    fields = {"kernel": (1, 1), "stride": strides, "padding": (0, 0, 0, 0)}
    return walker.emit(fg.MaxPool, node, value, (value.shape[0], rows, columns), **fields)


def _softmax(walker: _FloatWalker, node: OnnxNode) -> Real:
    walker.notes.append(
        f"{label(node)}: left out; the output holds the logits in front of it, in the same order"
    )
    return dataclasses.replace(walker.tensor(node), final=True)


def _argmax(walker: _FloatWalker, node: OnnxNode) -> Real:
    value: Real = walker.operand(node)
    axis = option(node, "axis", 0) % (len(value.shape) + 1)
    if len(value.shape) != 1 or axis != 1 or option(node, "select_last_index", 0):
        fail(node, "is supported over the features of a vector only: axis 1, the first of equals")
    if value.order is not None:
        fail(node, "would count a flattened image in another order; put a Gemm before it")
    result = walker.emit(fg.ArgMax, node, value, (1,))
    return dataclasses.replace(result, final=True)


_FloatWalker.handlers = {
    (STANDARD, op): rule
    for op, rule in {
        "Add": _arithmetic,
        "ArgMax": _argmax,
        "AveragePool": _avg_pool,
        "BatchNormalization": _batch_norm,
        "Clip": _clip,
        "Concat": _concat,
        "Conv": _conv,
        "Div": _arithmetic,
        "Gemm": _dense,
        "GlobalAveragePool": _global_avg_pool,
        "GlobalMaxPool": _max_pool,
        "LogSoftmax": _softmax,
        "MatMul": _dense,
        "MaxPool": _max_pool,
        "Mul": _arithmetic,
        "Pad": _pad,
        "ReduceMean": _reduce_mean,
        "Relu": _relu,
        "Slice": _slice,
        "Softmax": _softmax,
        "Sub": _arithmetic,
    }.items()
}
