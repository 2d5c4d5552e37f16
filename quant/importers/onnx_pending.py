"""Operators whose result has no integer type yet: a QuantizeLinear behind them brings it.

Until then a layer can take up what follows it: a clamp, a batch norm, a bias. `finish` makes the
integer node for a result of a given type, or with raw accumulators where there is none. Multipliers
have 24 bits: with them no rounding of int8 results differed from float32 scales (docs/ir.md).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import ir
from ..errors import InputError
from ..float_graph import FloatArray
from ..names import printable
from ..scales import fit
from .onnx_layout import Window

__all__ = ["Join", "Linear", "Mean", "Pending", "Source", "Sum", "scale_of"]

M_BITS = 24


@dataclass(frozen=True, eq=False, kw_only=True)
class Pending:
    """Layer `path` reads the tensors `inputs` of types `kinds`; its result lies in `lo`..`hi`.

    `before` is the layer that made the only input, with the type it made, if nothing else reads
    that: a result of the same type then needs no layer of its own. `note` says what was rounded
    otherwise than in the model.
    """

    path: str
    inputs: tuple[str, ...] = ()
    kinds: tuple[ir.TensorType, ...] = ()
    lo: float = -math.inf
    hi: float = math.inf
    before: tuple[Pending, ir.TensorType] | None = None
    note: str = ""

    @property
    def clamped(self) -> bool:
        """Whether a clamp was taken up."""
        return self.lo > -math.inf or self.hi < math.inf

    def clamp(self, lo: float, hi: float) -> Any:
        """The same with another clamp behind."""
        low = max(min(self.lo, hi), lo)
        return dataclasses.replace(self, lo=low, hi=min(max(self.hi, lo), hi))

    def finish(self, name: str, kind: ir.TensorType | None) -> ir.Node:
        """The integer node; None wants raw accumulators."""
        raise InputError(
            f"layer {printable(self.path)}: its result is not quantised; put a QuantizeLinear and "
            "a DequantizeLinear behind it"
        )

    def limits(self, kind: ir.TensorType) -> tuple[int, int]:
        """The clamp in steps of `kind`; rounding is monotone, so clamping integers is exact."""

        def step(value: float, unbounded: int) -> int:
            if math.isinf(value):
                return unbounded
            return int(np.clip(np.rint(value / scale_of(kind)) + kind.zero_point, kind.lo, kind.hi))

        return step(self.lo, kind.lo), step(self.hi, kind.hi)

    def table(self, steps: FloatArray, kind: ir.TensorType) -> ir.Requantize:
        """Accumulators with real steps `steps` [1 or channels] brought to `kind`."""
        ratios = steps / scale_of(kind)
        ratios = ratios[:1] if (ratios == ratios[0]).all() else ratios
        multipliers, shift = fit(ratios, M_BITS)
        lo, hi = self.limits(kind)
        shifts = np.full(len(multipliers), shift)
        return ir.Requantize(multipliers, shifts, kind, M_BITS, lo, hi)


def scale_of(kind: ir.TensorType) -> float:
    """The real step of a type that a model wrote down."""
    assert kind.scale is not None
    return kind.scale


@dataclass(frozen=True, eq=False, kw_only=True)
class Source(Pending):
    """The network's input before its QuantizeLinear."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Pending):
    """A Conv2d or, without `window`, a Dense layer.

    `weight` are integers, [out, kh, kw, in / groups] or [out, in]; `steps` [out] the real step of
    each accumulator; `bias` [out] in these steps, not rounded yet.
    """

    weight: ir.IntArray
    weight_bits: int
    steps: FloatArray
    bias: FloatArray
    window: Window | None = None
    groups: int = 1

    def scaled(self, gain: FloatArray, offset: FloatArray) -> Linear:
        """The layer with y * gain + offset per channel behind it; InputError if that overflows."""
        sign = np.sign(gain).astype(np.int64)
        weight = self.weight * sign.reshape(-1, *(1,) * (self.weight.ndim - 1))
        if weight.max(initial=0) >= 1 << (self.weight_bits - 1):
            raise InputError(
                f"layer {printable(self.path)}: a negative factor behind it turns a weight of "
                f"{-weight.max()} round, which does not fit {self.weight_bits} bits; fold batch "
                "norms before quantising"
            )
        steps = np.where(gain == 0, self.steps, self.steps * np.abs(gain))
        bias = self.bias * sign + offset / steps
        return dataclasses.replace(self, weight=weight, steps=steps, bias=bias)

    def finish(self, name: str, kind: ir.TensorType | None) -> ir.Node:
        """Raw accumulators get one step for all channels, so that they compare."""
        layer = self.common_steps() if kind is None else self
        bias = np.rint(layer.bias)
        if not (np.abs(bias) < 1 << 40).all():
            raise InputError(
                f"layer {printable(self.path)}: its bias is 2^40 steps of its accumulator or more; "
                "quantise it with larger scales"
            )
        fields: dict[str, Any] = {
            "name": name,
            "inputs": self.inputs,
            "weight": layer.weight,
            "bias": bias.astype(np.int64),
            "weight_bits": self.weight_bits,
            "requantize": None if kind is None else self.table(self.steps, kind),
        }
        if self.window is None:
            return ir.Dense(**fields)
        return ir.Conv2d(
            **fields,
            stride=self.window.stride,
            padding=self.window.padding,
            dilation=self.window.dilation,
            groups=self.groups,
        )

    @property
    def even(self) -> bool:
        """Whether all channels have one step."""
        return bool((self.steps == self.steps[0]).all())

    def common_steps(self) -> Linear:
        """The layer with the largest step in every channel; its weights are rounded again."""
        if self.even:
            return self
        top = self.steps.max()
        shares = self.steps / top
        tail = (1,) * (self.weight.ndim - 1)
        weight = np.rint(self.weight * shares.reshape(-1, *tail)).astype(np.int64)
        steps = np.full_like(self.steps, top)
        return dataclasses.replace(self, weight=weight, steps=steps, bias=self.bias * shares)


