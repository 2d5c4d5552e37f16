"""adSAF: stuck-at faults of weights kept as the difference of two cells, w = plus - minus.

After Ning et al. (see `laws`): the form "all", in which a whole cell is stuck at 0 or at the
largest weight, and the form "bit", in which bits of the cells' magnitudes are. A new map is drawn
for every inference; the faulty weight itself is what the list holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import InputError
from ..ir import IntArray
from .laws import Columns, Law, Target, hits
from .records import Op, Tensor

__all__ = ["StuckBits", "StuckCells"]


class _Stuck(Law):
    """Both forms: weights of two cells."""

    everywhere: ClassVar[bool] = False

    def words(self, target: Target) -> int:
        """Bits of all cells."""
        node = target.linear
        return int(node.weight.size) * 2 * node.weight_bits

    def _weights(self, target: Target) -> tuple[IntArray, int, int]:
        """Weights [size], smallest and largest code."""
        node = target.linear
        if node.weight_bipolar:
            raise InputError(f"layer {target.name}: a bipolar weight has no cell that holds 0")
        high = (1 << (node.weight_bits - 1)) - 1
        return node.weight.ravel(), -high - 1, high

    def _columns(self, target: Target, place: IntArray, plus: IntArray, minus: IntArray) -> Columns:
        """The weights at `place` (inference * weights + weight) with new cells."""
        weights, low, high = self._weights(target)
        index = place % len(weights)
        new = np.clip(plus - minus, low, high)
        changed = new != weights[index]
        return {
            "experiment": (place // len(weights))[changed],
            "index": index[changed],
            "tensor": int(Tensor.WEIGHT),
            "op": int(Op.PUT),
            "value": new[changed],
        }


@dataclass(frozen=True)
class StuckCells(_Stuck):
    """adSAF "all": each cell is stuck with probability `rate`, at M = max |w| with probability
    `share`, else at 0; the difference is clipped to the type of the weights."""

    rate: float = 0.08
    share: float = 0.163

    def draw(self, target: Target, rng: np.random.Generator, count: int) -> Columns:
        """The faults of `count` inferences."""
        weights, _, _ = self._weights(target)
        found = hits(rng, count * len(weights) * 2, self.rate)
        stuck = np.where(rng.random(len(found)) < self.share, np.abs(weights).max(), 0)
        place, where = np.unique(found // 2, return_inverse=True)
        golden = weights[place % len(weights)]
        cells = np.stack((np.maximum(golden, 0), np.maximum(-golden, 0)))
        cells[found % 2, where] = stuck
        return self._columns(target, place, *cells)


@dataclass(frozen=True)
class StuckBits(_Stuck):
    """adSAF "bit": each of a cell's magnitude bits (one fewer than a weight has) is stuck with
    probability `rate`, at 1 with probability `ones`, else at 0."""

    rate: float = 0.1
    ones: float = 0.16

    def draw(self, target: Target, rng: np.random.Generator, count: int) -> Columns:
        """The faults of `count` inferences."""
        weights, _, _ = self._weights(target)
        bits = target.linear.weight_bits - 1
        found = hits(rng, count * len(weights) * 2 * bits, self.rate)
        bit = np.int64(1) << found % bits
        at_one = rng.random(len(found)) < self.ones
        cell = found // bits
        place, where = np.unique(cell // 2, return_inverse=True)
        mask, stuck = np.zeros((2, 2, len(place)), np.int64)
        np.add.at(mask, (cell % 2, where), bit)
        np.add.at(stuck, (cell % 2, where), np.where(at_one, bit, 0))
        golden = weights[place % len(weights)]
        cells = np.stack((np.maximum(golden, 0), np.maximum(-golden, 0)))
        cells = (stuck & mask) | (cells & ~mask)
        return self._columns(target, place, *cells)
