"""The walk over an ONNX graph that every importer shares, and all that only moves axes.

ONNX images are channels first unless a Transpose says otherwise; integer graphs are channels last,
float graphs channels first. What that means for a Flatten, and for the weights behind it, is
decided here and nowhere else: `Value` tells how a tensor is stored and how ONNX sees it.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..names import printable
from ..shapes import MAX_ELEMENTS
from ..types import IntArray
from .onnx_constants import Folder
from .onnx_file import OnnxGraph, OnnxNode
from .onnx_layout import fail, option, reshaped
from .onnx_tensors import Array

__all__ = ["LAYOUT", "Handler", "Value", "Walker"]

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
# What may stand between the input and its Transpose.
_POINTWISE = "QuantizeLinear DequantizeLinear Quant IntQuant BipolarQuant Mul Div Identity Cast"
POINTWISE = frozenset(_POINTWISE.split())


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the network.

    `name` is that in the graph being made; `shape` is ONNX's without the batch axis; `last` tells
    that ONNX sees (rows, columns, channels). `flat` tells that it is stored as a vector;
    `order[i]` is then the ONNX index of stored element i (None: the same). `alone` tells that
    nothing else reads the tensor.
    """

    name: str
    shape: tuple[int, ...]
    last: bool = False
    flat: bool = False
    order: IntArray | None = None
    alone: bool = True

    @property
    def image(self) -> tuple[int, ...]:
        """(channels, rows, columns)."""
        if self.last:
            return (self.shape[2], *self.shape[:2])
        return self.shape

    @property
    def channels(self) -> int:
        """Channels of an image, features of a vector."""
        return self.image[0]


