"""Output FIFO of a layer; optionally a group's beats stay hidden until a check has passed."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .code_words import code_bits
from .codes import MARKS, check_marks, protect_marks
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
    wait; 0: no commit), `lag`, the `site` of the registers, how `control` is protected, `rewinds`,
    the `code` of the elements: the marks in the memory have one too, and a wrong one is an alarm.

    Members: `write`, `beat`, `commit`, `bad`, `end` (this beat ends its group), `o`, `empty`,
    `alarm` (a pointer was upset); with `rewinds` also `rewind`: what is not committed is dropped,
    `lag` cycles after the last write or later.
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
        rewinds: bool = False,
        code: str = "none",
    ) -> None:
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two, not {depth}")
        self.lanes, self.lane_bits, self.depth, self.groups = lanes, lane_bits, depth, groups
        self.site, self.lag, self.control = site, lag, control
        self.rewinds, self.code = rewinds, code
        size = code_bits(code, lane_bits)
        members: dict[str, Any] = {
            "write": In(1),
            "beat": In(beat_layout(lanes, lane_bits, size)),
            "o": Out(beat_stream(lanes, lane_bits, size)),
            "empty": Out(1),
            "alarm": Out(1),
        }
        if groups:
            members |= {"commit": In(1), "bad": In(1), "end": In(1)}
        if rewinds:
            members["rewind"] = In(1)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = clog2(self.depth) + 1
        group = ControlGroup(m, self.site, self.control)
        head, tail = group.register(bits, "head"), group.register(bits, "tail")
        plain = Cat(self.beat, self.end) if self.groups else Cat(self.beat)
        marks = MARKS + (self.groups > 0)
        word = protect_marks(m, self.code, plain, marks)
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
        beat, wrong = check_marks(m, self.code, read.data, len(plain), marks)
        m.d.comb += Cat(out).eq(beat[: len(self.beat.as_value())])
        if self.code != "none":
            wrong = wrong & self.o.valid
        if self.groups:
            self.show(m, group, head, tail, pop, beat)
        else:
            m.d.comb += self.o.valid.eq(~self.empty)
        m.d.comb += self.alarm.eq(self._alarm(group, wrong))
        return m

    def show(
        self, m: Module, group: ControlGroup, head: Value, tail: Value, pop: Value, word: Value
    ) -> None:
        """Beats up to the last group that is committed; its verdict with each `word`."""
        visible = group.register(len(tail), "visible")
        written = self._written(m, group, tail)
        with m.If(self.commit):
            group.set(visible, written)
        if self.rewinds:
            with m.If(self.rewind):
                group.set(tail, visible)
        m.d.comb += self.o.valid.eq(head != visible)
        self._verdicts(m, group, pop & word[-1], word)

    def _alarm(self, group: ControlGroup, wrong: Value) -> Value:
        """A pointer was upset, or the marks of the beat that stands at `o`."""
        alarm = group.finish()
        return alarm if self.code == "none" else alarm | wrong

    def _written(self, m: Module, group: ControlGroup, tail: Value) -> Value:
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

    def _verdicts(self, m: Module, group: ControlGroup, next_group: Any, word: Value) -> None:
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
