"""Layers of the QOperator form: integers in, integers out, scales and zero points as operands.

QLinearConv and QLinearMatMul are standard; the others are onnxruntime's (domain com.microsoft,
described in its ContribOperators.md).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .onnx_file import OnnxNode
from .onnx_layout import fail, option, window
from .onnx_parameters import activation_kind, stored_weight
from .onnx_pools import drop_softmax, global_mean, reduced_mean
from .onnx_quantised import QuantisedWalker, Seen
from .onnx_real import add, convolution, dense, join, mean
from .onnx_shapes import per_channel

__all__ = ["CONTRIB_QLINEAR", "QLINEAR"]


def _input(walker: QuantisedWalker, node: OnnxNode, index: int) -> Seen:
    """Operands index, index + 1, index + 2: a tensor, its scale and its zero point."""
    return walker.integer(node, index, activation_kind(walker, node, index + 1, index + 2))


def _output(walker: QuantisedWalker, node: OnnxNode, value: Seen, scale: int) -> Seen:
    """The result with the scale and zero point that the node brings."""
    kind = activation_kind(walker, node, scale, scale + 1)
    if value.pending is None:
        return dataclasses.replace(value, real=False)
    return walker.settle(value, kind)


def _conv(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    """x, its scale and zero point, w with its own, y's, optional int32 bias at s_x * s_w."""
    value, weight = _input(walker, node, 0), stored_weight(walker, node, 3, 0)
    made = convolution(walker, node, value, weight, 8, raw=True)
    return _output(walker, node, made, 6)


def _matmul(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    value, weight = _input(walker, node, 0), stored_weight(walker, node, 3, 1)
    made = dense(walker, node, value, weight, bias=8)
    return _output(walker, node, made, 6)


def _gemm(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    """QGemm: a, b, bias at operand 6, y's scale at 7; without it the result is real."""
    if option(node, "transA", 0):
        fail(node, "transA is not supported; export with transA 0")
    rows = bool(option(node, "transB", 0))
    value, weight = _input(walker, node, 0), stored_weight(walker, node, 3, 0 if rows else 1)
    made = dense(walker, node, value, weight, bias=6, raw=True, rows=rows)
    return _output(walker, node, made, 7) if walker.has(node, 7) else made


def _add(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    """Two tensors; a constant one joins the layer in front."""
    constant = [walker.known(node, i) for i in (0, 3)]
    if not any(constant):
        made = add(walker, node, _input(walker, node, 0), _input(walker, node, 3))
        return _output(walker, node, made, 6)
    place = 3 if constant[0] else 0
    value = dataclasses.replace(_input(walker, node, place), real=True)
    offset = per_channel(node, stored_weight(walker, node, 3 - place, 0).real, value)
    made = walker.affine(node, value, np.ones_like(offset), offset)
    return _output(walker, node, made, 6)


def _concat(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    """y's scale and zero point, then three operands for each tensor."""
    values = [_input(walker, node, i) for i in range(2, len(node.inputs), 3)]
    if not values:
        fail(node, "joins nothing; export the model again")
    return _output(walker, node, join(walker, node, values), 0)


def _layout(node: OnnxNode, value: Seen) -> Seen:
    if bool(option(node, "channels_last", 0)) != value.last:
        fail(node, "channels_last differs from its operand's layout; export channels first")
    return value


def _avg_pool(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    value = _layout(node, _input(walker, node, 0))
    if value.flat or len(value.shape) != 3:
        fail(node, f"needs an image, not {value.shape}")
    found = window(node, value.image)
    include = bool(option(node, "count_include_pad", 0))
    return _output(walker, node, mean(walker, node, value, found, include), 3)


def _global_avg_pool(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    value = _layout(node, _input(walker, node, 0))
    return _output(walker, node, global_mean(walker, node, value), 3)


def _reduce_mean(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    value = _input(walker, node, 0)
    rank = len(value.shape) + 1
    axes = tuple(sorted(axis % rank for axis in option(node, "axes", (2, 3))))
    return _output(walker, node, reduced_mean(walker, node, value, axes), 3)


def _softmax(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    return drop_softmax(walker, node, _input(walker, node, 0))


QLINEAR = {"QLinearConv": _conv, "QLinearMatMul": _matmul}
CONTRIB_QLINEAR = {
    "QGemm": _gemm,
    "QLinearAdd": _add,
    "QLinearAveragePool": _avg_pool,
    "QLinearConcat": _concat,
    "QLinearConv": _conv,
    "QLinearGlobalAveragePool": _global_avg_pool,
    "QLinearReduceMean": _reduce_mean,
    "QLinearSoftmax": _softmax,
}
