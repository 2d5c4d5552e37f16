"""FIFO in front of a join: holds a stream back while the other operand is still computed."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .code_words import code_bits
from .codes import check_marks, protect_marks
from .config import clog2
from .control import ControlGroup, hold_alarm
from .site import Site
from .stream import beat_stream

__all__ = ["SkipFifo"]


class SkipFifo(wiring.Component):
    """First in, first out; at most `depth` beats are inside, the one at `o` among them.

    A beat that is accepted in cycle t is at `o` from t + 2, or from the cycle after its predecessor
    left; room that a beat leaves in t is there in t + 1. The memory is read into a register, so
    that it may be a block RAM. The beats inside are counted by two pointers and a valid bit.

    Parameters: `lanes`, `lane_bits`, `depth`, the `site` of the registers, `control` as in
    `hw.control`, `code`, that of the elements (`hw.code_words`): the marks in the memory have one
    too, and a wrong one raises an alarm.
    Members: `i`, `o`. Raises ValueError for a depth below 1.
    """

    def __init__(
        self,
        lanes: int,
        lane_bits: int,
        depth: int,
        site: Site,
        *,
        control: str = "none",
        code: str = "none",
    ) -> None:
        if depth < 1:
            raise ValueError(f"depth must be >= 1, not {depth}")
        self.depth, self.site, self.control, self.code = depth, site, control, code
        signature = beat_stream(lanes, lane_bits, code_bits(code, lane_bits))
        super().__init__({"i": In(signature), "o": Out(signature)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        site, words = self.site, 1 << clog2(self.depth)
        bits = clog2(words) + 1
        group = ControlGroup(m, site, self.control)
        head, tail = group.register(bits, "head"), group.register(bits, "tail")
        full = group.register(1, "full")
        word: Any = protect_marks(m, self.code, Cat(self.i.payload))
        store = memory.Memory(shape=unsigned(len(word)), depth=words, init=[])
        m.submodules.store = store
        write, read = store.write_port(), store.read_port(domain="comb")
        stored = Signal(bits)
        accept, fetch, pop = Signal(), Signal(), Signal()
        m.d.comb += [
            stored.eq(tail - head),
            self.i.ready.eq(stored + full < self.depth),
            accept.eq(self.i.valid & self.i.ready),
            pop.eq(full & self.o.ready),
            fetch.eq((stored != 0) & (~full | pop)),
            write.addr.eq(tail),
            write.data.eq(word),
            write.en.eq(accept),
            read.addr.eq(head),
            self.o.valid.eq(full),
        ]
        with m.If(accept):
            group.set(tail, tail + 1)
        held = site.register(len(word), "held", "activation")
        with m.If(fetch):
            m.d.sync += held.eq(read.data)
            group.set(head, head + 1)
        with m.If(fetch | pop):
            group.set(full, fetch)
        beat, wrong = check_marks(m, self.code, held, len(Cat(self.i.payload)))
        m.d.comb += Cat(self.o.payload).eq(beat)
        alarm = group.finish()
        if self.control == "parity" or self.code != "none":
            left = pop & self.o.payload.last
            alarm = alarm if self.code == "none" else alarm | (full & wrong)
            flag = hold_alarm(m, site, alarm, left)
            m.d.comb += self.o.payload.err.eq(beat[-1] | flag)
        return m
