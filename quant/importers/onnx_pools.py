"""Quantised layers without weights: pools, padding, softmax and arg-max, in either view.

MaxPool and Pad work on integers as they do on real numbers, because a scale is positive and the
zero point stands for zero.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .. import ir
from .onnx_file import OnnxNode
from .onnx_layout import Window, fail, label, option, window
from .onnx_parameters import single
from .onnx_quantised import QuantisedWalker, Seen
from .onnx_real import mean
from .onnx_shapes import mean_axes, pad_value, pad_widths, slice_strides, whole

__all__ = ["POOLS", "drop_softmax", "global_mean", "reduced_mean"]


def _max_pool(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    value: Seen = walker.operand(node)
    image = walker.planes(node, value)
    found = whole(node, value) if node.op == "GlobalMaxPool" else window(node, image)
    if found.dilation != (1, 1):
        fail(node, "max pooling with dilation is not supported")
    if value.final:
        fail(node, "stands behind a Softmax or ArgMax, which must be the last layer")

    return _maximum(walker, node, value, found)


def _maximum(walker: QuantisedWalker, node: OnnxNode, value: Seen, found: Window) -> Seen:
    def step(source: str) -> str:
        return walker.emit(
            node.name,
            lambda name: ir.MaxPool(
                name=name,
                inputs=(source,),
                kernel=found.kernel,
                stride=found.stride,
                padding=found.padding,
            ),
        )

    shape = (value.channels, *found.result)
    return dataclasses.replace(walker.follow(value, step), shape=shape, alone=False)


def _slice(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    """A strided slice is a pool over a window of one."""
    value: Seen = walker.operand(node)
    strides = slice_strides(walker, node, value)
    if value.final:
        fail(node, "stands behind a Softmax or ArgMax, which must be the last layer")
    if strides == (1, 1):
        return value
    one = Window((1, 1), strides, (0, 0, 0, 0), (1, 1), (0, 0), (value.shape[1], value.shape[2]))
    return _maximum(walker, node, value, one)


def _avg_pool(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    value = walker.stored(node)
    found = window(node, walker.planes(node, value))
    return mean(walker, node, value, found, bool(option(node, "count_include_pad", 0)))


def global_mean(walker: QuantisedWalker, node: OnnxNode, value: Seen) -> Seen:
    """The average of the whole image, its rows and columns kept as 1."""
    return mean(walker, node, value, whole(node, value), include=False)


def _global_avg_pool(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    value = walker.stored(node)
    if value.last:
        fail(node, "its operand was transposed to channels last; transpose it back before")
    return global_mean(walker, node, value)


def reduced_mean(
    walker: QuantisedWalker, node: OnnxNode, value: Seen, axes: tuple[int, ...] | None
) -> Seen:
    """ReduceMean over rows and columns."""
    mean_axes(node, value, axes)
    result = global_mean(walker, node, value)
    if option(node, "keepdims", 1):
        return result
    if not result.flat:
        result = dataclasses.replace(walker.flatten(node, result), flat=True)
    return dataclasses.replace(result, shape=(value.channels,), last=False)


def _reduce_mean(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    value = walker.stored(node)
    return reduced_mean(walker, node, value, walker.axes(node, len(value.shape) + 1))


def _pad(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    """Constant padding with zero (in integers: the zero point)."""
    value: Seen = walker.operand(node)
    if value.final or (value.kind is None and not value.real):
        fail(node, "its operand has no scale or is the network's end; quantise it before")
    if value.pending is not None and not value.pending.lo <= 0 <= value.pending.hi:
        fail(node, "pads with zero what was clipped to a range without zero")
    zero = 0 if value.kind is None or value.real else value.kind.zero_point
    shape, padding, planes = pad_widths(walker, node, value)
    mode = option(node, "mode", "constant")
    fill = option(node, "value", 0.0)
    if walker.has(node, 2):
        fill = single(walker, node, 2, "value")
    pad_value(node, mode, fill, zero)

    def step(source: str) -> str:
        return walker.emit(
            node.name,
            lambda name: ir.Pad(name=name, inputs=(source,), padding=padding, channels=planes),
        )

    if shape == value.shape:
        return value
    made = walker.follow(value, step)
    return dataclasses.replace(made, shape=shape, alone=False, padded=True)


def drop_softmax(walker: QuantisedWalker, node: OnnxNode, value: Seen) -> Seen:
    """A softmax at the end keeps the order of the logits: it is left out."""
    if value.final:
        fail(node, "stands behind another Softmax or ArgMax; only one may end the network")
    walker.notes.append(
        f"{label(node)}: left out; the output holds the logits in front of it, in the same order"
    )
    return dataclasses.replace(value, final=True)


def _softmax(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    return drop_softmax(walker, node, walker.real(node))


def _argmax(walker: QuantisedWalker, node: OnnxNode) -> Seen:
    value: Seen = walker.operand(node)
    axis = option(node, "axis", 0) % (len(value.shape) + 1)
    if len(value.shape) != 1 or axis != 1 or option(node, "select_last_index", 0):
        fail(node, "is supported over the features of a vector only: axis 1, the first of equals")
    if value.order is not None and (np.diff(value.order) != 1).any():
        fail(node, "would count a flattened image in another order; put a Gemm before it")
    source = walker.raw(value) if value.pending is not None else value.name
    name = walker.emit(node.name, lambda name: ir.ArgMax(name=name, inputs=(source,)))
    return dataclasses.replace(
        value, name=name, shape=(1,), pending=None, steps=(), kind=None, real=True, final=True
    )


POOLS = {
    "ArgMax": _argmax,
    "AveragePool": _avg_pool,
    "GlobalAveragePool": _global_avg_pool,
    "GlobalMaxPool": _max_pool,
    "LogSoftmax": _softmax,
    "MaxPool": _max_pool,
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Slice": _slice,
    "Softmax": _softmax,
}
