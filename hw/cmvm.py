"""Products of a constant matrix and a vector out of shared additions: y = W x.

Every weight is written in canonical signed digits; two terms that occur together in several outputs
(or twice in one) are summed once. Every node is unsigned: a subtrahend of n bits enters as 2^n - b,
and the constant that this leaves in the sum is known, so no sign is ever extended. Nothing here
needs Amaranth.
Source: two-term common subexpressions, R. I. Hartley, IEEE TCAS-II 43(10), 1996; greedy choice by
frequency times overlap, and a bound on the depth, as in da4ml (C. Sun et al., arXiv:2507.04535);
constants in place of signs as in Baugh and Wooley, IEEE Trans. Comp. C-22(12), 1973.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..quant.ir import IntArray

__all__ = ["Adder", "AdderGraph", "Output", "copies", "csd", "solve"]

Interval = tuple[int, int]
Term = tuple[int, int]
"""(node, shift): the node's value times 2^shift."""

MINUS_BITS = 3
"""Bits by which a sum may be wider than a difference that does as well: a difference costs LUTs
for its lowest bit twice."""

SCORE_BITS = 10
"""Fraction bits of a pattern's score."""

NODE_BITS, SHIFT_BITS = 20, 6
"""Fields of a packed pattern: nodes a and b, the distance of their shifts, equal signs or not."""


@dataclass(frozen=True, slots=True)
class Adder:
    """a + (b << shift), or a + ((2^n - b) << shift) when `minus`, n the bits of b.

    a and b are earlier nodes.
    """

    a: int
    b: int
    shift: int
    minus: bool


@dataclass(frozen=True, slots=True)
class Output:
    """(node << shift) + constant, the first negated when `minus`; `node` None: it is 0."""

    node: int | None
    shift: int = 0
    minus: bool = False
    constant: int = 0


@dataclass(frozen=True)
class AdderGraph:
    """Nodes 0..inputs - 1 are the elements of x, the others `adders` in order; all unsigned.

    Input i holds x[i] + `offsets[i]`: 0, or half the range of the narrowest signed word (its top
    bit flipped). `bits[n]` is the width of node n, `highs[n]` its largest value, exact for
    independent inputs; `ranges` is the interval of every output.
    """

    offsets: tuple[int, ...]
    adders: tuple[Adder, ...]
    outputs: tuple[Output, ...]
    highs: tuple[int, ...]
    ranges: tuple[Interval, ...]

    @property
    def inputs(self) -> int:
        """Elements of x."""
        return len(self.offsets)

    @functools.cached_property
    def bits(self) -> tuple[int, ...]:
        """Width of every node."""
        return tuple(high.bit_length() for high in self.highs)

    @functools.cached_property
    def levels(self) -> tuple[int, ...]:
        """Adders on the longest way to each node, 0 for an input."""
        found = [0] * self.inputs
        for adder in self.adders:
            found.append(max(found[adder.a], found[adder.b]) + 1)
        return tuple(found)

    @property
    def depth(self) -> int:
        """Adders on the longest way to an output."""
        return max((self.levels[o.node] for o in self.outputs if o.node is not None), default=0)

    @property
    def adder_bits(self) -> int:
        """LUTs where carries have cells of their own: overlaps, a difference's lowest bit twice."""
        return sum(_overlap(a, self.bits[a.a], self.bits[a.b]) + a.minus for a in self.adders)

    @property
    def carry_bits(self) -> int:
        """LUTs where two of them are one carry cell: all bits above the shifts, in pairs."""
        results = self.bits[self.inputs :]
        widths = (bits - a.shift for a, bits in zip(self.adders, results, strict=True))
        return sum(width + width % 2 for width in widths)

    def evaluate(self, x: IntArray) -> IntArray:
        """y [n, outputs] of x [n, inputs], by the additions of the circuit."""
        values = list(np.asarray(x, dtype=np.int64).T + np.array(self.offsets)[:, None])
        for adder in self.adders:
            term = values[adder.b]
            if adder.minus:
                term = (1 << self.bits[adder.b]) - term
            values.append(values[adder.a] + (term << adder.shift))
        columns = []
        for out in self.outputs:
            value = np.zeros(len(x), dtype=np.int64)
            if out.node is not None:
                value = values[out.node] << out.shift
            columns.append((-value if out.minus else value) + out.constant)
        return np.stack(columns, axis=1)


def _overlap(adder: Adder, a_bits: int, b_bits: int) -> int:
    """Bits in which a and b << shift are both present: each takes a LUT."""
    return max(0, min(a_bits - adder.shift, b_bits))


def csd(value: int) -> list[tuple[int, int]]:
    """Canonical signed digits of an integer as (shift, +1 or -1), lowest first.

    >>> csd(7), csd(-6)
    ([(0, -1), (3, 1)], [(1, 1), (3, -1)])
    """
    digits, shift = [], 0
    while value:
        if value & 1:
            digit = 2 - (value & 3)
            digits.append((shift, digit))
            value -= digit
        value >>= 1
        shift += 1
    return digits