class Walker:
    """Turns nodes into values one by one; a subclass brings handlers and stores tensors.

    `notes` collects what a user should know, one line each.
    """

    handlers: ClassVar[Mapping[tuple[str, str], Callable[[Any, OnnxNode], Any]]] = {}
    stores_last: ClassVar[bool] = True  # images are stored channels last

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph
        self.batch = graph.input_shape[0]
        self.constants: dict[str, Array] = dict(graph.initializers)
        self.values: dict[str, Any] = {}
        self.notes: list[str] = []
        self.folder = Folder()
        self.uses = Counter(name for node in graph.nodes for name in node.inputs)
        self.uses[graph.output_name] += 1

    def flatten(self, node: OnnxNode, value: Any) -> Any:
        """Store an image as a vector; `reorder` sets what ONNX sees."""
        raise TypeError(f"{type(self).__name__} must say how it flattens")

    def keep(self, tensor: str, value: Any) -> None:
        """Called with every value; `tensor` is its ONNX name."""

    def source(self) -> tuple[tuple[int, ...], bool]:
        """The input's shape without batch, and whether ONNX sees it channels last.

        It is so if the first thing done to it is a Transpose to channels first.
        """
        shape = self.graph.input_shape[1:]
        name, last = self.graph.input_name, False
        for node in self.graph.nodes:
            if node.inputs[:1] == (name,) and self.uses[name] == 1 and len(shape) == 3:
                name = node.outputs[0]
                last = node.op == "Transpose" and node.attributes.get("perm") == TO_FIRST
                if node.op not in POINTWISE:
                    break
        return shape, last

    def walk(self) -> None:
        """Visit every node; raises InputError naming the first that is not supported."""
        for node in self.graph.nodes:
            inputs = [name for name in node.inputs if name]
            if not node.inputs:
                fail(node, "has no operands; export the model again")
            if self.folder.knows(node) and all(name in self.constants for name in inputs):
                arrays = [self.constants[name] for name in inputs]
                self.constants[node.outputs[0]] = self.folder.fold(node, arrays)
                continue
            handler = self.handlers.get((node.domain, node.op)) or LAYOUT.get(node.op)
            if handler is None:
                fail(node, "this operator is not supported in a model of this kind")
            result = handler(self, node)
            if result is not None:
                if math.prod(result.shape) > MAX_ELEMENTS:
                    fail(node, f"its result {result.shape} has more than {MAX_ELEMENTS} elements")
                once = self.uses[node.outputs[0]] == 1
                kept = dataclasses.replace(result, alone=result.alone and once)
                self.values[node.outputs[0]] = kept
                self.keep(node.outputs[0], kept)
            extra = [name for name in node.outputs[1:] if self.uses[name]]
            if extra and node.op not in ("Dropout", "TopK"):  # they look at it themselves
                fail(node, f"result {printable(extra[0])} is not supported; only the first one is")

    def operand(self, node: OnnxNode, index: int = 0) -> Any:
        """The value of an operand that the network computes."""
        name = node.inputs[index] if index < len(node.inputs) else ""
        if name not in self.values:
            fail(node, f"operand {index + 1} must be computed by the network, not constant")
        return self.values[name]

    def has(self, node: OnnxNode, index: int) -> bool:
        """Whether an optional operand is there."""
        return index < len(node.inputs) and bool(node.inputs[index])

    def known(self, node: OnnxNode, index: int) -> bool:
        """Whether an operand is a constant."""
        return self.has(node, index) and node.inputs[index] in self.constants

    def constant(self, node: OnnxNode, index: int, what: str) -> Array:
        """The array of a constant operand."""
        if not self.has(node, index):
            fail(node, f"has no {what}; export the model again")
        name = node.inputs[index]
        if name not in self.constants:
            fail(node, f"{what} {printable(name)} is computed by the network; it must be constant")
        return self.constants[name]

    def whole(self, node: OnnxNode, index: int, what: str) -> list[int]:
        """A constant operand as integers."""
        array = self.constant(node, index, what)
        if array.dtype.kind not in "iu":
            fail(node, f"{what} is {array.dtype}; it must hold integers")
        return [int(n) for n in array.reshape(-1)]

    def reals(self, node: OnnxNode, index: int, what: str) -> Array:
        """A constant operand as finite float64."""
        array = np.asarray(self.constant(node, index, what), dtype=np.float64)
        if not np.isfinite(array).all():
            fail(node, f"{what} holds NaN or infinity; train or load the weights again")
        return array

    def axes(self, node: OnnxNode, rank: int) -> tuple[int, ...] | None:
        """`axes` as attribute or second operand, batch axis counted, none negative."""
        if self.has(node, 1):
            axes = self.whole(node, 1, "axes")
        elif "axes" in node.attributes:
            axes = list(option(node, "axes", (0,)))
        else:
            return None
        if any(not -rank <= a < rank for a in axes):
            fail(node, f"axes {axes} do not exist")
        return tuple(sorted({a % rank for a in axes}))

    def features(self, node: OnnxNode, value: Any) -> tuple[int, IntArray | None]:
        """Number and order of the features of a vector."""
        if len(value.shape) != 1:
            fail(node, f"needs a vector, its operand has shape {value.shape}; put a Flatten before")
        return value.shape[0], value.order

    def planes(self, node: OnnxNode, value: Any) -> tuple[int, int, int]:
        """(channels, rows, columns) of an image that ONNX sees channels first."""
        if len(value.shape) != 3 or value.flat:
            fail(node, f"needs an image (channels, rows, columns), not {value.shape}")
        if value.last:
            fail(node, "its operand was transposed to channels last; transpose it back before")
        return value.shape[0], value.shape[1], value.shape[2]


Handler = Callable[[Any, OnnxNode], Any]


def _target(walker: Walker, node: OnnxNode, value: Any, shape: tuple[int, ...]) -> Any:
    """`value` seen with another shape (no batch axis), where no element moves."""
    if shape == value.shape:
        return value
    size = (math.prod(value.shape),)
    if shape not in (size, (*size, 1, 1)):
        fail(node, f"reshapes {value.shape} to {shape}; only flattening an image is supported")
    if not value.flat:
        made = walker.flatten(node, value)
        order = _flat_order(value, walker.stores_last)
        value = dataclasses.replace(made, flat=True, last=False, order=order)
    return dataclasses.replace(value, shape=shape, last=False)


