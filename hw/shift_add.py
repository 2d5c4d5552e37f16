"""Layers unrolled into shared shift-adds: constant matrix times vector, a window a cycle."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..quant.ir import Requantize
from .cmvm import Adder
from .codes import check_word
from .linear import Linear
from .sequencer import Sequencer
from .shift_config import ShiftConfig
from .site import Site
from .stream import beat_stream
from .unit_registers import UnitGuard, UnitRegisters

__all__ = ["Clamp", "Direct", "ShiftAdd", "ShiftLinear"]


class ShiftAdd(wiring.Component):
    """sum[j] = bias[j] + sum over elements of w[j, i] x[i], by the additions of a graph.

    Elements that are in `act` in cycle t are summed in registers from cycle t + `config.ranks` on;
    sign and bias follow without a register. A new set every cycle, never stalls, no reset.
    Parameters: the layer's `config`, the `site` of the registers. Members: `act`, the elements, 0
    lowest; `sum_0`, `sum_1`, ... of `config.acc_bits` bits.
    """

    def __init__(self, config: ShiftConfig, site: Site) -> None:
        self.config, self.site = config, site
        members: dict[str, Any] = {"act": In(config.elements * config.act_bits)}
        for lane in range(config.pe):
            members[f"sum_{lane}"] = Out(signed(config.acc_bits))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, graph = self.config, self.config.graph
        held = {
            (d.node, d.rank): self.site.register(d.bits, f"node_{d.node}_{d.rank}", "product")
            for d in config.delays
        }
        values = self._inputs(m)

        def at(node: int, rank: int) -> Value:
            """The node as an operand in a rank: fresh, or from the register before the rank."""
            fresh = (
                rank <= max(1, config.rank(node))
                if node < graph.inputs
                else (rank == config.rank(node))
            )
            return values[node] if fresh else held[node, rank - 1]

        # Rank r: the nodes of this rank, from those of this one or from registers.
        for index, adder in enumerate(graph.adders, start=graph.inputs):
            rank = config.rank(index)
            a, b = at(adder.a, rank), at(adder.b, rank)
            node = Signal(graph.bits[index], name=f"node_{index}")
            m.d.comb += node.eq(_sum(a, b, adder, len(node)))
            values.append(node)
        for (index, rank), register in held.items():
            before = held.get((index, rank - 1))
            m.d.sync += register.eq(values[index] if before is None else before)
        sums = {node: self._last(m, node, at(node, config.ranks)) for node in config.summed}
        for lane, (out, bits) in enumerate(zip(graph.outputs, config.widths, strict=True)):
            total: Value = Const(int(config.bias[0, lane]) + out.constant, signed(64))
            if out.node is not None:
                value = sums[out.node].shift_left(out.shift)
                total = total - value if out.minus else total + value
            m.d.comb += getattr(self, f"sum_{lane}").eq(total[:bits].as_signed())
        return m

    def _last(self, m: Module, node: int, value: Value) -> Value:
        """The register behind the last rank."""
        bits = self.config.graph.bits[node]
        register = self.site.register(bits, f"acc_{node}", "accumulator")
        m.d.sync += register.eq(value)
        return register

    def _inputs(self, m: Module) -> list[Value]:
        """The elements as unsigned numbers: the sign bit of a signed one is flipped."""
        config, graph, values = self.config, self.config.graph, []
        for i, offset in enumerate(graph.offsets):
            bits = graph.bits[i]
            element = self.act.word_select(i, config.act_bits)[:bits]
            node = Signal(bits, name=f"node_{i}")
            m.d.comb += node.eq(element ^ offset)
            values.append(node)
        return values


def _sum(a: Value, b: Value, adder: Adder, bits: int) -> Value:
    """The sum of an adder, to `bits` bits: what lies below the shift is a's.

    2^n - b with ones above b's n bits is one subtraction, which needs no inverters before it.
    """
    shift = adder.shift
    low, high = a[:shift], a[shift:]
    gap = Const(0, max(0, shift - len(a)))
    if adder.minus:
        ones = max(0, bits - shift - len(b))
        return Cat(
            low,
            gap,
            (high - Cat(b, Const(-1, signed(ones)) if ones else Const(0, 0)))[: bits - shift],
        )
    if len(a) <= shift:
        return Cat(low, gap, b)
    return Cat(low, high + b)


class Clamp(wiring.Component):
    """q = clamp((acc >> s) + zp, lo, hi), a cycle later; the rounding term is in `acc`.

    Parameters: `kind` (every multiplier 1, one shift, no bound), `acc_bits`, `site`, `guard`.
    Members: `acc`, `q`, and `index`, which nothing depends on; those of the guard.
    """

    def __init__(self, kind: Requantize, acc_bits: int, site: Site, guard: UnitGuard) -> None:
        self.kind, self.site, self.guard = kind, site, guard
        members = guard.members(kind.out.bits, 2)
        super().__init__(
            {"acc": In(signed(acc_bits)), "index": In(1), "q": Out(kind.out.bits), **members}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        kind = self.kind
        low, high = kind.limits
        value = self.acc.shift_right(int(kind.shift[0])) + kind.out.zero_point
        group = UnitRegisters(m, self.site, self.guard)
        clamped = Mux(value < low, low, Mux(value > high, high, value))
        q = group.result(1, kind.out.bits, "result")
        group.set(q, clamped)
        m.d.comb += self.q.eq(q)
        if self.guard.stream != "none":
            m.d.comb += self.code.eq(group.code(1, clamped[: kind.out.bits]))
        broken = group.broken(2)
        if self.guard.compared:
            m.d.comb += self.broken.eq(broken)
        return m


class Direct(wiring.Component):
    """In place of a window buffer where each word is a frame: the word goes straight through.

    A word is accepted when its only step is issued. It has the members of `hw.window.WindowBuffer`
    that matter: `i`, `available`, `advance`, `first_window`, `last_window`, `err`, `alarm`, `act`;
    `read`, `step` and `pass_` change nothing. There is no state to be upset. The word's code is
    checked here.
    """

    def __init__(self, config: ShiftConfig) -> None:
        self.window = window = config.window
        self.code = config.in_code(0)
        super().__init__(
            {
                "i": In(beat_stream(window.word, window.lane_bits, window.code_bits)),
                "available": Out(1),
                "step": In(1),
                "pass_": In(1),
                "read": In(1),
                "advance": In(1),
                "first_window": Out(1, init=1),
                "last_window": Out(1, init=1),
                "err": Out(1),
                "alarm": Out(1),
                "act": Out(window.elements * window.lane_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word: Value = self.i.payload.data
        err: Value = self.i.payload.err
        if self.code != "none":
            code = self.i.payload.code
            word, wrong = check_word(m, self.code, word, code, self.window.lane_bits)
            err = err | wrong
        if self.window.used:
            bits = self.window.lane_bits
            word = Cat(word.word_select(i, bits) for i in self.window.kept[0])
        m.d.comb += [
            self.available.eq(self.i.valid),
            self.i.ready.eq(self.advance),
            self.err.eq(err),
            self.act.eq(word),
        ]
        return m


class ShiftLinear(Linear):
    """A convolution or dense layer that computes a whole window in every cycle.

    Parameters, members and marks as for `hw.linear.Linear`.
    """

    config: ShiftConfig

    def _buffer(self) -> Any:
        return Direct(self.config) if self.config.direct else super()._buffer()

    def _lanes(self, m: Module, window: Any, control: Sequencer) -> list[Value]:
        """The sums of all neurons."""
        m.submodules.shift_add = unit = ShiftAdd(self.config, self.site)
        m.d.comb += unit.act.eq(self.act)
        return [getattr(unit, f"sum_{lane}") for lane in range(self.config.pe)]

    def _requantizer(self, lane: int) -> Any:
        kind = self.config.requantize
        if not self.config.clamps:
            return super()._requantizer(lane)
        assert isinstance(kind, Requantize)
        return Clamp(kind, self.config.acc_bits, Site(self.config.name, lane), self.guard)
