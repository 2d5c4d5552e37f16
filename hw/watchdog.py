"""Watchdog: every frame that goes into the network comes out of it, right or flagged.

It stands between the network and the output, and looks for three things: a beat that is not where
frames have it, a frame that nobody sent, and silence although a whole frame is inside. Then the
network is reset, the frames inside are completed with flagged beats, and what follows is right
again. So a hang, a lost and an inserted frame become detected errors, and no upset shifts the
frames behind it for ever.
Source: watchdog timers and control-flow checking by known sequence, folklore.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import clog2
from .control import ControlGroup
from .site import Site
from .stream import beat_stream
from .watchdog_config import WATCHDOG, WatchdogConfig

__all__ = ["Watchdog"]


class Watchdog(wiring.Component):
    """Passes beats on in their own cycle; after a failure completes the frames itself.

    Its registers are in triple modular redundancy. While `drain` is set the network has to be held
    in reset, and input is swallowed up to the end of the frame that had begun.

    Parameters: `config`, `lanes` and `lane_bits` of the output.

    Members: `i`, from the network; `o`, the output. Of the network's input: `valid`, `ready`,
    `first`, `last`. `drain`; `take`: the input beat is swallowed.
    """

    def __init__(self, config: WatchdogConfig, lanes: int, lane_bits: int) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(beat_stream(lanes, lane_bits)),
                "o": Out(beat_stream(lanes, lane_bits)),
                "valid": In(1),
                "ready": In(1),
                "first": In(1),
                "last": In(1),
                "drain": Out(1),
                "take": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        group = ControlGroup(m, Site(WATCHDOG), "tmr")
        inside = group.register(config.frame_bits, "inside")
        partial = group.register(1, "partial")
        drain = group.register(1, "drain")
        beat = group.register(clog2(config.beats), "beat")
        begins, ends, whole = Signal(), Signal(), Signal()
        accept = self.valid & Mux(drain, self.take, self.ready)
        m.d.comb += [
            begins.eq(accept & self.first & ~drain),
            ends.eq(accept & self.last),
            whole.eq(inside > partial),
            self.drain.eq(drain),
            self.take.eq(drain & partial),
        ]
        with m.If(accept):
            group.set(partial, ~self.last)
        first, last, left, frame_left = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            first.eq(beat == 0),
            last.eq(beat == config.beats - 1),
            left.eq(self.o.valid & self.o.ready),
            frame_left.eq(left & last),
        ]
        with m.If(left):
            group.set(beat, Mux(last, 0, beat + 1))
        group.set(inside, (inside + begins - frame_left)[: config.frame_bits])
        astray = Signal()
        marks = self.i.payload
        m.d.comb += [
            astray.eq(
                self.i.valid & ((marks.first != first) | (marks.last != last) | (inside == 0))
            ),
            self.o.valid.eq(Mux(drain, whole, self.i.valid & ~astray)),
            self.i.ready.eq(~drain & self.o.ready & ~astray),
            self.o.payload.data.eq(marks.data),
            self.o.payload.first.eq(first),
            self.o.payload.last.eq(last),
            self.o.payload.err.eq(drain | marks.err),
        ]
        lost = astray | self._silent(m, group, whole, left, accept, partial, drain)
        if config.on_error:
            lost = lost | (left & marks.err)
        with m.If(drain):
            group.set(drain, Cat(inside, partial).any())
        with m.Elif(lost):
            group.set(drain, 1)
        group.finish()
        return m

    def _silent(
        self,
        m: Module,
        group: ControlGroup,
        whole: Signal,
        left: Signal,
        accept: Signal,
        partial: Signal,
        drain: Signal,
    ) -> Signal:
        """No beat for `limit` cycles, though a frame is inside and the output takes it.

        A frame whose end is still outside is waited for only while the network refuses it.
        """
        timer = group.register(clog2(self.config.limit + 1), "timer")
        waits = whole | (partial & self.valid & ~self.ready)
        blocked = self.o.valid & ~self.o.ready
        with m.If(drain | left | (accept & ~whole)):
            group.set(timer, 0)
        with m.Elif(waits & ~blocked):
            group.set(timer, timer + 1)
        silent = Signal()
        m.d.comb += silent.eq(timer == self.config.limit)
        return silent
