"""How an accumulator is brought to few bits: signs, multipliers, biases, and what they miss."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .. import ir
from ..errors import InputError
from ..names import printable
from ..scales import fit
from ..types import MAX_M_BITS, IntArray
from .onnx_layout import Window
from .qonnx_add import M_BITS
from .qonnx_steps import (
    HALF,
    Difference,
    Line,
    Quantiser,
    compare,
    integer_steps,
    limits,
    requantize_steps,
)
from .qonnx_values import Linear, Mean, Quantised, Same, Source

__all__ = [
    "POINT",
    "THRESHOLD_BITS",
    "Fitted",
    "as_linear",
    "convertible",
    "fitted",
    "ideal_bias",
    "oriented",
    "raw_bias",
    "real",
    "settled",
    "table_of",
    "unchanged",
    "whole_numbers",
]

THRESHOLD_BITS = 4
HUGE = Fraction(10) ** 300
MOST = 1 << 41
WIDE_SPREAD = 1 << 8  # of multipliers: with more, the smallest ones need more bits
FINE_BIAS = 1 / 16  # of a step of an output that is an accumulator
GOOD_SHARE = 2.0**-10  # of differing accumulators
MAX_DIAGONAL = 1024  # features of a vector that a dense layer with a diagonal weight may rescale
POINT = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1), (0, 0), (1, 1))


def unchanged(x: Quantised, lines: Sequence[Line], quantiser: Quantiser) -> bool:
    """Whether every value of x keeps its integer and its meaning."""
    line, zero = lines[0], x.kind.zero_point
    if any(other != line for other in lines) or line.gain <= 0:
        return False
    if (x.scale, zero) != (quantiser.scale, quantiser.kind.zero_point):
        return False
    if x.kind.bipolar != quantiser.kind.bipolar:
        return False
    values = range(x.lo, x.hi + 1, 2 if x.kind.bipolar else 1)
    return all(quantiser.apply(0, line.at(q - zero)) == q for q in values)


def convertible(source: Source) -> bool:
    """Whether `as_linear` can express it at a reasonable size."""
    if isinstance(source, Same):
        return source.image is not None or source.channels <= MAX_DIAGONAL
    return not isinstance(source, Mean) or source.include or not any(source.window.padding)


def as_linear(source: Source) -> Linear:
    """A pool or a rescaling as a layer whose weights are one: a depthwise or diagonal one."""
    if isinstance(source, Linear):
        return source
    if not isinstance(source, Mean | Same) or not convertible(source):
        raise InputError(
            f"layer {printable(source.path)}: what follows it cannot be expressed; put a quantiser "
            "(QuantIdentity) directly behind it"
        )
    window = source.window if isinstance(source, Mean) else POINT
    vector = isinstance(source, Same) and source.image is None
    n = source.channels
    weight = np.eye(n, dtype=np.int64) if vector else np.ones((n, *window.kernel, 1), np.int64)
    return Linear(
        name=source.name,
        path=source.path,
        x=source.x,
        weight=weight,
        bits=2,
        bipolar=False,
        window=None if vector else window,
        groups=1 if vector else n,
        flatten=isinstance(source, Mean) and source.whole,
    )


def settled(linear: Linear, lines: Sequence[Line], quantiser: Quantiser) -> list[Line]:
    """Lines of channels whose every accumulator gives one result become constant.

    A batch norm with a gain close to zero makes such a channel; its bias in steps of the
    accumulator would be enormous.
    """
    found = []
    ends = zip(lines, *(end.tolist() for end in linear.interval()), strict=True)
    for channel, (line, *acc) in enumerate(ends):
        pitch = quantiser.pitch(channel)
        low, high = (line.at(value) for value in acc)
        if pitch is not None and quantiser.apply(channel, low) == quantiser.apply(channel, high):
            first, step = pitch
            last = first + (quantiser.hi - quantiser.lo) * step
            line = Line(Fraction(0), min(max(low, first - step), last), line.low, line.high)
        found.append(line)
    return found


def oriented(
    linear: Linear, lines: Sequence[Line], *, thresholds: bool = False
) -> tuple[Linear, list[Line]]:
    """Every gain positive: weights of falling channels change sign, those of flat ones are 0.

    Bipolar layers that get `thresholds` keep the weights of flat channels, and their gain of 0.
    """
    weight, bits, bipolar = linear.weight.copy(), linear.bits, linear.bipolar
    largest = max((abs(line.gain) for line in lines), default=Fraction(1)) or Fraction(1)
    made = []
    for channel, line in enumerate(lines):
        if line.gain < 0:
            weight[channel] *= -1
            line = line.negated()
        elif not line.gain and not (thresholds and linear.bipolar):
            weight[channel] = 0
            line = dataclasses.replace(line, gain=largest)
            bits, bipolar = max(bits, 2), False
        made.append(line)
    if not bipolar and weight.max(initial=0) >= 1 << (bits - 1):
        bits += 1
    if bits > 8:
        raise InputError(
            f"layer {printable(linear.path)}: a batch norm turns the sign of a weight of -128; "
            "export weights with a narrow range (-127..127)"
        )
    return dataclasses.replace(linear, weight=weight, bits=bits, bipolar=bipolar), made


def table_of(lines: Sequence[Line], quantiser: Quantiser, path: str) -> ir.Requantize:
    """Multipliers and shift for lines with positive gains; offsets are left to a bias."""
    pitches = [quantiser.pitch(channel) for channel in range(len(lines))]
    found = {limits(quantiser, channel, line) for channel, line in enumerate(lines)}
    if None in pitches or len(found) > 1:
        why = "clamps its channels differently" if len(found) > 1 else "does not round evenly"
        raise InputError(
            f"layer {printable(path)}: the quantiser behind it {why}; only results of at most "
            f"{THRESHOLD_BITS} bits can do so, or round with ROUND, FLOOR or CEIL"
        )
    ratios = np.array(
        [real(line.gain / p[1]) for line, p in zip(lines, pitches, strict=True) if p is not None]
    )
    if (ratios == ratios[0]).all():
        ratios = ratios[:1]
    m_bits = M_BITS if ratios.max() < ratios.min() * WIDE_SPREAD else MAX_M_BITS
    multipliers, shift = fit(ratios, m_bits)
    lo, hi = found.pop()
    shifts = np.full(len(multipliers), shift)
    return ir.Requantize(multipliers, shifts, quantiser.kind, m_bits, lo, hi)


def real(value: Fraction) -> float:
    """The nearest float, at most 1e300 in size."""
    return float(min(max(value, -HUGE), HUGE))


def ideal_bias(line: Line, quantiser: Quantiser, channel: int) -> Fraction | None:
    """What the accumulator should be raised by so that rounding half up does the rest."""
    pitch = quantiser.pitch(channel)
    if pitch is None:
        return None
    first, step = pitch
    place = quantiser.lo + 1 - quantiser.kind.zero_point - HALF
    return (line.offset - first + place * step) / line.gain


def whole_numbers(values: Sequence[Fraction]) -> IntArray:
    """Values rounded down, none beyond what a bias may be by more than the next power of two."""
    return np.array([min(max(math.floor(v), -MOST), MOST) for v in values], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A layer with its table and bias, and what they miss."""

    linear: Linear
    table: ir.Requantize
    bias: IntArray
    difference: Difference
    note: str


