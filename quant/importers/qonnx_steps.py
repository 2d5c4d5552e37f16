"""Quantisers as step functions in exact rational arithmetic.

A quantiser maps a real y to an integer that never falls as y grows, so it is known by its steps:
for each q the smallest y that gives q or more. Behind an accumulator, y = gain * acc + offset, and
each step becomes an integer threshold on acc. Rounding and clamping follow the operators Quant,
BipolarQuant and MultiThreshold of the QONNX specification.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..ir import IntArray, Requantize, TensorType

__all__ = [
    "HALF",
    "MODES",
    "NEAREST",
    "Difference",
    "Line",
    "Quantiser",
    "Steps",
    "Uniform",
    "compare",
    "integer_steps",
    "limits",
    "requantize_steps",
]

HALF = Fraction(1, 2)
# Rounding mode -> how far below k its step lies and whether y must exceed it: k > 0, k <= 0.
_Step = tuple[Fraction, bool]
_FLOOR, _CEIL = (Fraction(0), False), (Fraction(1), True)
_DIRECTED: dict[str, tuple[_Step, _Step]] = {
    "HALF_UP": ((HALF, False), (HALF, True)),
    "HALF_DOWN": ((HALF, True), (HALF, False)),
    "FLOOR": (_FLOOR, _FLOOR),
    "CEIL": (_CEIL, _CEIL),
    "DOWN": (_FLOOR, _CEIL),
    "ROUND_TO_ZERO": (_FLOOR, _CEIL),
    "UP": (_CEIL, _FLOOR),
}
NEAREST = ("ROUND", "HALF_EVEN")
MODES = (*NEAREST, *_DIRECTED)


def _rounding(mode: str, k: int) -> _Step:
    """y rounds to k or more where y >= k - first; where `second`, y > k - first."""
    if mode in NEAREST:
        return HALF, bool(k & 1)
    return _DIRECTED[mode][k <= 0]


@dataclass(frozen=True)
class Line:
    """y = clamp(gain * acc + offset, low, high) of one channel; None is no clamp."""

    gain: Fraction
    offset: Fraction = Fraction(0)
    low: Fraction | None = None
    high: Fraction | None = None

    def affine(self, gain: Fraction, offset: Fraction) -> Line:
        """The line followed by gain * y + offset."""
        if not gain:
            return Line(gain, offset)
        low, high = (None if end is None else end * gain + offset for end in (self.low, self.high))
        if gain < 0:
            low, high = high, low
        return Line(self.gain * gain, self.offset * gain + offset, low, high)

    def clamp(self, low: Fraction | None, high: Fraction | None) -> Line:
        """The line followed by a clamp of y to low..high."""

        def inside(value: Fraction) -> Fraction:
            value = value if low is None else max(value, low)
            return value if high is None else min(value, high)

        return Line(
            self.gain,
            self.offset,
            low if self.low is None else inside(self.low),
            high if self.high is None else inside(self.high),
        )

    def at(self, acc: int) -> Fraction:
        """y of an accumulator."""
        y = self.gain * acc + self.offset
        y = y if self.low is None else max(y, self.low)
        return y if self.high is None else min(y, self.high)

    def negated(self) -> Line:
        """The same y of an accumulator with the opposite sign."""
        return Line(-self.gain, self.offset, self.low, self.high)


@dataclass(frozen=True)
class Uniform:
    """q = clamp(round(y / scale + zero_point), lo, hi), rounded by `mode`."""

    kind: TensorType
    scale: Fraction
    lo: int
    hi: int
    mode: str

    def apply(self, channel: int, y: Fraction) -> int:
        """The integer of a real y."""
        del channel  # one scale for all
        t = y / self.scale + self.kind.zero_point
        k = math.floor(t) + 1
        below, strict = _rounding(self.mode, k)
        passed = t > k - below if strict else t >= k - below
        if not passed:
            k -= 1
            below, strict = _rounding(self.mode, k)
            k -= t <= k - below if strict else t < k - below
        return min(max(k, self.lo), self.hi)

    def steps(self, channel: int, line: Line) -> list[int]:
        """For q = lo + 1 .. hi the smallest acc with gain * acc + offset at its step."""
        del channel
        pitch, start = self.scale / (2 * line.gain), -line.offset / line.gain
        bottom = math.lcm(pitch.denominator, start.denominator)
        top = pitch.numerator * (bottom // pitch.denominator)
        first = start.numerator * (bottom // start.denominator)
        found = []
        for k in range(self.lo + 1, self.hi + 1):
            below, strict = _rounding(self.mode, k)
            reach = int(2 * (k - below - self.kind.zero_point)) * top + first
            found.append(reach // bottom + 1 if strict else -(-reach // bottom))
        return found

    def pitch(self, channel: int) -> tuple[Fraction, Fraction] | None:
        """The y of step lo + 1 and the distance of steps; None where rounding is not even."""
        del channel
        below = {_rounding(self.mode, k)[0] for k in range(self.lo + 1, self.hi + 1)}
        if len(below) > 1:
            return None
        first = self.lo + 1 - self.kind.zero_point - (below.pop() if below else HALF)
        return first * self.scale, self.scale


@dataclass(frozen=True)
class Steps:
    """q = lo + #{t : y >= t}; rows of thresholds, one or one per channel; bipolar counts by two."""

    kind: TensorType
    scale: Fraction
    lo: int
    hi: int
    rows: tuple[tuple[Fraction, ...], ...]

    def row(self, channel: int) -> tuple[Fraction, ...]:
        """The thresholds of a channel."""
        return self.rows[channel if len(self.rows) > 1 else 0]

    def apply(self, channel: int, y: Fraction) -> int:
        """As Uniform.apply."""
        return self.lo + (2 if self.kind.bipolar else 1) * bisect_right(self.row(channel), y)

    def steps(self, channel: int, line: Line) -> list[int]:
        """As Uniform.steps."""
        return [math.ceil((value - line.offset) / line.gain) for value in self.row(channel)]

    def pitch(self, channel: int) -> tuple[Fraction, Fraction] | None:
        """As Uniform.pitch, from the first and the last step."""
        row = self.row(channel)
        distance = (row[-1] - row[0]) / max(len(row) - 1, 1)
        return (row[0], distance) if distance > 0 else None


