"""Control registers: named, reset, and checked by a parity bit that is taken before the registers.

Upsets of the datapath rarely matter and the checksum sees them; those of a counter or a pointer do
matter and it does not.
`ControlGroup` keeps the parity of its registers' next values in one flip-flop and compares it with
the parity of the registers in every cycle: any single upset shows in the cycle in which it strikes,
before what it breaks can leave the layer (a beat on its way out is flagged in the same cycle).
Source: concurrent parity checking of state registers, folklore; the use beside a checksum is ours.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from .site import Site

__all__ = ["ControlGroup", "hold_alarm"]

ALARM_FRAMES = 3
"""Frames that one alarm flags: the one that leaves, the one that is read, the one that arrives."""


class ControlGroup:
    """The control registers of one module `m`; `checked` adds the parity bit.

    A register is changed by assigning its next value in the comb domain, `next(register)`; it keeps
    its value otherwise. Registers are made outside of m.If.
    """

    def __init__(self, m: Module, site: Site, checked: bool) -> None:
        self.m, self.site, self.checked = m, site, checked
        self._registers: list[Signal] = []
        self._next: dict[str, Signal] = {}

    def register(self, shape: Any, name: str) -> Signal:
        """A control register, 0 after reset."""
        register = self.site.register(shape, name, "control")
        following = Signal.like(register, name=f"{name}_next", attrs={})
        self.m.d.comb += following.eq(register)
        self.m.d.sync += register.eq(following)
        self._registers.append(register)
        self._next[name] = following
        return register

    def next(self, register: Signal) -> Signal:
        """The value that `register` takes at the next edge; to be assigned."""
        return self._next[register.name]

    def alarm(self) -> Value:
        """One when a register changed by itself; call it after the last `register`."""
        if not self.checked or not self._registers:
            return Const(0, 1)
        parity = self.site.register(1, "control_parity", "checker")
        self.m.d.sync += parity.eq(Cat(*(self._next[r.name] for r in self._registers)).xor())
        return parity ^ Cat(*self._registers).xor()


def hold_alarm(m: Module, site: Site, alarm: Value, frame_left: Value) -> Value:
    """`alarm`, and then the flag of every beat until `ALARM_FRAMES` frames have left."""
    frames = site.register(range(ALARM_FRAMES + 1), "alarm_frames", "checker")
    with m.If(alarm):
        m.d.sync += frames.eq(ALARM_FRAMES)
    with m.Elif(frame_left & (frames != 0)):
        m.d.sync += frames.eq(frames - 1)
    return alarm | Mux(frames != 0, 1, 0)