def _flat_order(value: Any, stores_last: bool) -> IntArray | None:
    """ONNX index of each element of a flattened image."""
    if value.last == stores_last or sum(n > 1 for n in value.shape) < 2:
        return None
    index = np.arange(math.prod(value.shape)).reshape(value.shape)
    axes = (1, 2, 0) if stores_last else (2, 0, 1)
    return index.transpose(axes).ravel()


def _reshape(walker: Walker, node: OnnxNode) -> Any:
    value = walker.operand(node)
    target = walker.whole(node, 1, "shape")
    shape = reshaped(node, (walker.batch, *value.shape), target)
    return _target(walker, node, value, shape[1:])


def _flatten(walker: Walker, node: OnnxNode) -> Any:
    value, axis = walker.operand(node), option(node, "axis", 1)
    if axis % (len(value.shape) + 1) != 1:
        fail(node, f"flattens at axis {axis}; only axis 1 keeps the batch")
    return _target(walker, node, value, (math.prod(value.shape),))


def _squeeze(walker: Walker, node: OnnxNode) -> Any:
    value = walker.operand(node)
    full = (walker.batch, *value.shape)
    axes = walker.axes(node, len(full))
    if axes is None:
        axes = tuple(i for i, n in enumerate(full) if n == 1 and i)
    if 0 in axes or any(full[a] != 1 for a in axes):
        fail(node, f"squeezes axes {axes} of {full}; only rows and columns of size 1 may go")
    return _target(walker, node, value, tuple(n for i, n in enumerate(full) if i and i not in axes))


def _unsqueeze(walker: Walker, node: OnnxNode) -> Any:
    value = walker.operand(node)
    axes = walker.axes(node, len(value.shape) + 3)
    if len(value.shape) != 1 or axes != (2, 3):
        fail(node, "only a vector may get axes, rows and columns of size 1")
    return dataclasses.replace(value, shape=(*value.shape, 1, 1))


def _transpose(walker: Walker, node: OnnxNode) -> Any:
    value = walker.operand(node)
    perm = option(node, "perm", tuple(range(len(value.shape), -1, -1)))
    if perm == tuple(range(len(value.shape) + 1)):
        return value
    if perm in (TO_LAST, TO_FIRST) and len(value.shape) == 3 and value.last == (perm == TO_FIRST):
        shape = tuple(value.shape[axis - 1] for axis in perm[1:])
        return dataclasses.replace(value, shape=shape, last=not value.last)
    return fail(node, f"transposes by {perm}; only channels first <-> channels last is supported")


def _shape(walker: Walker, node: OnnxNode) -> None:
    """Shapes are known; what is computed from them is constant."""
    full = np.array((walker.batch, *walker.operand(node).shape), dtype=np.int64)
    start, end = option(node, "start", 0), option(node, "end", len(full))
    walker.constants[node.outputs[0]] = full[start:end]


def _identity(walker: Walker, node: OnnxNode) -> Any:
    return walker.operand(node)


def _cast(walker: Walker, node: OnnxNode) -> Any:
    if option(node, "to", 0) not in (1, 10, 11):
        fail(node, "casts of tensors are supported between float types only")
    return walker.operand(node)


def _dropout(walker: Walker, node: OnnxNode) -> Any:
    """Nothing in inference."""
    training = walker.has(node, 2) and walker.constant(node, 2, "training_mode").any()
    if training or any(walker.uses[name] for name in node.outputs[1:]):
        fail(node, "is in training mode or its mask is used; export for inference")
    return walker.operand(node)


LAYOUT: dict[str, Handler] = {
    "Cast": _cast,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Identity": _identity,
    "Reshape": _reshape,
    "Shape": _shape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