def copies(graph: AdderGraph, places: Sequence[Sequence[int]], inputs: int) -> AdderGraph:
    """The graph once for each of `places`, over `inputs` common elements of one interval.

    Input n of copy k is element places[k][n]; the outputs are those of one copy after the other.
    """
    count, many = graph.inputs, len(places)
    adders: list[Adder] = []
    outputs: list[Output] = []
    for place in places:
        start = inputs + len(adders)
        at = [*place, *range(start, start + len(graph.adders))]
        adders += [replace(adder, a=at[adder.a], b=at[adder.b]) for adder in graph.adders]
        outputs += [o if o.node is None else replace(o, node=at[o.node]) for o in graph.outputs]
    return AdderGraph(
        offsets=graph.offsets[:1] * inputs,
        adders=tuple(adders),
        outputs=tuple(outputs),
        highs=graph.highs[:1] * inputs + graph.highs[count:] * many,
        ranges=graph.ranges * many,
    )


def solve(matrix: IntArray, ranges: Sequence[Interval], slack: int = 0) -> AdderGraph:
    """Additions that compute `matrix` [out, in] times x, x[i] within ranges[i].

    The depth is at most `slack` above that of the deepest output computed alone. Deterministic.
    Raises ValueError for a matrix that is not [out, len(ranges)], an empty range, a negative slack.
    """
    matrix = np.asarray(matrix, dtype=np.int64)
    if matrix.ndim != 2 or matrix.shape[1] != len(ranges) or not matrix.size:
        raise ValueError(f"matrix must be [out, {len(ranges)}], not {list(matrix.shape)}")
    if slack < 0 or any(lo > hi for lo, hi in ranges):
        raise ValueError("slack must be >= 0 and every range lo <= hi")
    return _Solver(matrix, ranges, slack).run()


