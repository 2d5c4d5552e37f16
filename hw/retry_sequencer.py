"""The sequencer of a layer that computes groups again (`hw.retry`)."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from .config import Turn, clog2
from .control import ControlGroup
from .fifo import OutputFifo
from .linear_config import LinearConfig
from .sequencer import Sequencer

__all__ = ["RetrySequencer"]


class RetrySequencer(Sequencer):
    """Issues logged groups while there are any to `replay`, and new ones else; none during `stop`.

    A group that is broken off starts afresh: all that it leaves behind is its step count, which
    `stop` clears. Credits are taken with a group's last step, and kept while it is logged.

    Members beside `Sequencer`'s: `stop`, `rewind`, `replay`, `again_pass` and
    `again_base` of the group to issue again; `base`, the address of the group's first weights;
    `complete`, its last step is issued.
    """

    config: LinearConfig

    def more_members(self) -> dict[str, Any]:
        """What joins it to the log."""
        passes, steps = len(self.config.window.passes), self.config.window.steps
        address = clog2(steps * sum(self.config.leaving))
        return {
            "stop": In(1),
            "rewind": In(1),
            "replay": In(1),
            "again_pass": In(clog2(passes)),
            "again_base": In(address),
            "base": Out(address),
            "complete": Out(1),
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        steps, passes = config.window.steps, len(config.window.passes)
        group = ControlGroup(m, self.site, config.control)
        step = group.register(range(max(2, steps)), "step_count")
        pass_ = group.register(range(max(2, passes)), "pass_count")
        base = group.register(len(self.base), "base_count")
        used = group.register(range(config.fifo_beats + 1), "used")
        first, last, start, final = Signal(), Signal(), Signal(), Signal()
        go, new = Signal(), Signal()
        m.d.comb += [
            self.pass_.eq(Mux(self.replay, self.again_pass, pass_)),
            self.base.eq(Mux(self.replay, self.again_base, base)),
            first.eq(step == 0),
            last.eq(step == steps - 1),
            start.eq(self.pass_ == 0),
            final.eq(self.pass_ == passes - 1),
            go.eq(self.replay | (self.available & (used <= config.fifo_beats - config.beats))),
            self.issue.eq(~self.stop & (~first | go)),
            self.complete.eq(self.issue & last),
            new.eq(self.complete & ~self.replay),
            self.advance.eq(new & final),
            self.start.eq(first & start),
            self.step.eq(step),
            self.address.eq(self.base + step),
        ]
        with m.If(self.stop):
            group.set(step, 0)
        with m.Elif(self.issue):
            group.set(step, Mux(last, 0, step + 1))
        with m.If(new):
            group.set(base, Mux(final, 0, self._next_base(m, base, pass_)))
            group.set(pass_, Mux(final, 0, pass_ + 1))
        taken = Signal(range(config.beats + 1))
        taking: Value = new
        if self.kept:
            taking = taking & self._is(m, pass_, "leaves", Turn.PLAIN, Turn.VOTED)
        m.d.comb += taken.eq(Mux(taking, config.beats, 0))
        group.set(used, Mux(self.idle, 0, used - self.popped) + taken)
        self._marks(m, group, first, last, start, final)
        m.d.comb += self.alarm.eq(group.finish())
        return m

    def _next_base(self, m: Module, base: Signal, pass_: Signal) -> Value:
        """Where the weights of the next turn begin: a pass that is repeated has the same again."""
        following = base + self.config.window.steps
        if not self.kept:
            return following
        return Mux(self._is(m, pass_, "again", Turn.FIRST, Turn.SECOND), base, following)

    def resume(self, m: Module, group: ControlGroup, count: Signal) -> None:
        """After a rewind the next group is the logged one; it counts one up."""
        with m.If(self.rewind):
            group.set(count, self.again_pass - 1)

    def watch(self, m: Module, fifo: OutputFifo, under_way: list[Value]) -> None:
        """Nothing is under way when there is also nothing to issue again."""
        quiet = ~self.busy & ~Cat(*under_way).any() & fifo.empty
        m.d.comb += self.idle.eq(quiet & ~self.replay & ~self.stop)
