"""Pairs of lanes that share multipliers (`hw.packed`), in numbers. No Amaranth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..quant.ir import IntArray

if TYPE_CHECKING:
    from .linear_config import LinearConfig

__all__ = ["codes", "half_bits", "high_bits", "lane_pairs"]

Pair = tuple[int, int]


def lane_pairs(pe: int, group_lanes: int, replicated: tuple[int, ...]) -> tuple[Pair, ...]:
    """Neighbours among the lanes that read the same elements; replicas stay apart.

    An odd lane is left alone.
    """
    found: list[Pair] = []
    for first in range(0, pe, group_lanes):
        group = range(first, first + group_lanes)
        free = [lane for lane in group if lane not in replicated]
        found += zip(free[::2], free[1::2], strict=False)
    return tuple(found)


def half_bits(layer: LinearConfig) -> int:
    """Bits of one of the two products, signed: they hold every product of x and w."""
    return layer.act_bits + layer.weight_bits


def codes(layer: LinearConfig, pair: Pair) -> tuple[IntArray, IntArray]:
    """The second lane's weights, and the first one's less what they borrow: (words, simd) each."""
    high, low = (layer.weight[:, lane].reshape(-1, layer.simd) for lane in pair)
    return low, high - (low < 0)


def high_bits(layer: LinearConfig) -> int:
    """Bits of a first weight less its borrow: one more where that is below the smallest weight."""
    least = min((int(codes(layer, pair)[1].min()) for pair in layer.pairs), default=0)
    return layer.weight_bits + (least < -(1 << (layer.weight_bits - 1)))
