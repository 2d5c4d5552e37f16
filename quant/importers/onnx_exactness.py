"""How often a rescaled layer rounds otherwise than the real numbers of its ONNX file.

ONNX rounds acc * s_x * s_w / s_y half to even; the integer graph rounds acc * m / 2^s half up. They
differ where a multiplier of 24 bits is not exact and on ties. Counted here over accumulators of
the proven range: all of them, or a sample with a fixed seed.
"""

from __future__ import annotations

import numpy as np

from .. import ir, ranges
from ..float_graph import FloatArray
from ..reference import Reference, requantize
from .exactness import Exactness
from .onnx_pending import Join, Linear, Mean, Pending, Sum, scale_of

__all__ = ["statements"]

SAMPLES = 1 << 16  # accumulators of a layer


def statements(
    graph: ir.Graph, layers: dict[str, tuple[Pending, ir.TensorType]]
) -> tuple[Exactness, ...]:
    """One statement for each node of `graph`; `layers` are those that a QuantizeLinear ended."""
    reference = Reference(graph)
    found = []
    for node in graph:
        pending, kind = layers.get(node.name, (None, None))
        differs = None
        if pending is not None and kind is not None:
            differs = _difference(reference, node, pending, kind)
        note = pending.note if pending is not None else ""
        if differs is None or not differs.size:
            found.append(Exactness(node.name, "integer", note=note))
        else:
            share, largest = float((differs != 0).mean()), int(np.abs(differs).max())
            found.append(Exactness(node.name, "rescaled", share, largest, note))
    return tuple(found)


def _difference(
    reference: Reference, node: ir.Node, pending: Pending, kind: ir.TensorType
) -> ir.IntArray | None:
    """Integer result less rounded real result, over accumulators; None where nothing is rescaled.

    Only accumulators that the clamp leaves alone are counted, if there are any.
    """
    rng = np.random.default_rng(0)
    found = reference.ranges[node.name]
    limits = pending.limits(kind)
    match node:
        case ir.Conv2d() | ir.Dense() if isinstance(pending, Linear):
            ratios = pending.steps / scale_of(kind)
            acc = _accumulators(rng, found, ratios, kind)
            return reference.finish(node, acc) - _ideal(acc * ratios, kind, limits)
        case ir.AvgPool() | ir.GlobalAvgPool() if isinstance(pending, Mean):
            kh, kw = pending.window.kernel
            ratios = np.array([scale_of(pending.kinds[0]) / (kh * kw * scale_of(kind))])
            acc = _accumulators(rng, found, ratios, kind)
            return requantize(node.requantize, acc) - _ideal(acc * ratios, kind, limits)
        case ir.Add() if isinstance(pending, Sum):
            return _sum(rng, reference, node, pending, kind)
        case ir.Concat() if isinstance(pending, Join):
            return _join(node, pending, kind)
    return None


def _accumulators(
    rng: np.random.Generator, found: ranges.Range, ratios: FloatArray, kind: ir.TensorType
) -> ir.IntArray:
    """Accumulators [n, channels] of the proven range whose results the type can hold."""
    span = (kind.hi - kind.lo + 1) / ratios
    low = np.maximum(found.acc_lo, np.ceil((kind.lo - kind.zero_point) / ratios)).astype(np.int64)
    high = np.minimum(found.acc_hi, low + np.floor(span)).astype(np.int64)
    high = np.maximum(high, low)
    count = max(SAMPLES // len(ratios), 16)
    if (high - low).max() < count:
        acc = low + np.arange((high - low).max() + 1)[:, None]
        return np.minimum(acc, high)
    return rng.integers(low, high + 1, (count, len(ratios)))


def _ideal(real: FloatArray, kind: ir.TensorType, limits: tuple[int, int]) -> ir.IntArray:
    """Real results in steps of `kind`, rounded half to even and clamped, as ONNX does."""
    result: ir.IntArray = np.clip(np.rint(real) + kind.zero_point, *limits).astype(np.int64)
    return result


def _sum(
    rng: np.random.Generator,
    reference: Reference,
    node: ir.Add,
    pending: Sum,
    kind: ir.TensorType,
) -> ir.IntArray:
    a, b = (rng.integers(k.lo, k.hi + 1, SAMPLES) - k.zero_point for k in pending.kinds)
    first, second = (scale_of(k) for k in pending.kinds)
    made = reference.finish(node, a * node.multipliers[0] + b * node.multipliers[1])
    real = np.asarray((a * first + b * second) / scale_of(kind), dtype=np.float64)
    return made - _ideal(real, kind, pending.limits(kind))


def _join(node: ir.Concat, pending: Join, kind: ir.TensorType) -> ir.IntArray:
    differences = [np.zeros(0, dtype=np.int64)]
    for table, source in zip(node.requantize, pending.kinds, strict=True):
        if table is not None:
            acc = np.arange(source.lo, source.hi + 1) - source.zero_point
            real = np.asarray(acc * (scale_of(source) / scale_of(kind)), dtype=np.float64)
            made = requantize(table, acc[:, None])[:, 0]
            differences.append(made - _ideal(real, kind, pending.limits(kind)))
    return np.concatenate(differences)
