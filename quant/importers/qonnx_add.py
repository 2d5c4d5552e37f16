"""An Add of two quantised tensors of one shape: one rounding, compared value by value."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from .. import ir
from ..errors import InputError
from ..names import printable
from ..scales import fit
from ..types import TensorType
from .qonnx_steps import NEAREST, Difference, Line, Quantiser, Uniform, limits
from .qonnx_values import Sum

__all__ = ["M_BITS", "add_node", "exact_sum"]

M_BITS = 24


def add_node(name: str, source: Sum, line: Line, quantiser: Quantiser) -> tuple[ir.Add, Difference]:
    """The Add, and how its results differ from exact arithmetic over all pairs of operands.

    Raises InputError where one multiplier an operand and rounding half up cannot express it.
    """
    if (
        not isinstance(quantiser, Uniform)
        or quantiser.mode not in NEAREST
        or line.gain <= 0
        or line.offset
    ):
        raise InputError(
            f"layer {printable(source.path)}: a sum needs a quantiser directly behind it (Quant, 2 "
            "bits or more, rounding_mode ROUND); put a QuantIdentity there"
        )
    scales = [line.gain * operand.scale / quantiser.scale for operand in (source.a, source.b)]
    multipliers, shift = fit(np.array([float(scale) for scale in scales]), M_BITS)
    lo, hi = limits(quantiser, 0, line)
    node = ir.Add(
        name=name,
        inputs=(source.a.name, source.b.name),
        multipliers=(int(multipliers[0]), int(multipliers[1])),
        shift=shift,
        out=quantiser.kind,
        lo=lo,
        hi=hi,
    )
    return node, _difference(node, source, scales)


def _difference(node: ir.Add, source: Sum, scales: list[Fraction]) -> Difference:
    """Over all pairs of values, the share of those whose sum is not clamped; in exact integers."""
    operands = (source.a, source.b)
    axes = [
        np.arange(x.lo - x.kind.zero_point, x.hi - x.kind.zero_point + 1, 2 - (not x.kind.bipolar))
        for x in operands
    ]
    bottom = math.lcm(*(scale.denominator for scale in scales))
    tops = [scale.numerator * (bottom // scale.denominator) for scale in scales]
    exact = np.add.outer(*(axis.astype(object) * top for axis, top in zip(axes, tops, strict=True)))
    doubled = 2 * exact + bottom
    rounded = doubled // (2 * bottom)
    zero = node.out.zero_point
    tie = (doubled % (2 * bottom) == 0) & ((rounded + zero) % 2 == 1)
    wanted = np.clip((rounded - tie + zero).astype(np.float64), *node.limits)
    m_a, m_b = node.multipliers
    half = (1 << node.shift) >> 1
    acc = np.add.outer(axes[0] * m_a, axes[1] * m_b)
    made = np.clip(((acc + half) >> node.shift) + zero, *node.limits)
    apart = np.abs(made - wanted)
    inside = (wanted > node.limits[0]) & (wanted < node.limits[1])
    counted = apart[inside] if inside.any() else apart
    return Difference(float((counted > 0).mean()), int(apart.max()))


def exact_sum(source: Sum) -> TensorType | None:
    """The type that holds a + b of one scale unrounded; None if 8 bits do not."""
    lo = source.a.lo + source.b.lo - source.a.kind.zero_point - source.b.kind.zero_point
    hi = source.a.hi + source.b.hi - source.a.kind.zero_point - source.b.kind.zero_point
    if source.a.scale != source.b.scale:
        return None
    signed = lo < 0
    bits = max(hi.bit_length(), (-lo - 1).bit_length() if signed else 1) + signed
    if bits > 8:
        return None
    return TensorType(max(bits, 1 + signed), signed, scale=float(source.a.scale))
