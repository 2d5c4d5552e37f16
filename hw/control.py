"""Control registers: named, reset, and checked by parity that is taken before the registers.

Datapath errors rarely matter and are seen by the checksum; a flipped counter or pointer is neither.
A checked group keeps the parity of each register's new value beside it and compares in every cycle:
any single upset shows in the cycle in which it strikes, before what it breaks can leave the layer
(a beat on its way out is flagged in the same cycle). Parity is odd, so that synthesis cannot merge
the parity of a single bit with the bit.
Source: concurrent parity checking of state registers, folklore; the use beside a checksum is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value

from .site import Site

__all__ = ["ControlGroup", "hold_alarm"]

ALARM_FRAMES = 3
"""Frames that one alarm flags: the one that leaves, the one that is read, the one that arrives."""


class ControlGroup:
    """The control registers of one module `m`; `checked` adds a parity bit to each.

    A register changes by `m.d.sync += group.set(register, value)` and keeps its value otherwise.
    """

    def __init__(self, m: Module, site: Site, checked: bool) -> None:
        self.m, self.site, self.checked = m, site, checked
        self._parity: dict[str, Signal] = {}
        self._broken: list[Value] = []

    def register(self, shape: Any, name: str) -> Signal:
        """A control register, 0 after reset."""
        register = self.site.register(shape, name, "control")
        if self.checked:
            self._parity[name] = self._check(Cat(register), name)
        return register

    def set(self, register: Signal, value: Any) -> list[Any]:
        """The assignment of `value`, as long as the register, and of its parity."""
        value = Value.cast(value)
        statements = [register.eq(value)]
        if self.checked:
            new = value[: len(register)]
            if value.shape().signed and len(value) < len(register):
                raise TypeError(f"{register.name}: a negative value may not be extended")
            statements.append(self._parity[register.name].eq(~new.xor()))
        return statements

    def pipe(
        self, marks: Mapping[str, Value], rank: str, parity: Value | None = None
    ) -> tuple[dict[str, Value], Value]:
        """One-bit `marks` a cycle later, named <mark>_<rank>, and their common parity.

        `parity` of the marks is computed unless it came with them from the rank before.
        """
        later: dict[str, Value] = {}
        for name, mark in marks.items():
            stage = self.site.register(1, f"{name}_{rank}", "control")
            self.m.d.sync += stage.eq(mark)
            later[name] = stage
        if not self.checked:
            return later, Const(0, 1)
        held = self._check(Cat(*later.values()), rank)
        self.m.d.sync += held.eq(~Cat(*marks.values()).xor() if parity is None else parity)
        return later, held

    def alarm(self) -> Value:
        """One when a register changed by itself; call it after the last register."""
        return Cat(*self._broken).any() if self._broken else Const(0, 1)

    def _check(self, bits: Value, name: str) -> Signal:
        """The parity bit of `bits`, compared with them in every cycle."""
        parity = self.site.register(1, f"parity_{name}", "checker", init=1)
        self._broken.append(~(parity ^ bits.xor()))
        return parity


def hold_alarm(m: Module, site: Site, alarm: Value, frame_left: Value) -> Value:
    """`alarm`, and then the flag of every beat until `ALARM_FRAMES` frames have left."""
    frames = site.register(range(ALARM_FRAMES + 1), "alarm_frames", "checker")
    with m.If(alarm):
        m.d.sync += frames.eq(ALARM_FRAMES)
    with m.Elif(frame_left & (frames != 0)):
        m.d.sync += frames.eq(frames - 1)
    return alarm | frames.any()
