"""Operators whose operands are all constants: the shape arithmetic that exporters write down.

Sizes of results are checked before they are allocated, one by one and together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..names import printable
from .onnx_file import OnnxNode
from .onnx_layout import fail
from .onnx_tensors import MAX_TENSOR_ELEMENTS, Array

__all__ = ["Folder"]

MAX_FOLDED = 1 << 27  # elements of all results together
# TensorProto.DataType of Cast: number -> NumPy type.
_CASTS: dict[int, Any] = {
    1: np.float32,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
}


class Folder:
    """Computes constant nodes of one graph, within MAX_FOLDED elements."""

    def __init__(self) -> None:
        self.elements = 0

    def knows(self, node: OnnxNode) -> bool:
        """Whether this operator can be computed."""
        return node.op in _RULES and not node.domain

    def fold(self, node: OnnxNode, arrays: list[Array]) -> Array:
        """The result of a node; InputError naming it for sizes or operands that do not fit."""
        try:
            bound = _size(node, arrays)
            self.elements += bound
            if bound > MAX_TENSOR_ELEMENTS or self.elements > MAX_FOLDED:
                fail(node, f"makes a constant of {bound} elements, which is too large")
            return np.asarray(_RULES[node.op](node, arrays))
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            fail(node, f"cannot be computed from its constants: {printable(str(error))}")


def _size(node: OnnxNode, arrays: list[Array]) -> int:
    """An upper bound of the elements of the result."""
    if node.op == "ConstantOfShape":
        return math.prod(max(int(n), 1) for n in arrays[0].reshape(-1))
    if node.op == "Gather":
        return arrays[0].size * arrays[1].size
    if node.op in ("Add", "Sub", "Mul", "Div"):
        return math.prod(np.broadcast_shapes(*(array.shape for array in arrays)))
    return sum(array.size for array in arrays)


def _axes(node: OnnxNode, arrays: list[Array]) -> list[int]:
    """Axes of Squeeze and Unsqueeze: an attribute up to opset 12, an operand from 13 on."""
    if len(arrays) > 1:
        return [int(axis) for axis in arrays[1].reshape(-1)]
    return list(node.attributes.get("axes", ()))


def _unsqueeze(node: OnnxNode, arrays: list[Array]) -> Array:
    return np.expand_dims(arrays[0], tuple(_axes(node, arrays)))


def _squeeze(node: OnnxNode, arrays: list[Array]) -> Array:
    return np.squeeze(arrays[0], tuple(_axes(node, arrays)) or None)


def _slice(node: OnnxNode, arrays: list[Array]) -> Array:
    """Starts, ends, axes, steps: operands from opset 10 on, attributes before."""
    data, *rest = arrays
    if rest:
        parts = [[int(v) for v in part.reshape(-1)] for part in rest]
    else:
        parts = [list(node.attributes[key]) for key in ("starts", "ends")]
        parts += [list(node.attributes["axes"])] if "axes" in node.attributes else []
    starts, ends = parts[0], parts[1]
    axes = parts[2] if len(parts) > 2 else list(range(len(starts)))
    steps = parts[3] if len(parts) > 3 else [1] * len(starts)
    index = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(start, end, step)
    return np.asarray(data[tuple(index)])


def _cast(node: OnnxNode, arrays: list[Array]) -> Array:
    if node.attributes.get("to") not in _CASTS:
        raise ValueError("Cast to this type is not read")
    return arrays[0].astype(_CASTS[node.attributes["to"]])


def _constant_of_shape(node: OnnxNode, arrays: list[Array]) -> Array:
    value = np.asarray(node.attributes.get("value", np.float32(0)))
    return np.full(tuple(int(n) for n in arrays[0].reshape(-1)), value.reshape(-1)[0])


def _divide(node: OnnxNode, arrays: list[Array]) -> Array:
    a, b = arrays
    if a.dtype.kind in "iu":
        if not b.all():
            raise ValueError("division by zero")
        return (np.abs(a) // np.abs(b)) * np.sign(a) * np.sign(b)  # C's, towards zero
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(a / b)


def _reshape(node: OnnxNode, arrays: list[Array]) -> Array:
    data, target = arrays
    sizes = [int(n) for n in target.reshape(-1)]
    return data.reshape([data.shape[i] if n == 0 else n for i, n in enumerate(sizes)])


_RULES: dict[str, Callable[[OnnxNode, list[Array]], Any]] = {
    "Add": lambda node, arrays: arrays[0] + arrays[1],
    "Sub": lambda node, arrays: arrays[0] - arrays[1],
    "Mul": lambda node, arrays: arrays[0] * arrays[1],
    "Div": _divide,
    "Neg": lambda node, arrays: -arrays[0],
    "Cast": _cast,
    "Concat": lambda node, arrays: np.concatenate(arrays, node.attributes["axis"]),
    "ConstantOfShape": _constant_of_shape,
    "Gather": lambda node, arrays: np.take(arrays[0], arrays[1], node.attributes.get("axis", 0)),
    "Identity": lambda node, arrays: arrays[0],
    "Reshape": _reshape,
    "Shape": lambda node, arrays: np.array(arrays[0].shape, dtype=np.int64),
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": lambda node, arrays: arrays[0].transpose(node.attributes.get("perm")),
    "Unsqueeze": _unsqueeze,
}
