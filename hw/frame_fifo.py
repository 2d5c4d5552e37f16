"""Output FIFO in which a frame's last group waits for the frame's verdict."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Value

from .control import ControlGroup
from .fifo import OutputFifo
from .site import Site

__all__ = ["FrameFifo"]


class FrameFifo(OutputFifo):
    """As `OutputFifo`, but only a frame's last group stays hidden, with all that comes after it.

    Here `end` marks each beat of a frame's last group and `commit` is a level: no check is under
    way. While one is, the group is hidden from its first beat on; `bad` is the last verdict and
    becomes the group's `err`. At most a frame fits in, so that verdicts cannot be confused.

    Parameters: as for `OutputFifo`, but neither `groups` nor `lag`.
    """

    def __init__(self, lanes: int, lane_bits: int, depth: int, site: Site, **options: Any) -> None:
        super().__init__(lanes, lane_bits, depth, 1, site, **options)

    def show(
        self, m: Module, group: ControlGroup, head: Value, tail: Value, pop: Value, word: Value
    ) -> None:
        """Beats up to the tail, or up to the group that waits."""
        hold = group.register(len(tail), "hold")
        waits = group.register(1, "waits")
        with m.If(self.write & self.end & ~waits):
            group.set(hold, tail)
            group.set(waits, 1)
        with m.Elif(self.commit):
            group.set(waits, 0)
        marked = len(self.beat.as_value())
        m.d.comb += [
            self.o.valid.eq(head != Mux(waits & ~self.commit, hold, tail)),
            self.o.payload.err.eq(word[marked - 1] | (word[marked] & self.bad)),
        ]