Quantiser = Uniform | Steps


def limits(quantiser: Quantiser, channel: int, line: Line) -> tuple[int, int]:
    """Smallest and largest q that the clamp of `line` allows."""
    lo = quantiser.lo if line.low is None else quantiser.apply(channel, line.low)
    hi = quantiser.hi if line.high is None else quantiser.apply(channel, line.high)
    return lo, hi


def integer_steps(
    quantiser: Quantiser, lines: Sequence[Line], lo: IntArray, hi: IntArray
) -> IntArray:
    """Thresholds [channels, 2^bits - 1] on accumulators within lo..hi, no gain negative.

    q = kind.lo + #{t : acc >= t}. A step that every accumulator has passed stands at lo, one that
    none reaches at hi + 1.
    """
    spread = 2 if quantiser.kind.bipolar else 1
    front = (quantiser.lo - quantiser.kind.lo) // spread
    back = (quantiser.kind.hi - quantiser.hi) // spread
    rows = []
    for channel, line in enumerate(lines):
        least, most = int(lo[channel]), int(hi[channel]) + 1
        if not line.gain:  # constant, as if clamped there
            line = Line(Fraction(1), low=line.at(0), high=line.at(0))
        row = [min(max(t, least), most) for t in quantiser.steps(channel, line)]
        bottom, top = ((q - quantiser.lo) // spread for q in limits(quantiser, channel, line))
        row = [least] * bottom + row[bottom:top] + [most] * (len(row) - top)
        rows.append([least] * front + row + [most] * back)
    return np.array(rows, dtype=np.int64)


def requantize_steps(table: Requantize, bias: IntArray, lo: IntArray, hi: IntArray) -> IntArray:
    """Thresholds on acc of `table` behind acc + bias, laid out as those of `integer_steps`."""
    low, high = table.limits
    zero, kind = table.out.zero_point, table.out
    rows = []
    for channel, (least, last) in enumerate(zip(lo.tolist(), hi.tolist(), strict=True)):
        m = int(table.multiplier[channel if len(table.multiplier) > 1 else 0])
        s = int(table.shift[channel if len(table.shift) > 1 else 0])
        half, moved, most = (1 << s) >> 1, int(bias[channel]), last + 1
        row = []
        for k in range(low + 1, high + 1):
            need = ((k - zero) << s) - half
            t = -(-need // m) - moved if m else (least if need <= 0 else most)
            row.append(min(max(t, least), most))
        rows.append([least] * (low - kind.lo) + row + [most] * (kind.hi - high))
    return np.array(rows, dtype=np.int64)


@dataclass(frozen=True)
class Difference:
    """Share of accumulator values with another result, and by how many steps at most."""

    share: float
    largest: int


def compare(wanted: IntArray, made: IntArray, lo: IntArray, hi: IntArray) -> Difference:
    """How two sets of thresholds on accumulators within lo..hi (one interval a row) differ.

    The share is that of the accumulators between a row's first and last step (those behind them
    only saturate), and the mean over the rows.
    """
    largest, shares = 0, []
    for a, b, least, last in zip(wanted, made, lo, hi, strict=True):
        if (a == b).all():
            shares.append(0.0)
            continue
        inside = a[(a > least) & (a <= last)]
        total = inside[-1] - inside[0] + 1 if len(inside) else last - least + 1
        points = np.unique(np.concatenate([a, b]))
        counts = [np.searchsorted(row, points, side="right") for row in (a, b)]
        apart = np.abs(counts[0] - counts[1])
        until = np.append(points[1:], last + 1)
        shares.append(min(float((until - points)[apart > 0].sum() / total), 1.0))
        largest = max(largest, int(apart[points <= last].max(initial=0)))
    return Difference(float(np.mean(shares)), largest)