class _Solver:
    """Signed terms of every output, and how often each pattern of two occurs in them."""

    def __init__(self, matrix: IntArray, ranges: Sequence[Interval], slack: int) -> None:
        self.matrix = matrix
        self.low, self.high = np.array(ranges, dtype=np.int64).T
        self.weights: list[IntArray] = list(np.eye(len(ranges), dtype=np.int64))
        signed = [max(hi.bit_length(), (~lo).bit_length()) if lo < 0 else None for lo, hi in ranges]
        self.offsets = [0 if n is None else 1 << n for n in signed]
        self.highs = [int(hi) + off for (_, hi), off in zip(ranges, self.offsets, strict=True)]
        self.bits = [high.bit_length() for high in self.highs]
        self.levels = [0] * len(ranges)
        self.adders: list[Adder] = []
        self.columns = [
            {(i, s): d for i, w in enumerate(row) for s, d in csd(w)} for row in matrix.tolist()
        ]
        # Terms of levels l_i can be summed within D levels if sum 2^l_i <= 2^D (Kraft).
        longest = max(len(column) for column in self.columns)
        self.depth = max(1, max(0, longest - 1).bit_length() + slack)
        self.room = 1 << self.depth
        self.used = [len(column) for column in self.columns]
        self.counts: dict[int, int] = {}
        self.homes: dict[int, set[int]] = {}
        self.heap: list[tuple[int, int]] = []

    def run(self) -> AdderGraph:
        """Share while a pattern occurs twice, then sum what is left of every output."""
        inputs = len(self.bits)
        for index, column in enumerate(self.columns):
            terms = list(column.items())
            for i, (term, sign) in enumerate(terms):
                self._count(terms[:i], term, sign, index, 1)
        self._push(self.counts)
        while self.heap:
            score, pattern = heapq.heappop(self.heap)
            if -score == self._score(pattern):
                self._share(pattern)
        outputs = tuple(self._sum(index) for index in range(len(self.columns)))
        ends = np.stack([self.matrix * self.low, self.matrix * self.high])
        ranges = zip(ends.min(0).sum(1).tolist(), ends.max(0).sum(1).tolist(), strict=True)
        return AdderGraph(
            tuple(self.offsets[:inputs]),
            tuple(self.adders),
            outputs,
            tuple(self.highs),
            tuple(ranges),
        )

    def _count(
        self,
        terms: Sequence[tuple[Term, int]],
        term: Term,
        sign: int,
        index: int,
        change: int,
    ) -> list[int]:
        """Add `change` to every pattern that `term` makes with `terms`; those patterns."""
        counts, touched = self.counts, []
        node, shift = term
        for (other, at), digit in terms:
            pattern = self._pattern(node, shift, other, at, digit != sign)
            counts[pattern] = counts.get(pattern, 0) + change
            if change > 0:
                self.homes.setdefault(pattern, set()).add(index)
            touched.append(pattern)
        return touched

    def _pattern(self, node: int, shift: int, other: int, at: int, minus: bool) -> int:
        """One number for two terms: the lower one is a, of equal shifts the wider one."""
        bits = self.bits
        if (at, -bits[other], other) < (shift, -bits[node], node):
            node, shift, other, at = other, at, node, shift
        return ((node << NODE_BITS | other) << SHIFT_BITS | (at - shift)) << 1 | minus

    def _push(self, patterns: Iterable[int]) -> None:
        for pattern in patterns:
            score = self._score(pattern)
            if score:
                heapq.heappush(self.heap, (-score, pattern))

    def _score(self, pattern: int) -> int:
        """Frequency times overlap, more for sums and what is deep already; 0 for one occurrence."""
        count = self.counts.get(pattern, 0)
        if count < 2:
            return 0
        adder = _unpack(pattern)
        overlap = _overlap(adder, self.bits[adder.a], self.bits[adder.b]) - adder.minus
        saved = count * max(1, overlap)
        left = 2 * self.depth - max(self.levels[adder.a], self.levels[adder.b])
        return (saved << SCORE_BITS) // left

    def _share(self, pattern: int) -> None:
        """Replace every occurrence of a pattern by one new node, if there are two or more."""
        adder = _unpack(pattern)
        level = max(self.levels[adder.a], self.levels[adder.b]) + 1
        more = (1 << level) - (1 << self.levels[adder.a]) - (1 << self.levels[adder.b])
        found = [
            (index, place)
            for index in sorted(self.homes[pattern])
            for place in self._places(adder, index, more)
        ]
        if len(found) < 2:
            self.counts[pattern] = 0  # what is left overlaps, or would be too deep
            return
        node, touched = self._add(adder), set()
        for index, (shift, sign) in found:
            column = self.columns[index]
            for term in ((adder.a, shift), (adder.b, shift + adder.shift)):
                digit = column.pop(term)
                touched.update(self._count(tuple(column.items()), term, digit, index, -1))
            touched.update(self._count(tuple(column.items()), (node, shift), sign, index, 1))
            column[(node, shift)] = sign
            self.used[index] += more
        self._push(touched)

    def _places(self, adder: Adder, index: int, more: int) -> Iterator[tuple[int, int]]:
        """(shift, sign) of disjoint occurrences in one output that leave it shallow enough."""
        column, taken = self.columns[index], set()
        used = self.used[index]
        for (node, shift), sign in sorted(column.items()):
            if node != adder.a:
                continue
            other = (adder.b, shift + adder.shift)
            if column.get(other) != (-sign if adder.minus else sign):
                continue
            if (node, shift) in taken or other in taken or used + more > self.room:
                continue
            taken |= {(node, shift), other}
            used += more
            yield shift, sign

    def _add(self, adder: Adder) -> int:
        """A new node; its range follows from the weights of the inputs in it."""
        a, b, at = adder.a, adder.b, adder.shift
        sign = -1 if adder.minus else 1
        weights = self.weights[a] + sign * (self.weights[b] << at)
        offset = (1 << self.bits[b]) - self.offsets[b] if adder.minus else self.offsets[b]
        offset = self.offsets[a] + (offset << at)
        high = offset + int(np.maximum(weights * self.low, weights * self.high).sum())
        self.weights.append(weights)
        self.offsets.append(offset)
        self.highs.append(high)
        self.bits.append(high.bit_length())
        self.levels.append(max(self.levels[a], self.levels[b]) + 1)
        self.adders.append(adder)
        return len(self.weights) - 1

    def _sum(self, index: int) -> Output:
        """Sum the terms of an output, the cheapest pair that keeps it shallow enough first."""
        column = self.columns[index]
        while len(column) > 1:
            terms = sorted(column.items())
            _, pattern, shift, sign, i, j = min(
                self._pair(terms[i], terms[j], i, j, index)
                for i in range(len(terms))
                for j in range(i)
            )
            adder = _unpack(pattern)
            before = (1 << self.levels[adder.a]) + (1 << self.levels[adder.b])
            node = self._add(adder)
            del column[terms[i][0]], column[terms[j][0]]
            column[(node, shift)] = sign
            self.used[index] += (1 << self.levels[node]) - before
        for (node, shift), sign in column.items():
            return Output(node, shift, sign < 0, -sign * (self.offsets[node] << shift))
        return Output(None)

    def _pair(
        self, one: tuple[Term, int], two: tuple[Term, int], i: int, j: int, index: int
    ) -> tuple[tuple[bool, int, int], int, int, int, int, int]:
        """Cost of adding two terms: too deep, its bits, its level; and what replaces them."""
        (node, shift), sign = one
        (other, at), digit = two
        pattern = self._pattern(node, shift, other, at, digit != sign)
        adder = _unpack(pattern)
        a, b = self.levels[adder.a], self.levels[adder.b]
        level = max(a, b) + 1
        deep = self.used[index] + (1 << level) - (1 << a) - (1 << b) > self.room
        bits = self.bits[adder.a], self.bits[adder.b]
        width = max(bits[0], bits[1] + adder.shift) - adder.shift
        cost = (deep, width + MINUS_BITS * adder.minus, level)
        first = (adder.a, min(shift, at))
        return cost, pattern, first[1], sign if first == (node, shift) else digit, i, j


def _unpack(pattern: int) -> Adder:
    shift = (pattern >> 1) & ((1 << SHIFT_BITS) - 1)
    nodes = pattern >> (SHIFT_BITS + 1)
    return Adder(nodes >> NODE_BITS, nodes & ((1 << NODE_BITS) - 1), shift, bool(pattern & 1))
