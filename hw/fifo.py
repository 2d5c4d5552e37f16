"""Output FIFO of a layer; optionally a group's beats stay hidden until a check has passed."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .config import clog2
from .control import ControlGroup
from .site import Site
from .stream import beat_layout, beat_stream

__all__ = ["OutputFifo"]


class OutputFifo(wiring.Component):
    """First in, first out, `depth` beats; a beat written in cycle t is at `o` from t + 1.

    With `groups` the beats of a group appear after `commit`, `lag` cycles after its last one was
    written (0: in the same cycle), and `bad` becomes their `err`. The writer never overruns: it
    counts credits. Fill is the distance of two pointers, so that an upset pointer heals once they
    meet.

    Parameters: `lanes`, `lane_bits`, `depth` (a power of two), `groups` (committed groups that may
    wait; 0: no commit), `lag`, the `site` of the registers, how `control` is protected.

    Members: `write`, `beat`, `commit`, `bad`, `end` (this beat ends its group), `o`, `empty`,
    `alarm` (a pointer was upset).
    Raises ValueError when `depth` is no power of two.
    """

    def __init__(
        self,
        lanes: int,
        lane_bits: int,
        depth: int,
        groups: int,
        site: Site,
        *,
        lag: int = 0,
        control: str = "none",
    ) -> None:
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two, not {depth}")
        self.lanes, self.lane_bits, self.depth, self.groups = lanes, lane_bits, depth, groups
        self.site, self.lag, self.control = site, lag, control
        members: dict[str, Any] = {
            "write": In(1),
            "beat": In(beat_layout(lanes, lane_bits)),
            "o": Out(beat_stream(lanes, lane_bits)),
            "empty": Out(1),
            "alarm": Out(1),
        }
        if groups:
            members |= {"commit": In(1), "bad": In(1), "end": In(1)}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = clog2(self.depth) + 1
        group = ControlGroup(m, self.site, self.control)
        head, tail = group.register(bits, "head"), group.register(bits, "tail")
        word = Cat(self.beat, self.end) if self.groups else Cat(self.beat)
        store = memory.Memory(shape=unsigned(len(word)), depth=self.depth, init=[])
        m.submodules.store = store
        write, read = store.write_port(), store.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(tail),
            write.data.eq(word),
            write.en.eq(self.write),
            read.addr.eq(head),
            self.empty.eq(head == tail),
        ]
        with m.If(self.write):
            group.set(tail, tail + 1)
        pop = Signal()
        m.d.comb += pop.eq(self.o.valid & self.o.ready)
        with m.If(pop):
            group.set(head, head + 1)
        out = self.o.payload
        m.d.comb += Cat(out).eq(read.data[: len(self.beat.as_value())])
        if not self.groups:
            m.d.comb += [self.o.valid.eq(~self.empty), self.alarm.eq(group.finish())]
            return m
        visible = group.register(bits, "visible")
        written = self._written(m, group, tail)
        with m.If(self.commit):
            group.set(visible, written)
        m.d.comb += self.o.valid.eq(head != visible)
        self._verdicts(m, group, pop & read.data[-1], read.data)
        m.d.comb += self.alarm.eq(group.finish())
        return m

    def _written(self, m: Module, group: ControlGroup, tail: Signal) -> Value:
        """The tail behind the group that is committed: what was written after it stays hidden."""
        if self.lag == 0:
            return tail + self.write
        written: Value = tail
        recent: Value = self.write
        for rank in range(1, self.lag):
            late = group.register(1, f"write_{rank}")
            group.set(late, recent)
            written, recent = written - late, late
        return written[: len(tail)]

    def _verdicts(self, m: Module, group: ControlGroup, next_group: Any, word: Signal) -> None:
        """One verdict for each committed group, in order of commit."""
        slots = 1 << clog2(self.groups)
        flags = self.site.register(slots, "verdicts", "checker")
        put = group.register(clog2(slots), "verdict_put")
        get = group.register(clog2(slots), "verdict_get")
        with m.If(self.commit):
            group.set(put, put + 1)
            m.d.sync += flags.bit_select(put, 1).eq(self.bad)
        with m.If(next_group):
            group.set(get, get + 1)
        err = self.o.payload.err
        m.d.comb += err.eq(word[len(self.beat.as_value()) - 1] | flags.bit_select(get, 1))
