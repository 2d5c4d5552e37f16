"""The integer graph: frozen records of a quantised network, the contract between every package.

The meaning of each operator is written down in docs/ir.md; `reference.py` executes it.
Activations are channels-last, (h, w, c) or (features,). Weights are [out, kh, kw, in / groups]
for convolutions and [out, in] for dense layers. All arrays are read-only int64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .types import (
    MAX_ACT_BITS,
    MAX_M_BITS,
    MAX_SHIFT,
    MIN_M_BITS,
    IntArray,
    Requantize,
    TensorType,
    Thresholds,
    integers,
)

__all__ = [
    "MAX_M_BITS",
    "MAX_SHIFT",
    "MIN_M_BITS",
    "Add",
    "ArgMax",
    "AvgPool",
    "Concat",
    "Conv2d",
    "Dense",
    "Flatten",
    "GlobalAvgPool",
    "Graph",
    "IntArray",
    "MaxPool",
    "Node",
    "Pad",
    "Requantize",
    "TensorType",
    "Thresholds",
]

MIN_WEIGHT_BITS, MAX_WEIGHT_BITS = 2, 8


def _pair(values: Any, what: str, length: int = 2, least: int = 1) -> tuple[int, ...]:
    pair = tuple(values)
    if len(pair) != length or any(type(v) is not int or v < least for v in pair):
        raise ValueError(f"{what} must be {length} integers >= {least}, not {pair}")
    return pair


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """An operator; its result is known by `name`, its operands by `inputs`."""

    name: str
    inputs: tuple[str, ...]
    arity: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        if self.arity is not None and len(self.inputs) != self.arity:
            raise ValueError(f"{self.name}: takes {self.arity} inputs, not {len(self.inputs)}")
        try:
            self._check()
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.name}: {error}") from None

    def _check(self) -> None:
        """Check the fields; a ValueError names the field."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Linear(Node):
    """What convolution and dense share: weights, bias and the way back to few bits."""

    weight: IntArray
    bias: IntArray
    weight_bits: int = 8
    weight_bipolar: bool = False
    requantize: Requantize | Thresholds | None = None

    def _check(self) -> None:
        object.__setattr__(self, "weight", integers(self.weight, "weight"))
        object.__setattr__(self, "bias", integers(self.bias, "bias"))
        if self.bias.shape != self.weight.shape[:1]:
            raise ValueError(f"bias has shape {self.bias.shape}, weight {self.weight.shape}")
        if not self.weight.size:
            raise ValueError("weight must not be empty")
        if self.bias.min() <= -1 << 40 or self.bias.max() >= 1 << 40:
            raise ValueError("bias must be smaller than 2^40")
        if self.weight_bipolar:
            if self.weight_bits != 1 or (np.abs(self.weight) != 1).any():
                raise ValueError("bipolar weights have weight_bits 1 and are -1 or +1")
            return
        if not MIN_WEIGHT_BITS <= self.weight_bits <= MAX_WEIGHT_BITS:
            raise ValueError(f"weight_bits must be 2..8, not {self.weight_bits}")
        limit = 1 << (self.weight_bits - 1)
        if self.weight.min() < -limit or self.weight.max() >= limit:
            raise ValueError(f"weight does not fit {self.weight_bits} bits")

    @property
    def out_channels(self) -> int:
        """Number of neurons (dense) or output channels (convolution)."""
        return int(self.weight.shape[0])


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2d(_Linear):
    """acc = sum w * (x - zp_x) + b over a window; `padding` is (top, left, bottom, right)."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def _check(self) -> None:
        super()._check()
        if self.weight.ndim != 4:
            raise ValueError(f"weight must be [out, kh, kw, in / groups], not {self.weight.ndim}-D")
        object.__setattr__(self, "stride", _pair(self.stride, "stride"))
        object.__setattr__(self, "padding", _pair(self.padding, "padding", 4, 0))
        object.__setattr__(self, "dilation", _pair(self.dilation, "dilation"))
        if type(self.groups) is not int or self.groups < 1 or self.out_channels % self.groups:
            raise ValueError(f"groups {self.groups} must divide {self.out_channels} outputs")
        _check_padding(self.padding, self.extent)

    @property
    def kernel(self) -> tuple[int, int]:
        """Kernel size (kh, kw)."""
        return int(self.weight.shape[1]), int(self.weight.shape[2])

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns that a window spans, dilation included."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return (kh - 1) * dh + 1, (kw - 1) * dw + 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense(_Linear):
    """acc = sum w * (x - zp_x) + b over the last axis of a (features,) tensor."""

    def _check(self) -> None:
        super()._check()
        if self.weight.ndim != 2:
            raise ValueError(f"weight must be [out, in], not {self.weight.ndim}-D")


def _check_padding(padding: tuple[int, ...], extent: tuple[int, int]) -> None:
    if max(padding[0], padding[2]) >= extent[0] or max(padding[1], padding[3]) >= extent[1]:
        raise ValueError(f"padding {padding} must be smaller than the window {extent}")


@dataclass(frozen=True, eq=False, kw_only=True)
class _Pool(Node):
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def _check(self) -> None:
        object.__setattr__(self, "kernel", _pair(self.kernel, "kernel"))
        object.__setattr__(self, "stride", _pair(self.stride, "stride"))
        object.__setattr__(self, "padding", _pair(self.padding, "padding", 4, 0))
        _check_padding(self.padding, self.kernel)


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool(_Pool):
    """Maximum over a window; padding inserts the type's minimum."""


