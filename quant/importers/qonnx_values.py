"""What a tensor of a QONNX model is while it is imported.

Quantised: integers with a scale. Pending: an accumulator and the real function behind it, which
waits for the quantiser that turns it into integers. Joined: several of them side by side. Real: the
network's input before its quantiser.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..types import IntArray, TensorType
from .onnx_layout import Window
from .onnx_walk import Value
from .qonnx_steps import Line

__all__ = [
    "Content",
    "Joined",
    "Linear",
    "Mean",
    "Pending",
    "QuantConstant",
    "Quantised",
    "Real",
    "Same",
    "Source",
    "Sum",
    "Tensor",
]


@dataclass(frozen=True, eq=False)
class QuantConstant:
    """Constant integers; real = scale * (integer - 0), `scale` of the shape of `integers`."""

    integers: IntArray
    scale: np.ndarray[Any, Any]
    bits: int
    bipolar: bool

    def moved(self, change: Callable[[Any], Any]) -> QuantConstant:
        """The same with `change` done to both arrays (a transpose, a reshape)."""
        return dataclasses.replace(self, integers=change(self.integers), scale=change(self.scale))


@dataclass(frozen=True, eq=False)
class Quantised:
    """Tensor `name` of the integer graph; real = scale * (q - kind.zero_point), q in lo..hi."""

    name: str
    kind: TensorType
    scale: Fraction
    lo: int
    hi: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """Where an accumulator comes from; `name` is that of the integer node to be made."""

    name: str
    path: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Source):
    """sum w * (x - zp); `weight` as in ir (channels last), `window` None for a dense layer."""

    x: Quantised
    weight: IntArray
    bits: int
    bipolar: bool
    window: Window | None
    groups: int = 1
    flatten: bool = False  # the result, one pixel, becomes a vector

    def interval(self) -> tuple[IntArray, IntArray]:
        """Bounds of the accumulator of every channel."""
        rows = self.weight.reshape(len(self.weight), -1)
        lo, hi = self.x.lo - self.x.kind.zero_point, self.x.hi - self.x.kind.zero_point
        if self.window is not None and any(self.window.padding):
            lo, hi = min(lo, 0), max(hi, 0)
        plus, minus = np.maximum(rows, 0).sum(1), np.minimum(rows, 0).sum(1)
        return lo * plus + hi * minus, hi * plus + lo * minus


@dataclass(frozen=True, eq=False, kw_only=True)
class Mean(Source):
    """sum (x - zp) over a window; `include` counts the padding, `whole` is the whole image."""

    x: Quantised
    window: Window
    channels: int
    include: bool = True
    whole: bool = False

    @property
    def count(self) -> int:
        """Elements of a window."""
        return math.prod(self.window.kernel)


@dataclass(frozen=True, eq=False, kw_only=True)
class Same(Source):
    """x - zp itself: a tensor that only gets another scale, an offset or a clamp."""

    x: Quantised
    channels: int
    image: tuple[int, int] | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Sum(Source):
    """The real sum of two tensors of one shape."""

    a: Quantised
    b: Quantised


@dataclass(frozen=True, eq=False)
class Pending:
    """`lines` (one, or one a channel) take the accumulator of `source` to real numbers.

    The accumulator of a Sum is the real sum. `later` holds what happens to the integers behind the
    quantiser: operators that may change places with it (max pooling, flattening).
    """

    source: Source
    lines: tuple[Line, ...]
    channels: int
    later: tuple[Callable[[Quantised], Quantised], ...] = ()

    def each(self, change: Callable[[Line], Line]) -> Pending:
        """The same with `change` done to every line."""
        return dataclasses.replace(self, lines=tuple(change(line) for line in self.lines))

    def affine(self, gains: list[Fraction], offsets: list[Fraction]) -> Pending:
        """gain * y + offset, each one or one a channel."""
        count = max(len(self.lines), len(gains), len(offsets))

        def pick(values: Any, i: int) -> Any:
            return values[i if len(values) > 1 else 0]

        made = (pick(self.lines, i).affine(pick(gains, i), pick(offsets, i)) for i in range(count))
        return dataclasses.replace(self, lines=tuple(made))

    def stretched(self) -> tuple[Line, ...]:
        """One line for each channel."""
        return self.lines if len(self.lines) == self.channels else self.lines * self.channels


@dataclass(frozen=True, eq=False)
class Joined:
    """Tensors joined along the channels; `widths` are their channels, `image` rows and columns."""

    name: str
    parts: tuple[Quantised | Pending, ...]
    widths: tuple[int, ...]
    image: tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class Real:
    """The network's input, not quantised yet: y = gain * x + offset."""

    line: Line


Content = Quantised | Pending | Joined | Real


@dataclass(frozen=True, eq=False)
class Tensor(Value):
    """A value with its content; `name` is that of a Quantised content, else empty."""

    content: Content | None = None

    def holding(self, content: Content, **changes: Any) -> Tensor:
        """The same axes with another content."""
        name = content.name if isinstance(content, Quantised) else ""
        return dataclasses.replace(self, name=name, content=content, alone=True, **changes)
