"""The quantisers of QONNX: Quant, IntQuant, BipolarQuant, MultiThreshold and Trunc.

On constants they give integers, computed in float32 as the operators' specification does; on what
the network computes they give step functions. Specification: the operators' documentation in the
qonnx project (Quant, BipolarQuant, Trunc versions 1 and 2, MultiThreshold).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from ..ranges import signed_bits
from ..types import MAX_ACT_BITS, TensorType
from .onnx_file import OnnxNode
from .onnx_layout import fail, option
from .qonnx_steps import MODES, Line, Quantiser, Steps, Uniform
from .qonnx_values import Mean, Pending, QuantConstant, Tensor

__all__ = ["activation", "constant", "multi_threshold", "number", "trunc"]

MAX_BIAS_BITS = 32
ON_GRID = 2.0**-16  # relative: float32 scales are products that were rounded
_ROUND: dict[str, Callable[[Any], Any]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "DOWN": np.trunc,
    "ROUND_TO_ZERO": np.trunc,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - 0.5),
}


def _mode(node: OnnxNode) -> str:
    mode = str(option(node, "rounding_mode", "ROUND")).upper()
    if mode not in MODES:
        fail(node, f"rounding_mode {mode[:20]!r} is not supported; use one of {', '.join(MODES)}")
    return mode


def _bits(walker: Any, node: OnnxNode, index: int, most: int) -> int:
    array = walker.reals(node, index, "bit width")
    if array.size != 1 or array.reshape(-1)[0] != round(float(array.reshape(-1)[0])):
        fail(node, "its bit width must be one whole number")
    bits = int(array.reshape(-1)[0])
    if not 1 <= bits <= most:
        fail(node, f"has {bits} bits; 1..{most} are supported here, train with fewer")
    return bits


def _one(walker: Any, node: OnnxNode, index: int, what: str) -> Fraction:
    """A constant that is the same for the whole tensor."""
    array = walker.reals(node, index, what).reshape(-1)
    if not array.size or (array != array[0]).any():
        fail(node, f"its {what} differs by channel; activations need one {what} a tensor")
    return Fraction(float(array[0]))


def _scale(walker: Any, node: OnnxNode, index: int, what: str = "scale") -> Fraction:
    scale = _one(walker, node, index, what)
    if scale <= 0:
        fail(node, f"its {what} must be positive, not {float(scale):.3g}")
    return scale


def _limits(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    if signed:
        return -(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1 - narrow


def number(node: OnnxNode, key: str, default: float) -> Fraction:
    """An attribute as an exact number."""
    value = option(node, key, default)
    if not math.isfinite(value):
        fail(node, f"attribute {key} must be a finite number")
    return Fraction(value)


def constant(walker: Any, node: OnnxNode) -> QuantConstant:
    """The integers of a weight or bias; a zero point is subtracted from them."""
    data = walker.reals(node, 0, "operand").astype(np.float32)
    scale = walker.reals(node, 1, "scale").astype(np.float32)
    if not (scale > 0).all():
        fail(node, "its scale must be positive")
    try:
        spread = np.broadcast_to(scale.astype(np.float64), data.shape)
    except ValueError:
        fail(node, f"its scale of shape {scale.shape} does not fit its operand {data.shape}")
    if node.op == "BipolarQuant":
        signs = np.where(data >= 0, 1, -1).astype(np.int64)
        return QuantConstant(signs, spread, 1, True)
    signed, narrow = bool(option(node, "signed", 1)), bool(option(node, "narrow", 1))
    bits = _bits(walker, node, 3, MAX_BIAS_BITS)
    zero = walker.reals(node, 2, "zero point")
    if bits == 1 and signed:
        if zero.any():
            fail(node, "has 1 bit and a zero point; use zero point 0")
        return QuantConstant(np.where(data >= 0, 1, -1).astype(np.int64), spread, 1, True)
    if (zero != np.rint(zero)).any() or np.abs(zero).max(initial=0) > 1 << MAX_BIAS_BITS:
        fail(node, "its zero point must be a whole number")
    lo, hi = _limits(bits, signed, narrow)
    found = np.clip(data / scale + zero.astype(np.float32), np.float32(lo), np.float32(hi))
    integers = _ROUND[_mode(node)](found).astype(np.int64) - zero.astype(np.int64)
    if zero.any() or not signed:
        bits = signed_bits(int(integers.min(initial=0)), int(integers.max(initial=0)))
    return QuantConstant(np.asarray(integers), spread, bits, False)


def activation(walker: Any, node: OnnxNode) -> Quantiser:
    """The step function of Quant, IntQuant or BipolarQuant on a tensor of the network."""
    scale = _scale(walker, node, 1)
    bipolar = TensorType(1, True, bipolar=True, scale=float(scale))
    if node.op == "BipolarQuant":
        return Steps(bipolar, scale, -1, 1, ((Fraction(0),),))
    zero = _one(walker, node, 2, "zero point")
    bits, signed = _bits(walker, node, 3, MAX_ACT_BITS), bool(option(node, "signed", 1))
    if bits == 1 and signed:
        if zero:
            fail(node, "has 1 bit and a zero point; use zero point 0")
        return Steps(bipolar, scale, -1, 1, ((Fraction(0),),))
    lo, hi = _limits(bits, signed, bool(option(node, "narrow", 1)))
    return uniform(node, bits, signed, zero, scale, lo, hi)


def uniform(
    node: OnnxNode, bits: int, signed: bool, zero: Fraction, scale: Fraction, lo: int, hi: int
) -> Uniform:
    """The quantiser with this type; InputError unless its zero point lies in it."""
    if zero.denominator != 1 or not lo <= zero <= hi:
        fail(node, f"its zero point {float(zero):.4g} must be a whole number in {lo}..{hi}")
    kind = TensorType(bits, signed, int(zero), scale=float(scale))
    return Uniform(kind, scale, lo, hi, _mode(node))


def trunc(walker: Any, node: OnnxNode, pending: Pending) -> tuple[Pending, Quantiser]:
    """Trunc: round to the operand's grid, divide by a power of two, round by `rounding_mode`.

    Version 1 has five operands and keeps the scale, version 2 has six and a scale of its own.
    Returns the operand brought exactly to the grid, and the quantiser. Raises InputError for an
    operand that does not lie on the grid of its `scale`.
    """
    scale, zero = _scale(walker, node, 1), _one(walker, node, 2, "zero point")
    before, second = _bits(walker, node, 3, MAX_BIAS_BITS), walker.has(node, 5)
    after = _bits(walker, node, 5 if second else 4, MAX_ACT_BITS)
    if second:
        made = _scale(walker, node, 4, "output scale")
        divide = Fraction(2) ** round(math.log2(made / scale))
        signed = bool(option(node, "signed", 1))
        lo, hi = _limits(after, signed, bool(option(node, "narrow", 0)))
    else:
        made, divide = scale, Fraction(2) ** (before - after)
        signed = any(line.low is None or line.low < 0 for line in pending.lines)
        signed = signed and not (isinstance(pending.source, Mean) and pending.source.x.lo >= 0)
        lo, hi = _limits(after, signed, False)
        if zero:
            fail(node, "has a zero point; export with version 2 of Trunc, or without one")
    factor = made / (divide * scale)

    def placed(value: Fraction) -> Fraction:
        near = round(value / scale)
        if abs(value / scale - near) > ON_GRID * max(abs(near), 1):
            fail(node, "its operand does not lie on the grid of its scale; export the model again")
        return near * made / divide

    def moved(line: Line) -> Line:
        ends = (None if end is None else end * factor for end in (line.low, line.high))
        return Line(placed(line.gain), placed(line.offset), *ends)

    rule = uniform(node, after, signed, zero / divide, made, lo, hi)
    return pending.each(moved), rule


def multi_threshold(walker: Any, node: OnnxNode, value: Tensor) -> Steps:
    """MultiThreshold: out_bias + out_scale * #{t : y >= t}."""
    rows = np.sort(walker.reals(node, 1, "thresholds"), axis=-1)
    channels, axis = value.channels, 3 if value.last else 1
    if rows.ndim != 2 or len(rows) not in (1, channels) or not 1 <= rows.shape[1] < 256:
        fail(node, f"thresholds have shape {rows.shape}; needed is ({channels} or 1, 1..255)")
    layout = option(node, "data_layout", "") or "NCHW"[: len(value.shape) + 1]
    if len(rows) > 1 and layout.find("C") != axis:
        fail(node, f"data_layout {layout[:8]!r} does not name its channel axis {axis}")
    if len(rows) > 1 and value.order is not None:
        rows = rows[value.order]
    scale, base = number(node, "out_scale", 1.0), number(node, "out_bias", 0.0)
    if scale <= 0:
        fail(node, "out_scale must be positive; change the signs of the weights behind it")
    count = rows.shape[1]
    exact = tuple(tuple(Fraction(float(t)) for t in row) for row in rows)
    if count == 1 and 2 * base == -scale:
        kind = TensorType(1, True, bipolar=True, scale=float(scale / 2))
        return Steps(kind, scale / 2, -1, 1, exact)
    if (base / scale).denominator != 1:
        fail(node, "out_bias must be a whole multiple of out_scale")
    lo = int(base / scale)
    kind, lo = _stored(node, lo, lo + count, scale)
    return Steps(kind, scale, lo, lo + count, exact)


def _stored(node: OnnxNode, lo: int, hi: int, scale: Fraction) -> tuple[TensorType, int]:
    """The smallest type for lo..hi, and where lo stands in it; a zero point if that saves bits."""
    zero = -lo if lo < 0 else 0
    if lo < 0 and hi >= 0 and signed_bits(lo, hi) <= max((hi - lo).bit_length(), 2):
        return TensorType(signed_bits(lo, hi), True, scale=float(scale)), lo
    bits = max((hi + zero).bit_length(), 1)
    if hi < 0 or bits > MAX_ACT_BITS:
        fail(node, f"its values {lo}..{hi} (in steps of out_scale) do not fit 8 bits with a zero")
    return TensorType(bits, False, zero, scale=float(scale)), lo + zero
