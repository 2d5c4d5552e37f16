"""Control registers: named, reset, and either bare, checked by parity or triplicated.

Datapath errors rarely matter and are seen by the checksum; a flipped counter or pointer is neither.

"parity" raises an alarm in the cycle in which an upset strikes, before what it breaks can leave the
layer (a beat on its way out is flagged in the same cycle); "tmr" outvotes it (`hw.registers`). The
use beside a checksum is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value

from .registers import RegisterGroup
from .site import Site

__all__ = ["ControlGroup", "hold_alarm"]

ALARM_FRAMES = 3
"""Frames that one alarm flags: the one that leaves, the one that is read, the one that arrives."""


class ControlGroup(RegisterGroup):
    """The control registers of one module `m`; `control` is "none", "parity" or "tmr".

    `register` gives the value to read. A register changes by `set`, inside the conditions of `m`
    that hold there, and keeps its value otherwise. `finish` ends the group.
    """

    def __init__(self, m: Module, site: Site, control: str) -> None:
        super().__init__(m, site, control, "control")

    def register(
        self, shape: Any, name: str, role: str = "control", site: Site | None = None
    ) -> Signal:
        """A control register, 0 after reset."""
        return super().register(shape, name, role, site)

    def set(self, register: Signal, value: Any) -> None:
        """Assign `value`, as long as the register, for the next cycle."""
        value = Value.cast(value)
        if self.mode == "parity" and value.shape().signed and len(value) < len(register):
            raise TypeError(f"{register.name}: a negative value may not be extended")
        super().set(register, value)

    def pipe(
        self, marks: Mapping[str, Value], rank: str, parity: Value | None = None
    ) -> tuple[dict[str, Value], Value]:
        """One-bit `marks` a cycle later, named <mark>_<rank>, and their common parity.

        `parity` of the marks is computed unless it came with them from the rank before.
        """
        later: dict[str, Value] = {}
        if self.mode == "tmr":
            for name, mark in marks.items():
                stage = self.register(1, f"{name}_{rank}")
                self.set(stage, mark)
                later[name] = stage
            return later, Const(0, 1)
        for name, mark in marks.items():
            stage = self.site.register(1, f"{name}_{rank}", "control")
            self.m.d.sync += stage.eq(mark)
            later[name] = stage
        if self.mode == "none":
            return later, Const(0, 1)
        held = self.check(Cat(*later.values()), rank)
        self.m.d.sync += held.eq(~Cat(*marks.values()).xor() if parity is None else parity)
        return later, held


def hold_alarm(m: Module, site: Site, alarm: Value, frame_left: Value) -> Value:
    """`alarm`, and then the flag of every beat until `ALARM_FRAMES` frames have left."""
    frames = site.register(range(ALARM_FRAMES + 1), "alarm_frames", "checker")
    with m.If(alarm):
        m.d.sync += frames.eq(ALARM_FRAMES)
    with m.Elif(frame_left & (frames != 0)):
        m.d.sync += frames.eq(frames - 1)
    return alarm | frames.any()
