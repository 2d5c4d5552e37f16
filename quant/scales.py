"""Scales: the step of an activation type, of weights, and the integers that bring one to another.

Symmetric weights, affine activations: Jacob et al. 2018, "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", sections 2.1 to 2.3.
"""

from __future__ import annotations

import math

import numpy as np

from .calibrate import Statistics, squared_error
from .float_graph import FloatArray
from .ir import MAX_SHIFT, IntArray, TensorType

__all__ = ["activation_type", "fit", "power_of_two", "range_type", "weight_scales"]

TINY = 2.0**-100  # a tensor that stays below is all zero
CLIPS = np.linspace(0.5, 1.0, 26)  # of the largest weight; 1.0 cuts none
BIAS_BITS = 31  # magnitude of an int32 bias


def power_of_two(values: FloatArray | float) -> FloatArray:
    """The smallest powers of two that are not below positive `values`."""
    mantissa, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    powers: FloatArray = np.ldexp(1.0, exponent - (mantissa == 0.5))
    return powers


def range_type(
    lo: float, hi: float, bits: int, *, pow2: bool, asymmetric: bool, least: float = 0.0
) -> TensorType:
    """The activation type that covers `lo`..`hi` and zero, its scale not below `least`.

    Without negative values: unsigned, zero point 0. With them: signed and symmetric, or unsigned
    with a zero point if `asymmetric`. A range without width gets scale 1.
    """
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    signed = bool(lo < 0) and not asymmetric
    steps = (1 << (bits - signed)) - 1
    step = (max(-lo, hi) if signed else hi - lo) / steps
    step = max(step, least) if step > TINY else max(least, 0.0) or 1.0
    scale = float(power_of_two(step)) if pow2 else step
    zero_point = 0 if signed else min(round(-lo / scale), (1 << bits) - 1)
    return TensorType(bits, signed, zero_point, scale=scale)


def activation_type(
    statistics: Statistics,
    bits: int,
    *,
    method: str,
    percentile: float,
    pow2: bool,
    asymmetric: bool,
    least: float = 0.0,
) -> TensorType:
    """The type of a tensor by `method` (calibrate.METHODS); see `range_type`."""

    def cover(limits: tuple[float, float]) -> TensorType:
        return range_type(*limits, bits, pow2=pow2, asymmetric=asymmetric, least=least)

    if method == "minmax":
        return cover((statistics.lo, statistics.hi))
    if method == "percentile":
        return cover(statistics.percentile(percentile))
    kinds = {cover(limits): None for limits in statistics.candidates()}  # distinct, in order
    return min(kinds, key=lambda kind: squared_error(statistics, kind))


def weight_scales(
    weight: FloatArray,
    bias: FloatArray,
    x_scale: float,
    bits: int,
    *,
    per_channel: bool,
    pow2: bool,
    spread_bits: int,
) -> FloatArray:
    """Steps of a weight [out, ...]: one number per output channel, all equal unless `per_channel`.

    The step with the least squared error among clips of the largest weight; at least 2^-spread_bits
    of the largest step, so that one shift serves all channels, and large enough for the bias
    (at scale `x_scale` times step) to fit 32 bits. All-zero channels take the largest step.
    """
    top = (1 << (bits - 1)) - 1
    rows = weight.reshape(len(weight) if per_channel else 1, -1)
    largest = np.abs(rows).max(axis=1)
    steps = _least_error(rows, largest, top, pow2)
    live = largest > TINY
    if not live.any():
        steps[:] = max(np.abs(bias).max() / x_scale / 2.0**16, TINY) if bias.any() else 1.0
        steps = power_of_two(steps) if pow2 else steps
    else:
        floor = steps[live].max() * 2.0**-spread_bits
        steps = np.where(live, np.maximum(steps, floor), steps[live].max())
    steps = np.broadcast_to(steps, (len(weight),))
    fits = np.abs(bias) / (x_scale * 2.0 ** (BIAS_BITS - 1))
    if not per_channel:
        fits = np.full(len(weight), fits.max())
    needed = np.where(fits > 0, power_of_two(np.maximum(fits, TINY**2)), 0.0)
    return np.maximum(steps, needed)


def _least_error(rows: FloatArray, largest: FloatArray, top: int, pow2: bool) -> FloatArray:
    """Per row the step among the clips with the least squared rounding and clipping error."""
    best = np.full(len(rows), math.inf)
    steps = np.ones(len(rows))
    for clip in CLIPS[::-1]:
        step = np.maximum(largest * clip, TINY) / top
        step = power_of_two(step) if pow2 else step
        stored = np.clip(np.rint(rows / step[:, None]), -top, top) * step[:, None]
        error = ((stored - rows) ** 2).sum(axis=1)
        better = error < best
        best, steps = np.where(better, error, best), np.where(better, step, steps)
    return steps


def fit(ratios: FloatArray, m_bits: int) -> tuple[IntArray, int]:
    """Integers m [len(ratios)] and one shift s with m * 2^-s close to every ratio.

    The largest ratio uses all of `m_bits`; |m * 2^-s - ratio| <= 2^-(s+1). A ratio too large for
    s = 0 gets the largest m, with which every accumulator but 0 saturates. Common factors of two
    are taken out, which changes no result.
    """
    limit = (1 << m_bits) - 1
    top = float(ratios.max())
    shift = MAX_SHIFT if top <= 0 else int(np.clip(m_bits - math.frexp(top)[1], 0, MAX_SHIFT))
    if shift and round(math.ldexp(top, shift)) > limit:
        shift -= 1
    multipliers = np.minimum(np.rint(np.ldexp(ratios, shift)), limit).astype(np.int64)
    while shift and not (multipliers & 1).any():
        multipliers, shift = multipliers >> 1, shift - 1
    return multipliers, shift
