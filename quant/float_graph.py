"""The network in real numbers: what an importer reads and calibration and quantisation need.

Tensors are channels-first as in torch, (c, h, w) or (features,), without the batch axis. Weights
are float64 arrays in torch's layout. Every node carries a fused clamp `lo`..`hi` on its result, so
that ReLU and its relatives vanish into the operator in front of them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "Affine",
    "ArgMax",
    "AvgPool",
    "Clamp",
    "Concat",
    "Conv",
    "Dense",
    "Flatten",
    "FloatArray",
    "FloatGraph",
    "FloatNode",
    "GlobalAvgPool",
    "MaxPool",
    "Pad",
    "Sum",
    "execute",
]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Window = tuple[int, int]
Padding = tuple[int, int, int, int]  # top, left, bottom, right


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatNode:
    """An operator with result `name` of `shape`; `path` is what messages call it."""

    name: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    path: str
    lo: float = -math.inf
    hi: float = math.inf

    @property
    def clamped(self) -> bool:
        """Whether a clamp was fused into this node."""
        return self.lo > -math.inf or self.hi < math.inf


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(FloatNode):
    """Convolution; `weight` [out, in / groups, kh, kw], `bias` [out]."""

    weight: FloatArray
    bias: FloatArray
    stride: Window
    padding: Padding
    dilation: Window
    groups: int

    @property
    def extent(self) -> Window:
        """Rows and columns that a window spans, dilation included."""
        kh, kw = self.weight.shape[2:]
        return (kh - 1) * self.dilation[0] + 1, (kw - 1) * self.dilation[1] + 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense(FloatNode):
    """`weight` [out, in] times a (features,) tensor, plus `bias` [out]."""

    weight: FloatArray
    bias: FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Affine(FloatNode):
    """x * gain + offset per channel (batch normalisation in evaluation mode)."""

    gain: FloatArray
    offset: FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Clamp(FloatNode):
    """Only the clamp that every node has."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool(FloatNode):
    """Maximum over a window; padding never wins."""

    kernel: Window
    stride: Window
    padding: Padding


@dataclass(frozen=True, eq=False, kw_only=True)
class AvgPool(FloatNode):
    """Mean over a window."""

    kernel: Window
    stride: Window
    padding: Padding
    count_include_pad: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class GlobalAvgPool(FloatNode):
    """Mean over the image; the result has shape (c,)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Sum(FloatNode):
    """Element-wise a + b."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(FloatNode):
    """Join along channels."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Flatten(FloatNode):
    """(c, h, w) -> (c * h * w,), in this order."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(FloatNode):
    """Zeros around the image and `channels` (front, back) zero channels."""

    padding: Padding
    channels: Window


@dataclass(frozen=True, eq=False, kw_only=True)
class ArgMax(FloatNode):
    """Index of the largest value, shape (1,)."""


@dataclass(frozen=True, eq=False)
class FloatGraph:
    """A network in topological order with one input and one output."""

    name: str
    input_name: str
    input_shape: tuple[int, ...]
    nodes: tuple[FloatNode, ...]
    output: str

    def __iter__(self) -> Iterator[FloatNode]:
        return iter(self.nodes)

    def node(self, name: str) -> FloatNode | None:
        """The node of this name; None for the graph's input."""
        return self._by_name.get(name)

    def consumers(self, name: str) -> tuple[FloatNode, ...]:
        """The nodes that read `name`, in order."""
        return tuple(self._readers.get(name, ()))

    @functools.cached_property
    def _by_name(self) -> dict[str, FloatNode]:
        return {node.name: node for node in self.nodes}

    @functools.cached_property
    def _readers(self) -> dict[str, list[FloatNode]]:
        readers: dict[str, list[FloatNode]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers.setdefault(name, []).append(node)
        return readers

    def sole_consumer(self, name: str) -> FloatNode | None:
        """The only reader of `name`, None if there are more or `name` is the output."""
        readers = self.consumers(name)
        return readers[0] if len(readers) == 1 and name != self.output else None

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor without the batch axis; KeyError for an unknown name."""
        if name == self.input_name:
            return self.input_shape
        node = self.node(name)
        if node is None:
            raise KeyError(name)
        return node.shape

    def rewired(self, new: Mapping[str, FloatNode], drop: Mapping[str, str]) -> FloatGraph:
        """Put `new` nodes in place of those of the same name; a dropped name means its stand-in."""
        nodes = (new.get(node.name, node) for node in self.nodes if node.name not in drop)
        rewired = tuple(
            dataclasses.replace(node, inputs=tuple(drop.get(name, name) for name in node.inputs))
            for node in nodes
        )
        output = drop.get(self.output, self.output)
        return dataclasses.replace(self, nodes=rewired, output=output)


def execute(graph: FloatGraph, x: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Every tensor by name for a batch `x` [n, *input_shape], computed by torch in float32."""
    import torch

    with torch.no_grad():
        values = {graph.input_name: torch.as_tensor(np.asarray(x, dtype=np.float32))}
        for node in graph.nodes:
            result = _RULES[type(node)](node, *(values[name] for name in node.inputs))
            values[node.name] = result.clamp(node.lo, node.hi) if node.clamped else result
    return {name: value.numpy() for name, value in values.items()}


def _tensor(array: FloatArray) -> Any:
    import torch

    return torch.tensor(array, dtype=torch.float32)


def _padded(x: Any, padding: Padding, value: float = 0.0) -> Any:
    import torch

    top, left, bottom, right = padding
    return torch.nn.functional.pad(x, (left, right, top, bottom), value=value)


def _conv(node: Conv, x: Any) -> Any:
    import torch

    weight, bias = _tensor(node.weight), _tensor(node.bias)
    x = _padded(x, node.padding)
    return torch.conv2d(x, weight, bias, node.stride, 0, node.dilation, node.groups)


def _affine(node: Affine, x: Any) -> Any:
    tail = (1,) * (len(node.shape) - 1)
    return x * _tensor(node.gain).reshape(-1, *tail) + _tensor(node.offset).reshape(-1, *tail)


def _max_pool(node: MaxPool, x: Any) -> Any:
    import torch

    x = _padded(x, node.padding, -math.inf)
    return torch.nn.functional.max_pool2d(x, node.kernel, node.stride)


def _avg_pool(node: AvgPool, x: Any) -> Any:
    import torch

    pool = torch.nn.functional.avg_pool2d
    mean = pool(_padded(x, node.padding), node.kernel, node.stride)
    if node.count_include_pad:
        return mean
    inside = _padded(torch.ones_like(x), node.padding)
    return mean / pool(inside, node.kernel, node.stride)


def _pad(node: Pad, x: Any) -> Any:
    import torch

    front, back = node.channels
    return torch.nn.functional.pad(_padded(x, node.padding), (0, 0, 0, 0, front, back))


def _concat(node: Concat, *xs: Any) -> Any:
    import torch

    return torch.cat(xs, 1)


_RULES: dict[type[FloatNode], Callable[..., Any]] = {
    Conv: _conv,
    Dense: lambda node, x: x @ _tensor(node.weight).T + _tensor(node.bias),
    Affine: _affine,
    Clamp: lambda node, x: x,
    MaxPool: _max_pool,
    AvgPool: _avg_pool,
    GlobalAvgPool: lambda node, x: x.mean((2, 3)),
    Sum: lambda node, a, b: a + b,
    Concat: _concat,
    Flatten: lambda node, x: x.flatten(1),
    Pad: _pad,
    ArgMax: lambda node, x: x.argmax(1, keepdim=True),
}
