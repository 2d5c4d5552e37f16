"""From any accumulator, also one that no fault-free run can reach, to the layer's result.

The same integers as `reference.requantize`, in two halves with the word before the activation
between them, in NumPy or torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir import Conv2d, Dense, Requantize, TensorType, Thresholds
from .words import wrap

__all__ = ["Finish"]

SAFE = 1 << 62
SAFE_SHIFT = 51
LIMB = 20


class Finish:
    """Requantisation of one layer for accumulators of any value within `acc_bits`.

    The two halves are `before` and `after` the activation: before it stands the rounded word
    acc m / 2^s + zp, clipped to `limits`; after it the clamp, which is the activation, and the
    bound. Where a ReLU makes an unsigned type (the clamp starts at the zero point) the word before
    it has as many negative codes as others. Thresholds and plain accumulators have no word before
    the activation: `before` is the result itself.
    """

    def __init__(
        self, node: Conv2d | Dense, kind: TensorType, xp: Any, array: Callable[[Any], Any]
    ) -> None:
        self.xp, self.kind, self.table = xp, kind, node.requantize
        self.limits = kind.lo, kind.hi
        if isinstance(self.table, Thresholds):
            self.values = array(self.table.values)
        elif isinstance(self.table, Requantize):
            table = self.table
            self.multiplier, self.shift = array(table.multiplier), array(table.shift)
            self.half = (array(np.int64(1) << table.shift)) >> 1
            # The clamp is reached before acc * m leaves 63 bits: larger words make no difference.
            self.reach = array(SAFE // np.maximum(table.multiplier, 1))
            self.bound = None if table.bound is None else array(table.bound)
            self.far = bool(table.shift.max() > SAFE_SHIFT)
            if not kind.signed and table.limits[0] == kind.zero_point:
                self.limits = 2 * kind.zero_point - kind.hi - 1, kind.hi

    def before(self, acc: Any, channel: Any) -> Any:
        """The word before the activation; `channel` of each word, or None for [..., channels]."""
        if self.table is None:
            return wrap(acc, self.kind.bits, True)
        if isinstance(self.table, Thresholds):
            return self._count(acc, channel)
        return (self._scaled(acc, channel) + self.kind.zero_point).clip(*self.limits)

    def _scaled(self, acc: Any, channel: Any) -> Any:
        """(acc m + 2^(s-1)) >> s, or any number beyond the clamp on the same side."""
        m, s, half, reach = (
            _pick(t, channel) for t in (self.multiplier, self.shift, self.half, self.reach)
        )
        near = self.xp.minimum(self.xp.maximum(acc, -reach), reach)
        word = (near * m + half) >> s
        if not self.far:
            return word
        high, low = acc >> LIMB, acc & ((1 << LIMB) - 1)
        split = (high * m + ((low * m + half) >> LIMB)) >> (s - LIMB).clip(0)
        return self.xp.where(s >= LIMB, split, word)

    def after(self, word: Any, channel: Any) -> Any:
        """The result of a word before the activation."""
        if not isinstance(self.table, Requantize):
            return word
        word = word.clip(*self.table.limits)
        if self.bound is None:
            return word
        bound = _pick(self.bound, channel)
        if self.table.bound_kind == "saturate":
            return self.xp.minimum(word, bound)
        return self.xp.where(word > bound, self.table.out.zero_point, word)

    def __call__(self, acc: Any, channel: Any = None) -> Any:
        """The result of an accumulator."""
        return self.after(self.before(acc, channel), channel)

    def _count(self, acc: Any, channel: Any) -> Any:
        assert isinstance(self.table, Thresholds)
        if channel is None:
            steps = [self.values[:, step] for step in range(self.values.shape[1])]
        else:
            rows = _pick(self.values, channel)
            steps = [rows[..., step] for step in range(self.values.shape[1])]
        count = 0 * acc
        for step in steps:
            count = count + (acc >= step)
        out = self.table.out
        return out.lo + (2 if out.bipolar else 1) * count


def _pick(table: Any, channel: Any) -> Any:
    """Each word's entry of a per-channel table; one entry serves all."""
    if len(table) == 1:
        return table[0]
    return table if channel is None else table[channel]
