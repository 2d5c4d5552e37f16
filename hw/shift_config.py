"""A layer whose constant weights became shared shift-adds, in numbers. No Amaranth."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields

import numpy as np

from ..quant import ranges
from ..quant.errors import InputError
from ..quant.ir import IntArray, Requantize
from .checksum_config import least_ranks
from .cmvm import AdderGraph, copies, solve
from .config import multiplies_by_one
from .linear_config import LinearConfig

__all__ = ["ADDERS_PER_RANK", "Delay", "ShiftConfig", "shift_layer"]

ADDERS_PER_RANK = 2
"""Additions one after the other between two registers."""

Interval = tuple[int, int]


@dataclass(frozen=True)
class Delay:
    """Node `node` of the graph in a register behind rank `rank`, `bits` wide."""

    node: int
    rank: int
    bits: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ShiftConfig(LinearConfig):
    """A layer computed whole in every cycle: y = W x + bias by the additions of `graph`.

    Each element of a step is an input of the graph, each lane one of its outputs. `widths`
    are the widths of the sums, exact. Where requantising only shifts, `bias` holds its
    rounding term and the shift and the clamp take one cycle.
    """

    graph: AdderGraph
    widths: tuple[int, ...]

    @property
    def direct(self) -> bool:
        """Whether an input word is a frame and a window: no buffer, a word starts when it comes.

        A checksum lane takes its elements from a buffer.
        """
        window = self.window
        return window.frame_words * window.windows == 1 and not window.padded and not self.modulus

    @property
    def clamps(self) -> bool:
        """Whether requantising is a shift and a clamp."""
        return _clamps(self)

    @property
    def ranks(self) -> int:
        """Registers from the elements to the sums; no fewer than a checksum lane has."""
        own = max(1, -(-self.graph.depth // ADDERS_PER_RANK))
        if self.modulus and self.form == "filter":
            return max(own, least_ranks(self.modulus, len(self.filter_check.used)))
        return own

    @property
    def adders_per_rank(self) -> int:
        """Additions in a row between two registers; that of the bias follows the last."""
        return max(1, -(-self.graph.depth // self.ranks))

    def rank(self, node: int) -> int:
        """The rank that computes a node, from 1; 0 for an input."""
        return -(-self.graph.levels[node] // self.adders_per_rank)

    @functools.cached_property
    def summed(self) -> tuple[int, ...]:
        """Nodes that are sums of outputs: they end in accumulators."""
        return tuple(sorted({o.node for o in self.graph.outputs if o.node is not None}))

    @functools.cached_property
    def delays(self) -> tuple[Delay, ...]:
        """Registers behind the ranks but the last: what a later rank reads, by node and rank."""
        last = dict.fromkeys(self.summed, self.ranks)
        for index, adder in enumerate(self.graph.adders, start=self.graph.inputs):
            for node in (adder.a, adder.b):
                last[node] = max(last.get(node, 0), self.rank(index))
        return tuple(
            Delay(node, rank, self.graph.bits[node])
            for node, until in sorted(last.items())
            for rank in range(max(1, self.rank(node)), until)
        )

    @property
    def lane_cycles(self) -> int:
        """Cycles from a step's issue to its sums in the accumulators."""
        return self.ranks + (0 if self.direct else 2)

    @property
    def requantize_cycles(self) -> int:
        """One for shift and clamp."""
        return 1 if self.clamps else super().requantize_cycles

    @property
    def cycles_per_frame(self) -> int:
        """One where every word is a frame: it leaves no claim."""
        return 1 if self.direct else super().cycles_per_frame


def _clamps(layer: LinearConfig) -> bool:
    kind = layer.requantize
    return isinstance(kind, Requantize) and kind.bound is None and multiplies_by_one(kind)


def shift_layer(layer: LinearConfig, elements: Interval) -> ShiftConfig:
    """The layer with its products as shared shift-adds; `elements` bounds what it reads.

    Raises InputError, naming the layer, unless it is one pass of one step, or if lanes are
    replicated.
    """
    passes, pe, steps, simd = layer.weight.shape
    if passes * steps > 1:
        raise InputError(
            f'layer {layer.name}: multiplier = "shift" computes the whole layer in one cycle; '
            f"set pe = {passes * pe} and simd = {steps * simd}"
        )
    if layer.replicated or layer.voted:
        raise InputError(
            f'layer {layer.name}: neurons of a layer with multiplier = "shift" share their '
            'additions, which cannot be tripled; set tmr = "none", or multiplier = "lut"'
        )
    places = _pixel_elements(layer)
    matrix = np.zeros((pe // layer.pixels, len(places[0])), dtype=np.int64)
    where = {element: column for column, element in enumerate(places[0])}
    for lane, row in enumerate(matrix):
        row[[where[i] for i in layer.lane_elements(lane)]] = layer.weight[0, lane, 0]
    bias = layer.bias
    kept = {field.name: getattr(layer, field.name) for field in fields(LinearConfig)}
    if layer.act_bipolar:  # x = 2 bit - 1, for the sums and for their checksum
        bias = bias - np.tile(matrix.sum(axis=1), layer.pixels)
        matrix, elements = 2 * matrix, (0, 1)
        kept |= {"weight": 2 * layer.weight, "act_bipolar": False, "act_signed": False}
    if _clamps(layer):
        assert isinstance(layer.requantize, Requantize)
        bias = bias + ((1 << int(layer.requantize.shift[0])) >> 1)
    graph = _solved(matrix.tobytes(), matrix.shape, elements)
    if layer.pixels > 1:
        graph = copies(graph, places, layer.elements)
    widths = tuple(
        ranges.signed_bits(lo + int(b), hi + int(b)) + isinstance(layer.modulus, int)
        for (lo, hi), b in zip(graph.ranges, bias[0], strict=True)
    )
    kept |= {"bias": bias, "acc_bits": max(widths)}
    return ShiftConfig(**kept, graph=graph, widths=widths)


def _pixel_elements(layer: LinearConfig) -> list[list[int]]:
    """The elements that the lanes of each pixel read, in order."""
    groups = len(layer.picks) // layer.pixels
    return [
        sorted({i for pick in layer.picks[p * groups : (p + 1) * groups] for i in pick})
        for p in range(layer.pixels)
    ]


@functools.lru_cache(maxsize=64)
def _solved(matrix: bytes, shape: tuple[int, int], elements: Interval) -> AdderGraph:
    """Foldings of one layer share the search."""
    weights: IntArray = np.frombuffer(matrix, dtype=np.int64).reshape(shape)
    return solve(weights, [elements] * shape[1])
