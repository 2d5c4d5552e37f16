"""What the threshold units of a layer are made of: comparators, tables, registers, in bits."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...hw.config import LayerConfig, clog2
from ...hw.linear_config import LinearConfig
from ...hw.threshold_ranks import Rank, index_ranks, threshold_ranks
from ...quant.ir import IntArray, Thresholds
from .columns import bits_of, distinct, rom_luts

__all__ = ["ThresholdUnit", "threshold_units"]


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdUnit:
    """One lane's threshold unit: its comparators, entries of its tables, accumulator's bits."""

    ranks: tuple[Rank, ...]
    entries: int
    acc_bits: int

    @property
    def indexed(self) -> bool:
        """Whether anything reads the table index."""
        return any(rank.by_index for rank in self.ranks)

    @property
    def threshold_bits(self) -> int:
        """Bits of the threshold registers."""
        return sum(rank.bits for rank in self.ranks)

    @property
    def waiting_bits(self) -> int:
        """Bits that travel beside the search: accumulator, result so far, table index."""
        later = len(self.ranks) - 1
        found = later * (later + 1) // 2
        return later * self.acc_bits + found + index_ranks(self.ranks) * clog2(self.entries)

    @property
    def compared_bits(self) -> int:
        """Bits of all comparators, and of the choices between two thresholds."""
        return len(self.ranks) * self.acc_bits + sum(rank.bits for rank in self.ranks[1:])

    @property
    def table_luts(self) -> float:
        """LUTs of the tables: one at the first rank, then one for each value of the bit before."""
        total = 0.0
        for table, bits in self._tables():
            columns = bits_of(table[:, None], bits)
            total += rom_luts(len(table), distinct(columns))
        return total

    def _tables(self) -> Iterator[tuple[IntArray, int]]:
        for number, rank in enumerate(self.ranks):
            if rank.bits and not number:
                yield rank.table.ravel(), rank.bits
            elif rank.bits:
                for bit in (0, 1):
                    yield np.array(rank.after(bit), dtype=np.int64), rank.bits


def threshold_units(layer: LayerConfig) -> tuple[ThresholdUnit, ...]:
    """One for each output lane; none in a layer without thresholds."""
    if not isinstance(layer, LinearConfig) or not isinstance(layer.requantize, Thresholds):
        return ()
    table, lanes = tuple(layer.channels(0)), layer.out_lanes // layer.pixels
    return _units(layer.requantize, table, lanes, layer.acc_bits) * layer.pixels


@functools.lru_cache(maxsize=1024)
def _units(
    kind: Thresholds, table: tuple[int, ...], lanes: int, acc_bits: int
) -> tuple[ThresholdUnit, ...]:
    """Thresholds compare by identity: a table is looked at once for each folding."""
    return tuple(
        ThresholdUnit(threshold_ranks(kind, [t + i for t in table], acc_bits), len(table), acc_bits)
        for i in range(lanes)
    )