def fitted(linear: Linear, lines: Sequence[Line], quantiser: Quantiser) -> Fitted:
    """Multipliers and biases; weights get more bits only while a rounded bias costs too much."""
    lo, hi = linear.interval()
    wanted = integer_steps(quantiser, lines, lo, hi)
    table_of(lines, quantiser, linear.path)  # refuses what no multiplier can do
    biases = [
        ideal_bias(line, quantiser, channel) or Fraction(0) for channel, line in enumerate(lines)
    ]
    whole = all(bias.denominator == 1 for bias in biases)
    spare = 0 if linear.bipolar or whole else 8 - linear.bits
    best = _finer(linear, lines, quantiser, biases, wanted, 0)
    for extra in range(1, spare + 1):
        if best.difference.share <= GOOD_SHARE:
            break
        found = _finer(linear, lines, quantiser, biases, wanted, extra)
        if found.difference.share < best.difference.share:
            best = found
    return best


def _finer(
    linear: Linear,
    lines: Sequence[Line],
    quantiser: Quantiser,
    biases: Sequence[Fraction],
    wanted: IntArray,
    extra: int,
) -> Fitted:
    """The fit with weights 2^extra times as large; `wanted` are steps on the accumulator as is."""
    lo, hi = linear.interval()
    factor = 1 << extra
    scaled = [dataclasses.replace(line, gain=line.gain / factor) for line in lines]
    table = table_of(scaled, quantiser, linear.path)
    floor = whole_numbers([bias * factor for bias in biases])

    def steps(bias: IntArray) -> IntArray:
        made = requantize_steps(table, bias, lo * factor, hi * factor)
        return -(-made >> extra)

    rows = [steps(floor), steps(floor + 1)]
    errors = [np.abs(row - wanted).sum(axis=1) for row in rows]
    up = errors[1] < errors[0]
    difference = compare(wanted, np.where(up[:, None], rows[1], rows[0]), lo, hi)
    rests = [bias * factor - low for bias, low in zip(biases, floor.tolist(), strict=True)]
    moved = max(
        real(min(rest, 1 - rest) * line.gain / quantiser.scale)
        for rest, line in zip(rests, scaled, strict=True)
    )
    note = f"bias rounded by at most {moved:.2g} of a step" if difference.largest and moved else ""
    finer = dataclasses.replace(linear, weight=linear.weight * factor, bits=linear.bits + extra)
    return Fitted(finer, table, floor + up, difference, note)


def raw_bias(linear: Linear, lines: Sequence[Line]) -> tuple[Linear, IntArray, float]:
    """A layer whose accumulators are outputs: its bias, and by how many steps it was rounded.

    Weights are multiplied by a power of two, as far as 8 bits hold them, until a sixteenth of a
    step is enough.
    """
    exact = [line.offset / line.gain for line in lines]
    spare = 0 if linear.bipolar else 8 - linear.bits
    errors = [max(abs(b * 2**k - round(b * 2**k)) / 2**k for b in exact) for k in range(spare + 1)]
    extra = next((k for k, e in enumerate(errors) if e <= FINE_BIAS), errors.index(min(errors)))
    finer = dataclasses.replace(linear, weight=linear.weight << extra, bits=linear.bits + extra)
    bias = whole_numbers([b * 2**extra + HALF for b in exact])
    return finer, bias, real(errors[extra])
