"""Operands of layers, read the same way for float and quantised models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..float_graph import FloatArray
from ..types import IntArray
from .onnx_file import OnnxNode
from .onnx_layout import Window, fail, option
from .onnx_walk import Value, Walker

__all__ = [
    "batch_norm",
    "check_groups",
    "check_same",
    "joined",
    "mean_axes",
    "operands",
    "pad_value",
    "pad_widths",
    "per_channel",
    "slice_strides",
    "whole",
]


def operands(node: OnnxNode) -> range:
    """The indices of the two operands of Add, Sub, Mul and Div."""
    if len(node.inputs) != 2 or "" in node.inputs:
        fail(node, "needs two operands; export the model again")
    return range(2)


def per_channel(node: OnnxNode, array: FloatArray, value: Value) -> FloatArray:
    """A constant operand as one number per channel."""
    count, rank = value.channels, len(value.shape) + 1
    axis = rank - 1 if value.last or rank == 2 else 1
    if array.size == 1:
        return np.full(count, float(array.reshape(-1)[0]))
    full = array.reshape((1,) * max(rank - array.ndim, 0) + array.shape)
    if array.size != count or full.ndim != rank or full.shape[axis] != count:
        fail(node, f"a constant of shape {array.shape} must be one number or one per channel")
    return full.reshape(-1)


def batch_norm(
    node: OnnxNode, tables: Sequence[FloatArray], value: Value
) -> tuple[FloatArray, FloatArray]:
    """Gain and offset per channel of a BatchNormalization with scale, bias, mean, variance."""
    if any(table.shape != (value.channels,) for table in tables) or value.last:
        fail(node, f"its constants do not have one number for each of {value.channels} channels")
    gamma, beta, mu, spread = tables
    spread = spread + option(node, "epsilon", 1e-5)
    if not (spread > 0).all() or option(node, "training_mode", 0):
        fail(node, "its variance is not positive or it is in training mode; export for inference")
    gain = gamma / np.sqrt(spread)
    return gain, beta - mu * gain


def whole(node: OnnxNode, value: Value) -> Window:
    """The window that covers an image."""
    if len(value.shape) != 3:
        fail(node, f"needs an image, not {value.shape}")
    size = (1, 1) if value.flat else (value.image[1], value.image[2])
    return Window(size, (1, 1), (0, 0, 0, 0), (1, 1), (0, 0), size)


def mean_axes(node: OnnxNode, value: Value, axes: Sequence[int] | None) -> None:
    """Refuse a ReduceMean that is not over rows and columns."""
    wanted = (1, 2) if value.last else (2, 3)
    if len(value.shape) != 3 or axes is None or tuple(axes) != wanted:
        fail(node, f"means over axes {axes} are not supported; only over rows and columns together")


def check_groups(node: OnnxNode, shape: tuple[int, ...], value: Value) -> int:
    """The groups of a Conv with a weight [out, in / groups, kh, kw]; InputError if they misfit."""
    groups = option(node, "group", 1)
    if len(shape) != 4:
        fail(node, f"has weight {shape}; only two-dimensional convolutions are supported")
    if groups < 1 or shape[0] % groups or value.channels != shape[1] * groups:
        fail(node, f"weight {shape} in {groups} groups does not fit {value.channels} channels")
    return int(groups)


def check_same(node: OnnxNode, a: Value, b: Value) -> None:
    """Refuse a sum of tensors that are shaped, laid out or ordered differently."""
    first, second = (np.arange(a.channels) if v.order is None else v.order for v in (a, b))
    alike = (a.shape, a.last, a.flat) == (b.shape, b.last, b.flat)
    if not alike or not np.array_equal(first, second):
        fail(node, f"adds shapes {a.shape} and {b.shape}; they must be equal, in equal layout")


def joined(node: OnnxNode, values: Sequence[Value]) -> tuple[tuple[int, ...], IntArray | None]:
    """Shape and order of tensors joined along channels."""
    first = values[0]
    axis = option(node, "axis", 1) % (len(first.shape) + 1)
    wanted = len(first.shape) if first.last or len(first.shape) == 1 else 1
    layouts = {(v.last, v.flat, len(v.shape), v.image[1:]) for v in values}
    if axis != wanted or len(layouts) != 1:
        fail(node, "only tensors of equal rows and columns are joined, along channels")
    total = sum(v.channels for v in values)
    shape = (*first.shape[:-1], total) if first.last else (total, *first.shape[1:])
    if all(v.order is None for v in values):
        return shape, None
    starts = np.cumsum([0, *(v.channels for v in values[:-1])])
    orders = [np.arange(v.channels) if v.order is None else v.order for v in values]
    return shape, np.concatenate([o + s for o, s in zip(orders, starts, strict=True)])


def pad_widths(
    walker: Walker, node: OnnxNode, value: Value
) -> tuple[tuple[int, ...], tuple[int, int, int, int], tuple[int, int]]:
    """Of a Pad: the result's shape, (top, left, bottom, right), and channels (front, back)."""
    rank = len(value.shape) + 1
    if walker.has(node, 1):
        pads = walker.whole(node, 1, "pads")
    else:
        pads = list(option(node, "pads", (0,) * (2 * rank)))
    axes = list(range(rank))
    if walker.has(node, 3):
        axes = [axis % rank for axis in walker.whole(node, 3, "axes")]
    if len(pads) != 2 * len(axes) or rank != 4 or value.flat:
        fail(node, f"pads {pads} do not fit; only images are padded")
    widths: list[tuple[int, int]] = [(0, 0)] * rank
    for axis, front, back in zip(axes, pads, pads[len(axes) :], strict=False):
        widths[axis] = (front, back)
    if min(map(min, widths)) < 0 or max(map(max, widths)) > 1 << 16 or any(widths[0]):
        fail(node, f"pads {pads}: cropping, padding the batch and huge padding are not supported")
    shape = tuple(n + a + b for n, (a, b) in zip(value.shape, widths[1:], strict=True))
    planes, rows, columns = (widths[3], *widths[1:3]) if value.last else widths[1:]
    return shape, (rows[0], columns[0], rows[1], columns[1]), planes


def slice_strides(walker: Walker, node: OnnxNode, value: Value) -> tuple[int, int]:
    """Rows and columns that a Slice x[:, :, ::n, ::m] steps by; other slices are refused."""
    walker.planes(node, value)
    names = ("starts", "ends", "axes", "steps")
    parts: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        if walker.has(node, index + 1):
            parts[name] = walker.whole(node, index + 1, name)
        elif name in node.attributes:
            parts[name] = list(option(node, name, (0,)))
    starts, ends = parts.get("starts", []), parts.get("ends", [])
    axes = parts.get("axes", list(range(len(starts))))
    steps = parts.get("steps", [1] * len(starts))
    strides = [1, 1, 1, 1]
    if not len(starts) == len(ends) == len(axes) == len(steps):
        fail(node, "its starts, ends, axes and steps differ in number; export the model again")
    sizes = (walker.batch, *value.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        whole_axis = -4 <= axis < 4 and start == 0 and end >= sizes[axis]
        if not whole_axis or not 1 <= step <= 1 << 16 or (step > 1 and axis % 4 < 2):
            fail(node, "only slices x[:, :, ::n, ::n] are supported, whole and from 0")
        strides[axis] = step
    return strides[2], strides[3]


def pad_value(node: OnnxNode, mode: Any, fill: float, zero: float) -> None:
    """Refuse padding with anything but zero."""
    if mode != "constant" or fill != zero:
        fail(node, f"pads with {mode} {fill}; only constant zero (the zero point) is supported")
