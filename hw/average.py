"""Averages that leave the padding out: a multiplier for each number of elements. No Amaranth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..quant import ranges
from ..quant.ir import AvgPool, Requantize
from .window_config import WindowConfig

__all__ = ["CountedRequantize", "by_count", "group_bits", "table_entries"]


def group_bits(window: WindowConfig) -> int:
    """Bits of the pass in a table index that has the window's place above it."""
    return (len(window.passes) - 1).bit_length()


def _numbers(window: WindowConfig) -> list[int]:
    """The different numbers of kernel columns inside the image."""
    return sorted({n for counts in window.place_counts[1] for n in counts})


def table_entries(window: WindowConfig, lanes: int, lane: int, pixel: int = 0) -> list[int]:
    """The table entry of each table index of a pool's requantiser.

    `lanes` are those of a pixel, `lane` one of them, `pixel` one of those that a window covers. The
    index is the pass; where windows count what they hold, {class of columns, class of rows, pass},
    and the entry is that of (number of rows, number of columns, channel).
    """
    passes = len(window.passes)
    if not any(window.place_bits):
        return [group * lanes + lane for group in range(passes)]
    rows, classes = window.place_counts
    numbers, (row_bits, column_bits) = _numbers(window), window.place_bits
    columns = [numbers.index(counts[pixel]) for counts in classes]
    return [
        (
            (min(row, len(rows) - 1) * len(numbers) + columns[min(column, len(columns) - 1)])
            * passes
            + min(group, passes - 1)
        )
        * lanes
        + lane
        for column in range(1 << column_bits)
        for row in range(1 << row_bits)
        for group in range(1 << group_bits(window))
    ]


@dataclass(frozen=True, eq=False)
class CountedRequantize(Requantize):
    """A checked table, stretched to an entry for each class of rows, class of columns and channel.

    Its multipliers are as wide as the counts make them, beyond `m_bits`.
    """

    def __post_init__(self) -> None:
        """Nothing to check: it is made of a checked table (docs/ir.md, m_n)."""


def by_count(node: AvgPool, window: WindowConfig) -> CountedRequantize:
    """The table of a pool that counts elements; entries by (rows, columns, channel)."""
    table, channels = node.requantize, window.channels
    counts = np.outer(window.place_counts[0], _numbers(window))
    multiplier = ranges.window_multiplier(node, counts)
    bound = table.bound
    return CountedRequantize(
        multiplier=np.broadcast_to(multiplier, (*counts.shape, channels)).reshape(-1),
        shift=np.tile(np.broadcast_to(table.shift, (channels,)), counts.size),
        out=table.out,
        m_bits=table.m_bits,
        lo=table.lo,
        hi=table.hi,
        bound=bound if bound is None or len(bound) == 1 else np.tile(bound, counts.size),
        bound_kind=table.bound_kind,
    )
