"""What each comparator of a threshold unit compares with, a binary search. No Amaranth.

With ascending thresholds t[0..2^n - 2], #{t : acc >= t} >= c exactly if acc >= t[c - 1]. Rank j of
n knows the j upper bits p of the count and decides the next one with c = (2 p + 1) 2^(n - 1 - j).
Source: binary search over sorted thresholds, folklore; thresholds as in FINN (Umuroglu et al.,
FPGA 2017, section 4.2.2), which counts with all comparators at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..quant.ir import IntArray, Thresholds

__all__ = ["Rank", "index_ranks", "threshold_ranks"]


@dataclass(frozen=True, eq=False)
class Rank:
    """One comparator: `table` [table indices or 1, 2^j] by index and by the bits found so far."""

    table: IntArray

    @property
    def constant(self) -> int | None:
        """The threshold, where it is one number: it needs neither table nor register."""
        low = int(self.table.min())
        return low if low == self.table.max() else None

    @property
    def by_index(self) -> bool:
        """Whether the channels differ."""
        return len(self.table) > 1

    @property
    def bits(self) -> int:
        """Bits of the signed threshold register; 0 where the threshold is a constant."""
        if self.constant is not None:
            return 0
        low, high = int(self.table.min()), int(self.table.max())
        return max(high.bit_length(), (~low).bit_length() if low < 0 else 0) + 1

    def after(self, bit: int) -> list[int]:
        """Thresholds once the rank before found `bit`: by index, then by the bits found earlier."""
        return [int(t) for t in self.table[:, bit::2].ravel()]


def threshold_ranks(kind: Thresholds, channels: Sequence[int], acc_bits: int) -> tuple[Rank, ...]:
    """The ranks of one lane; `channels` is the channel of each table index.

    A threshold below every accumulator of `acc_bits` bits is always passed, one above them never:
    they are clamped to the nearest such number.
    """
    edge = 1 << (acc_bits - 1)
    values = np.clip(kind.values, -edge, edge)
    rows = values if len(values) == 1 else values[list(channels)]
    if (rows == rows[0]).all():
        rows = rows[:1]
    bits = kind.out.bits
    found = []
    for rank in range(bits):
        counts = (2 * np.arange(1 << rank) + 1) << (bits - 1 - rank)
        table = rows[:, counts - 1]
        found.append(Rank(table[:1] if (table == table[0]).all() else table))
    return tuple(found)


def index_ranks(ranks: Sequence[Rank]) -> int:
    """Registers that the table index passes: up to the last rank whose table has channels."""
    return max((number for number, rank in enumerate(ranks) if rank.by_index), default=0)
