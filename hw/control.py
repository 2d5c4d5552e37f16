"""Control registers: named, reset, and either bare, checked by parity or triplicated.

Datapath errors rarely matter and are seen by the checksum; a flipped counter or pointer is neither.

"parity": a parity bit is taken of each register's new value and compared in every cycle: any single
upset shows in the cycle in which it strikes, before what it breaks can leave the layer (a beat on
its way out is flagged in the same cycle). Parity is odd, so that synthesis cannot merge the parity
of a single bit with the bit.

"tmr": every register is held three times and read through a voter, and the voted value is reloaded
in every cycle, stalled or not: a single upset is outvoted at once and gone a cycle later.

Source: concurrent parity checking of state registers, and synchronisation voters in feedback loops
(Johnson and Wirthlin, "Voter insertion algorithms", FPGA 2010); the use beside a checksum is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .site import Site
from .voter import Voter

__all__ = ["ControlGroup", "hold_alarm"]

ALARM_FRAMES = 3
"""Frames that one alarm flags: the one that leaves, the one that is read, the one that arrives."""


class ControlGroup:
    """The control registers of one module `m`; `control` is "none", "parity" or "tmr".

    `register` gives the value to read. A register changes by `set`, inside the conditions of `m`
    that hold there, and keeps its value otherwise. `finish` ends the group.
    """

    def __init__(self, m: Module, site: Site, control: str) -> None:
        self.m, self.site, self.control = m, site, control
        self._parity: dict[str, Signal] = {}
        self._broken: list[Value] = []
        self._voted: dict[str, tuple[Signal, Signal]] = {}

    def register(self, shape: Any, name: str) -> Signal:
        """A control register, 0 after reset."""
        if self.control == "tmr":
            value = Signal(shape, name=name)
            self._voted[name] = value, Signal.like(value, name=f"{name}_next")
            self.m.d.comb += self._voted[name][1].eq(value)
            return value
        register = self.site.register(shape, name, "control")
        if self.control == "parity":
            self._parity[name] = self._check(Cat(register), name)
        return register

    def set(self, register: Signal, value: Any) -> None:
        """Assign `value`, as long as the register, for the next cycle."""
        value = Value.cast(value)
        if self.control == "tmr":
            self.m.d.comb += self._voted[register.name][1].eq(value)
            return
        self.m.d.sync += register.eq(value)
        if self.control == "parity":
            new = value[: len(register)]
            if value.shape().signed and len(value) < len(register):
                raise TypeError(f"{register.name}: a negative value may not be extended")
            self.m.d.sync += self._parity[register.name].eq(~new.xor())

    def pipe(
        self, marks: Mapping[str, Value], rank: str, parity: Value | None = None
    ) -> tuple[dict[str, Value], Value]:
        """One-bit `marks` a cycle later, named <mark>_<rank>, and their common parity.

        `parity` of the marks is computed unless it came with them from the rank before.
        """
        later: dict[str, Value] = {}
        if self.control == "tmr":
            for name, mark in marks.items():
                stage = self.register(1, f"{name}_{rank}")
                self.set(stage, mark)
                later[name] = stage
            return later, Const(0, 1)
        for name, mark in marks.items():
            stage = self.site.register(1, f"{name}_{rank}", "control")
            self.m.d.sync += stage.eq(mark)
            later[name] = stage
        if self.control == "none":
            return later, Const(0, 1)
        held = self._check(Cat(*later.values()), rank)
        self.m.d.sync += held.eq(~Cat(*marks.values()).xor() if parity is None else parity)
        return later, held

    def finish(self) -> Value:
        """Add replicas and voter behind the last register.

        Gives the alarm: one when a register changed by itself and nothing outvoted it.
        """
        if self._voted:
            self._vote()
        return Cat(*self._broken).any() if self._broken else Const(0, 1)

    def _vote(self) -> None:
        """Three replicas of all registers, each in a module of its own, and their voter."""
        m, values = self.m, list(self._voted.values())
        given, after = Cat(*(value for value, _ in values)), Cat(*(new for _, new in values))
        m.submodules.control_voter = voter = Voter(len(given))
        for index, port in enumerate((voter.a, voter.b, voter.c)):
            replica = _Replica([value for value, _ in values], self.site, index)
            m.submodules[f"control_r{index}"] = replica
            m.d.comb += [replica.d.eq(after), port.eq(replica.q)]
        m.d.comb += given.eq(voter.y)

    def _check(self, bits: Value, name: str) -> Signal:
        """The parity bit of `bits`, compared with them in every cycle."""
        parity = self.site.register(1, f"parity_{name}", "checker", init=1)
        self._broken.append(~(parity ^ bits.xor()))
        return parity


class _Replica(wiring.Component):
    """One of three copies of a group's registers; a module that synthesis may not merge.

    Parameters: the `values` whose names and widths the registers take, `site`, `replica` 0..2.
    Members: `d`, all registers' next values, the first lowest; `q`, what they hold.
    """

    def __init__(self, values: list[Signal], site: Site, replica: int) -> None:
        width = len(Cat(*values))
        self.values, self.site = values, Site(site.layer, site.lane, replica)
        super().__init__({"d": In(width), "q": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Cat(
            *(self.site.register(len(value), value.name, "control") for value in self.values)
        )
        m.d.sync += held.eq(self.d)
        m.d.comb += self.q.eq(held)
        return m


def hold_alarm(m: Module, site: Site, alarm: Value, frame_left: Value) -> Value:
    """`alarm`, and then the flag of every beat until `ALARM_FRAMES` frames have left."""
    frames = site.register(range(ALARM_FRAMES + 1), "alarm_frames", "checker")
    with m.If(alarm):
        m.d.sync += frames.eq(ALARM_FRAMES)
    with m.Elif(frame_left & (frames != 0)):
        m.d.sync += frames.eq(frames - 1)
    return alarm | frames.any()
