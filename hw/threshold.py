"""Threshold unit: accumulator to 1..4 bits, q = lowest + #{t : acc >= t}, one bit a cycle.

A pipelined binary search (`hw.threshold_ranks`): one comparator for each bit of the result, where
counting would take one for each threshold.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..quant.ir import Thresholds
from .arith import rom
from .config import clog2, requantize_cycles
from .site import Site
from .threshold_ranks import Rank, index_ranks, threshold_ranks
from .unit_registers import BARE, UnitGuard, UnitRegisters

__all__ = ["Threshold"]


class Threshold(wiring.Component):
    """Counts passed thresholds; a value in `acc` in cycle t is in `q` from cycle t + `cycles` on.

    `cycles` is the number of bits of the result: 1..4. One value a cycle; never stalls; no reset.
    A bipolar result is one bit, 1 for +1.

    Parameters: `kind`; `channels`, the channel of each table index; `acc_bits`; `site`; `guard`.

    Members: `acc`; `index`, the table index of the value that is in `acc` one cycle later; `q`;
    those of the guard.
    """

    def __init__(
        self,
        kind: Thresholds,
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
        bits = self.kind.out.bits
        self.group = group = UnitRegisters(m, self.site, self.guard)
        ranks = threshold_ranks(self.kind, self.channels, self.acc_bits)
        acc: Value = self.acc
        found: Value = Cat()
        indices = self._indices(m, index_ranks(ranks))
        threshold = self._threshold(m, 0, ranks[0], self.index)
        # Cycle 1..: compare, keep the bit, and choose the next rank's threshold by it.
        for number in range(1, bits + 1):
            bit = Signal(name=f"bit_{number}")
            m.d.comb += bit.eq(acc >= threshold)
            counted = Cat(bit, found)
            if number == bits:
                break
            rank = ranks[number]
            key = Cat(found, indices[number]) if rank.by_index else found
            threshold = self._threshold(m, number, rank, key, bit)
            later = group.at(number, signed(self.acc_bits), f"acc_{number}")
            found = group.at(number, number, f"found_{number}")
            group.set(later, acc)
            group.set(found, counted)
            acc = later
        # A signed type starts at -2^(bits - 1): the top bit is the other way round.
        offset = 1 << (bits - 1) if self.kind.out.signed and not self.kind.out.bipolar else 0
        result = group.result(bits, bits, "result")
        group.set(result, counted ^ offset)
        m.d.comb += self.q.eq(result)
        if self.guard.stream != "none":
            m.d.comb += self.code.eq(group.code(bits, (counted ^ offset)[:bits]))
        broken = group.broken(bits + 1)
        if self.guard.compared:
            m.d.comb += self.broken.eq(broken)
        return m

    def _indices(self, m: Module, count: int) -> list[Value]:
        """The table index in the cycle before `acc`, and in the `count` cycles from then on."""
        indices: list[Value] = [self.index]
        for number in range(count):
            late = self.group.take(number, len(self.index), f"index_{number}", indices[-1])
            indices.append(late)
        return indices

    def _threshold(
        self, m: Module, number: int, rank: Rank, key: Value, bit: Value | None = None
    ) -> Value | int:
        """A rank's threshold, looked up for both values of `bit` while that is being decided."""
        if rank.constant is not None:
            return rank.constant
        tables = [rank.table.ravel().tolist()] if bit is None else [rank.after(0), rank.after(1)]
        looked_up = [
            rom(m, values, key, signed(rank.bits), f"threshold_{number}_{choice}")
            for choice, values in enumerate(tables)
        ]
        chosen = looked_up[0] if bit is None else Mux(bit, *reversed(looked_up))
        return self.group.take(number, signed(rank.bits), f"threshold_{number}", chosen)
