"""Requantiser: accumulator to few bits, q = clamp(((acc m + 2^(s-1)) >> s) + zp, lo, hi), bound.

Shifts that differ between channels become one: with S the largest, m' = m 2^(S-s) gives the same q,
since ((acc m + 2^(s-1)) >> s) = ((acc m' + 2^(S-1)) >> S); for s = 0 the added 2^(S-1) is cut off.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..quant.ir import Requantize, Thresholds
from .arith import rom
from .config import clog2, multiplies_by_one, requantize_cycles
from .site import Site
from .threshold import Threshold
from .unit_registers import BARE, UnitGuard, UnitRegisters

__all__ = ["Requantizer", "requantizer"]

SPLIT_BITS = 17
"""Low bits of a wide accumulator that one signed 18-bit multiplier takes beside a sign."""


def requantizer(
    kind: Requantize | Thresholds,
    channels: list[int],
    acc_bits: int,
    site: Site,
    guard: UnitGuard = BARE,
) -> Requantizer | Threshold:
    """The unit that takes an accumulator back to few bits; both kinds have the same members."""
    if isinstance(kind, Thresholds):
        return Threshold(kind, channels, acc_bits, site, guard)
    return Requantizer(kind, channels, acc_bits, site, guard)


class Requantizer(wiring.Component):
    """Requantises one lane; a value in `acc` in cycle t is in `q` from cycle t + `cycles` on.

    `cycles` is 2 when every multiplier is 1 and the shift common, else 3 (multiply, add and round,
    clamp). One value a cycle; never stalls; no reset.

    Parameters: `kind`; `channels`, the channel of each table index; `acc_bits`; `site`; `guard`.

    Members: `acc`; `index`, the table index of the value that is in `acc` one cycle later; `q`;
    those of the guard.
    """

    def __init__(
        self,
        kind: Requantize,
        channels: list[int],
        acc_bits: int,
        site: Site,
        guard: UnitGuard = BARE,
    ) -> None:
        self.kind, self.channels, self.acc_bits, self.site = kind, channels, acc_bits, site
        self.guard = guard
        super().__init__(
            {
                "acc": In(signed(acc_bits)),
                "index": In(clog2(len(channels))),
                "q": Out(kind.out.bits),
                **guard.members(kind.out.bits, self.cycles + 1),
            }
        )

    @property
    def cycles(self) -> int:
        """Cycles from `acc` to `q`."""
        return requantize_cycles(self.kind)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        kind = self.kind
        self.group = group = UnitRegisters(m, self.site, self.guard)
        shift = int(kind.shift.max())
        rounding = 1 << (shift - 1) if shift else 0
        bound, delay = self._bound(m)
        if multiplies_by_one(kind):
            rounded: Value = self.acc + rounding
        else:
            # Cycle 1: partial products.
            multiplier = self._column(m, kind.multiplier << (shift - kind.shift), "multiplier")
            parts = [(0, self.acc)]
            if self.acc_bits > SPLIT_BITS + 1:
                parts = [
                    (0, self.acc[:SPLIT_BITS]),
                    (SPLIT_BITS, self.acc[SPLIT_BITS:].as_signed()),
                ]
            products: list[Value] = []
            for at, part in parts:
                full = part * multiplier
                product = group.take(1, full.shape(), f"product_{at}", full)
                products.append(product.shift_left(at))
            rounded = sum(products[1:], products[0]) + rounding
        # The cycle before the last: rounding; the shift is wiring.
        shifted = rounded.shift_right(shift)
        total = group.take(self.cycles - 1, shifted.shape(), "total", shifted)
        # The last cycle: zero point, clamp, bound.
        low, high = kind.limits
        zero_point = kind.out.zero_point
        q = group.result(self.cycles, signed(kind.out.bits + 1), "result")
        value, clamped = Signal.like(total + zero_point), Signal(signed(kind.out.bits + 1))
        m.d.comb += [
            value.eq(total + zero_point),
            clamped.eq(Mux(value < low, low, Mux(value > high, high, value))),
        ]
        result: Value = clamped
        if bound is not None:
            limit = bound
            for rank in range(delay):
                limit = group.take(rank + 1, Value.cast(bound).shape(), f"bound_{rank}", limit)
            instead = limit if kind.bound_kind == "saturate" else zero_point
            result = Mux(clamped > limit, instead, clamped)
        group.set(q, result)
        m.d.comb += self.q.eq(q)
        if self.guard.stream != "none":
            code = group.code(self.cycles, result[: kind.out.bits])
            m.d.comb += self.code.eq(code)
        broken = group.broken(self.cycles + 1)
        if self.guard.compared:
            m.d.comb += self.broken.eq(broken)
        return m

    def _bound(self, m: Module) -> tuple[Any, int]:
        """The bound of the value in `acc`, and the cycles that it has to wait for the clamp."""
        if self.kind.bound is None:
            return None, 0
        return self._column(m, self.kind.bound, "bound"), self.cycles - 1

    def _column(self, m: Module, values: Any, name: str) -> Any:
        """This lane's entry of a per-channel table, registered to meet its value in `acc`."""
        if len(values) == 1:
            return int(values[0])
        column = [int(v) for v in np.asarray(values)[self.channels]]
        if len(set(column)) == 1:
            return column[0]
        low, high = min(column), max(column)
        shape = (
            signed(max(high.bit_length(), (~low).bit_length()) + 1)
            if low < 0
            else high.bit_length()
        )
        looked_up = rom(m, column, self.index, shape, f"{name}_table")
        return self.group.take(0, shape, name, looked_up)
