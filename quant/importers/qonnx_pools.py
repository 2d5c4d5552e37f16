"""Pools, joins and padding of a QONNX model, and what may stand at its end."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from .. import ir
from ..types import IntArray, TensorType
from .onnx_file import OnnxNode
from .onnx_layout import Window, fail, option, window
from .onnx_walk import LAYOUT
from .qonnx_steps import Line
from .qonnx_values import Joined, Mean, Pending, Quantised, Real, Tensor

__all__ = ["POOLS"]

Handler = Callable[[Any, OnnxNode], Any]


def _max_pool(walker: Any, node: OnnxNode) -> Tensor:
    """The largest integer of a window; a quantiser behind it may as well stand in front."""
    value = walker.operand(node)
    image = walker.planes(node, value)
    if node.op == "GlobalMaxPool":
        size = (image[1], image[2])
        shape = Window(size, (1, 1), (0, 0, 0, 0), (1, 1), (0, 0), size)
    else:
        shape = window(node, image)
    if shape.dilation != (1, 1) or option(node, "storage_order", 0):
        fail(node, "dilation and storage_order are not supported in pools")

    def pool(x: Quantised) -> Quantised:
        name = walker.lowering.name(node.name)
        walker.lowering.add(
            ir.MaxPool(
                name=name,
                inputs=(x.name,),
                kernel=shape.kernel,
                stride=shape.stride,
                padding=shape.padding,
            )
        )
        return Quantised(name, x.kind, x.scale, x.lo, x.hi)

    made: Tensor = walker.later(node, value, pool)
    return dataclasses.replace(made, shape=(image[0], *shape.result))


def _mean(walker: Any, node: OnnxNode, value: Tensor, shape: Window, include: bool) -> Tensor:
    """The mean over a window; a window over the whole image makes a vector."""
    x, channels = walker.quantised(node, value), value.channels
    padded = any(shape.padding)
    source = Mean(
        name=node.name,
        path=node.name,
        x=x,
        window=shape,
        channels=channels,
        include=include or not padded,
        whole=shape.kernel == shape.image and not padded,
    )
    pending = Pending(source, (Line(x.scale / source.count),), channels)
    sizes = shape.result
    seen = (*sizes, channels) if value.last else (channels, *sizes)
    return value.holding(pending, shape=seen, flat=source.whole, order=None)


def _average_pool(walker: Any, node: OnnxNode) -> Tensor:
    value = walker.operand(node)
    shape = window(node, walker.planes(node, value))
    if shape.dilation != (1, 1) or any(shape.extra):
        fail(node, "dilation and ceil_mode are not supported in average pools")
    return _mean(walker, node, value, shape, bool(option(node, "count_include_pad", 0)))


def _whole(value: Tensor) -> Window:
    """The window over all rows and columns."""
    _, rows, columns = value.image
    return Window((rows, columns), (1, 1), (0, 0, 0, 0), (1, 1), (0, 0), (rows, columns))


def _global_average(walker: Any, node: OnnxNode) -> Tensor:
    value: Tensor = walker.operand(node)
    walker.planes(node, value)
    return _mean(walker, node, value, _whole(value), True)


def _reduce_mean(walker: Any, node: OnnxNode) -> Tensor:
    value = walker.operand(node)
    axes = walker.axes(node, len(value.shape) + 1)
    if len(value.shape) != 3 or value.flat or axes != ((1, 2) if value.last else (2, 3)):
        fail(node, f"reduces axes {axes}; only the mean over rows and columns is supported")
    made = _mean(walker, node, value, _whole(value), True)
    if option(node, "keepdims", 1):
        return made
    return dataclasses.replace(made, shape=(made.channels,), last=False)


def _concat(walker: Any, node: OnnxNode) -> Tensor:
    """Join along channels; the quantiser behind it goes to every part."""
    values: list[Tensor] = [walker.operand(node, index) for index in range(len(node.inputs))]
    first = values[0]
    rank = len(first.shape) + 1
    axis = option(node, "axis", 1) % rank
    if axis != (rank - 1 if first.last else 1):
        fail(node, f"joins along axis {axis}; only joining channels is supported")
    if any(
        (v.last, v.flat, v.image[1:]) != (first.last, first.flat, first.image[1:]) for v in values
    ):
        fail(node, "joins tensors of different sizes or orders of axes")
    parts: list[Quantised | Pending] = []
    widths: list[int] = []
    for value in values:
        if isinstance(value.content, Joined):
            parts += value.content.parts
            widths += value.content.widths
        elif isinstance(value.content, Quantised | Pending):
            parts.append(value.content)
            widths.append(value.channels)
        else:
            fail(node, "joins the input before it is quantised; put the quantiser first")
    total = sum(widths)
    image = None if first.flat else (first.image[1], first.image[2])
    shape = (*first.shape[:-1], total) if first.last else (total, *first.shape[1:])
    return first.holding(
        Joined(node.name, tuple(parts), tuple(widths), image), shape=shape, order=_order(values)
    )


def _order(values: list[Tensor]) -> IntArray | None:
    """The order of joined vectors."""
    if all(value.order is None for value in values):
        return None
    found, start = [], 0
    for value in values:
        order = np.arange(value.channels) if value.order is None else value.order
        found.append(order + start)
        start += value.channels
    return np.concatenate(found)


def _pad(walker: Any, node: OnnxNode) -> Tensor:
    value: Tensor = walker.operand(node)
    x, rank = walker.quantised(node, value), len(value.shape) + 1
    if option(node, "mode", "constant") != "constant":
        fail(node, "only constant padding is supported")
    if walker.has(node, 2):
        fill = walker.reals(node, 2, "constant value").reshape(-1).tolist()
    else:
        fill = [option(node, "value", 0.0)]
    if walker.has(node, 1):
        pads = [int(n) for n in walker.constant(node, 1, "pads").reshape(-1)]
    else:
        pads = list(option(node, "pads", ()))
    if any(fill) or walker.has(node, 3) or len(pads) != 2 * rank or min(pads) < 0:
        fail(node, "only zeros may be padded, with pads for every axis and none negative")
    rows, channel = (1, 3) if value.last else (2, 1)
    if rank != 4 or value.flat or pads[0] or pads[4]:
        fail(node, "only rows, columns and channels of an image may be padded")
    name = walker.lowering.name(node.name)
    walker.lowering.add(
        ir.Pad(
            name=name,
            inputs=(x.name,),
            padding=(pads[rows], pads[rows + 1], pads[rows + 4], pads[rows + 5]),
            channels=(pads[channel], pads[channel + 4]),
        )
    )
    zero = x.kind.zero_point
    made = Quantised(name, x.kind, x.scale, min(x.lo, zero), max(x.hi, zero))
    shape = tuple(n + pads[i] + pads[i + 4] for i, n in enumerate(value.shape, 1))
    return value.holding(made, shape=shape)


def _softmax(walker: Any, node: OnnxNode) -> Tensor:
    """Does not change which class is largest: left away at the end of the network."""
    value: Tensor = walker.operand(node)
    result = node.outputs[0]
    readers = {other.op for other in walker.graph.nodes if result in other.inputs}
    if readers - {"ArgMax", "Identity", "TopK"}:
        fail(node, "is supported at the end of the network only, where it is left away")
    walker.notes.append(f"{node.name}: softmax left away; the outputs are its operands")
    return value


def _arg_max(walker: Any, node: OnnxNode) -> Tensor:
    value: Tensor = walker.operand(node)
    if option(node, "select_last_index", 0):
        fail(node, "select_last_index is not supported; ties give the lowest index")
    return _largest(walker, node, value, option(node, "axis", 0))


def _top_k(walker: Any, node: OnnxNode) -> None:
    """TopK with k = 1, whose indices are the arg-max; its values are not made."""
    value: Tensor = walker.operand(node)
    k = walker.constant(node, 1, "k").reshape(-1).tolist()
    if k != [1] or not option(node, "largest", 1) or walker.uses[node.outputs[0]]:
        fail(node, "only the index of the largest value is supported (k = 1, largest = 1)")
    if len(node.outputs) > 1:
        walker.values[node.outputs[1]] = _largest(walker, node, value, option(node, "axis", -1))


def _largest(walker: Any, node: OnnxNode, value: Tensor, axis: int) -> Tensor:
    """The index of the largest feature."""
    if len(value.shape) != 1 or axis not in (1, -1):
        fail(node, "only the largest feature of a vector is supported (axis 1)")
    if value.order is not None:
        fail(node, "of a flattened image counts in another order; put a layer in front")
    if isinstance(value.content, Real):
        fail(node, "of the input itself is not supported")
    source = walker.output(node, value)
    name = walker.lowering.name(node.name)
    walker.lowering.add(ir.ArgMax(name=name, inputs=(source,)))
    kind = TensorType(max((value.channels - 1).bit_length(), 1), False)
    made = Quantised(name, kind, Fraction(1), 0, value.channels - 1)
    return value.holding(made, shape=(1,))


def _moved_weight(op: str) -> Handler:
    """Transpose and Reshape of a quantised constant keep its integers."""

    def handle(walker: Any, node: OnnxNode) -> Any:
        weight = walker.weights.get(node.inputs[0])
        if weight is None:
            return LAYOUT[op](walker, node)
        if op == "Transpose":
            perm = option(node, "perm", tuple(range(weight.integers.ndim - 1, -1, -1)))
            if sorted(perm) != list(range(weight.integers.ndim)):
                fail(node, f"perm {perm} does not fit its operand")
            weight = weight.moved(lambda array: array.transpose(perm))
        elif op == "Reshape":
            target = [int(n) for n in walker.constant(node, 1, "shape").reshape(-1)]
            sizes = weight.integers.shape
            if len(target) > 8 or any(n == 0 and i >= len(sizes) for i, n in enumerate(target)):
                fail(node, f"reshapes a constant to {target}, which does not fit")
            shape = [sizes[i] if n == 0 else n for i, n in enumerate(target)]
            known = math.prod(n for n in shape if n > 0)
            if min(shape, default=1) < -1 or weight.integers.size % known:
                fail(node, f"reshapes a constant to {target}, which does not fit")
            weight = weight.moved(lambda array: array.reshape(shape))
        walker.weights[node.outputs[0]] = weight
        return None

    return handle


POOLS: dict[str, Handler] = {
    "ArgMax": _arg_max,
    "AveragePool": _average_pool,
    "Concat": _concat,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _max_pool,
    "LogSoftmax": _softmax,
    "MaxPool": _max_pool,
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Softmax": _softmax,
    "TopK": _top_k,
    **{op: _moved_weight(op) for op in ("Cast", "Identity", "Reshape", "Transpose")},
}