@dataclass(frozen=True, eq=False, kw_only=True)
class AvgPool(_Pool):
    """acc = sum (x - zp_x) over a window, requantised; `requantize` divides by kh * kw.

    With `count_include_pad` false a window with n < kh * kw elements inside the image uses the
    multiplier (m * kh * kw + n // 2) // n.
    """

    requantize: Requantize
    count_include_pad: bool = True


@dataclass(frozen=True, eq=False, kw_only=True)
class GlobalAvgPool(Node):
    """acc = sum (x - zp_x) over the image, requantised; the result has shape (channels,)."""

    requantize: Requantize


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Node):
    """q = clamp((((a - zp_a) m_a + (b - zp_b) m_b + 2^(s-1)) >> s) + zp, lo, hi)."""

    multipliers: tuple[int, int]
    shift: int
    out: TensorType
    lo: int | None = None
    hi: int | None = None
    arity: ClassVar[int | None] = 2

    def _check(self) -> None:
        object.__setattr__(self, "multipliers", _pair(self.multipliers, "multipliers", 2, 0))
        if max(self.multipliers) >= 1 << MAX_M_BITS:
            raise ValueError(f"multipliers must be smaller than 2^{MAX_M_BITS}")
        if type(self.shift) is not int or not 0 <= self.shift <= MAX_SHIFT:
            raise ValueError(f"shift must lie in 0..{MAX_SHIFT}")
        lo = self.out.lo if self.lo is None else self.lo
        hi = self.out.hi if self.hi is None else self.hi
        if self.out.bipolar:
            raise ValueError("the sum cannot be bipolar; thresholds make bipolar types")
        if not self.out.lo <= lo <= hi <= self.out.hi or self.out.bits > MAX_ACT_BITS:
            raise ValueError(f"clamp {lo}..{hi} is outside the type's {self.out.lo}..{self.out.hi}")
        object.__setattr__(self, "lo", lo)
        object.__setattr__(self, "hi", hi)

    @property
    def limits(self) -> tuple[int, int]:
        """The clamp (lo, hi), never None."""
        assert self.lo is not None
        assert self.hi is not None
        return self.lo, self.hi


@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Node):
    """Join along channels; each input goes through its own requantise, acc = x - zp_x.

    An entry None passes that input unchanged: its type must equal the output's.
    """

    requantize: tuple[Requantize | None, ...]
    out: TensorType
    arity: ClassVar[int | None] = None

    def _check(self) -> None:
        object.__setattr__(self, "requantize", tuple(self.requantize))
        if len(self.requantize) != len(self.inputs) or not self.inputs:
            raise ValueError("needs one requantize entry (or None) for each input")
        for item in self.requantize:
            if item is not None and _integers(item.out) != _integers(self.out):
                raise ValueError("every requantize entry must make the output's type")


def _integers(kind: TensorType) -> TensorType:
    """The type without its real scale, for comparisons."""
    return dataclasses.replace(kind, scale=None)


@dataclass(frozen=True, eq=False, kw_only=True)
class Flatten(Node):
    """(h, w, c) -> (h * w * c,), in this order."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Node):
    """Insert the zero point: `padding` (top, left, bottom, right), `channels` (front, back)."""

    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    channels: tuple[int, int] = (0, 0)

    def _check(self) -> None:
        object.__setattr__(self, "padding", _pair(self.padding, "padding", 4, 0))
        object.__setattr__(self, "channels", _pair(self.channels, "channels", 2, 0))


@dataclass(frozen=True, eq=False, kw_only=True)
class ArgMax(Node):
    """Index of the largest value of a (features,) tensor, the lowest on ties; shape (1,)."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: one input, nodes in topological order, one output (the name of a node).

    Raises ValueError, naming the node, for duplicate names, unknown or later operands and nodes
    that the output does not need. Shapes and types are checked by `shapes.infer`.
    """

    name: str
    input_name: str
    input_shape: tuple[int, ...]
    input_type: TensorType
    nodes: tuple[Node, ...]
    output: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        shape = tuple(self.input_shape)
        object.__setattr__(self, "input_shape", shape)
        if len(shape) not in (1, 3) or any(type(n) is not int or n < 1 for n in shape):
            raise ValueError(f"input shape must be (h, w, c) or (features,), not {shape}")
        if self.input_type.bits > MAX_ACT_BITS:
            raise ValueError(f"input has {self.input_type.bits} bits; at most {MAX_ACT_BITS}")
        known = {self.input_name}
        for node in self.nodes:
            missing = [name for name in node.inputs if name not in known]
            if missing:
                raise ValueError(f"{node.name}: unknown or later operand {missing[0]!r}")
            if node.name in known:
                raise ValueError(f"{node.name}: this name is used twice")
            known.add(node.name)
        if not self.nodes or self.output not in known - {self.input_name}:
            raise ValueError(f"output {self.output!r} is not a node of the graph")
        needed = {self.output}
        for node in reversed(self.nodes):
            if node.name not in needed:
                raise ValueError(f"{node.name}: nothing uses its result")
            needed.update(node.inputs)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def node(self, name: str) -> Node:
        """The node of this name; KeyError if there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def consumers(self, name: str) -> tuple[Node, ...]:
        """The nodes that read `name`, in order."""
        return tuple(node for node in self.nodes if name in node.inputs)