@dataclass(frozen=True, eq=False, kw_only=True)
class Mean(Pending):
    """An average over `window`; `include` counts the padding. A window of 1 only rescales."""

    window: Window
    include: bool

    def finish(self, name: str, kind: ir.TensorType | None) -> ir.Node:
        """An average pool whose requantisation divides."""
        if kind is None:
            return super().finish(name, kind)
        kh, kw = self.window.kernel
        steps = np.array([scale_of(self.kinds[0]) / (kh * kw)])
        return ir.AvgPool(
            name=name,
            inputs=self.inputs,
            requantize=self.table(steps, kind),
            kernel=self.window.kernel,
            stride=self.window.stride,
            padding=self.window.padding,
            count_include_pad=self.include,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Sum(Pending):
    """a + b with one rounding."""

    def finish(self, name: str, kind: ir.TensorType | None) -> ir.Node:
        """An Add whose two multipliers share a shift."""
        if kind is None:
            return super().finish(name, kind)
        ratios = np.array([scale_of(k) for k in self.kinds]) / scale_of(kind)
        (first, second), shift = fit(ratios, M_BITS)
        lo, hi = self.limits(kind)
        return ir.Add(
            name=name,
            inputs=self.inputs,
            multipliers=(int(first), int(second)),
            shift=shift,
            out=kind,
            lo=lo,
            hi=hi,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Join(Pending):
    """Operands joined along channels, each rescaled on its own; one operand: only rescaled."""

    def finish(self, name: str, kind: ir.TensorType | None) -> ir.Node:
        """A Concat; operands that have the result's type and need no clamp pass unchanged."""
        if kind is None:
            return super().finish(name, kind)
        free = self.limits(kind) == (kind.lo, kind.hi)
        tables = tuple(
            None if free and source == kind else self.table(np.array([scale_of(source)]), kind)
            for source in self.kinds
        )
        return ir.Concat(name=name, inputs=self.inputs, requantize=tables, out=kind)
