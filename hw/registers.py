"""Registers in groups: bare, checked by parity or by a twin, or triplicated.

"parity": an odd parity bit is taken of each register's new value and compared in every cycle. Odd,
so that synthesis cannot merge the parity of a single bit with the bit. "dup": the group's registers
are held a second time, in a module of their own, and compared. Both see an upset in the cycle in
which it strikes. "tmr": every register is held three times and read through a voter, and the voted
value is reloaded in every cycle: a single upset is outvoted at once and gone a cycle later.

Source: concurrent parity checking of state registers, duplication with comparison, and
synchronisation voters in feedback loops (Johnson and Wirthlin, "Voter insertion algorithms", FPGA
2010).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .site import Site, is_reset
from .voter import Voter

__all__ = ["RegisterGroup", "Spoiled"]


@dataclass
class _Voted:
    """A triplicated register: the value to read, the next one, its role."""

    value: Signal
    after: Signal
    role: str


class RegisterGroup:
    """Registers of one module `m`; `mode` is "none", "parity", "dup" or "tmr".

    `register` gives the value to read. A register changes by `set`, inside the conditions of `m`
    that hold there, and keeps its value otherwise. `fault` tells whether registers were upset.
    `finish` ends the group. `name` prefixes the modules of replicas, twins and voters.
    """

    def __init__(self, m: Module, site: Site, mode: str, name: str) -> None:
        self.m, self.site, self.mode, self.name = m, site, mode, name
        self._parity: dict[str, Signal] = {}
        self._loads: dict[str, tuple[Signal, Signal, Signal]] = {}
        self._broken: dict[str, Value] = {}
        self._voted: dict[str, _Voted] = {}

    def register(self, shape: Any, name: str, role: str, site: Site | None = None) -> Signal:
        """A register, 0 at first; of another `site` where one group serves several lanes."""
        if self.mode == "tmr":
            value = Signal(shape, name=name)
            after = Signal.like(value, name=f"{name}_next")
            self._voted[name] = _Voted(value, after, role)
            self.m.d.comb += after.eq(value)
            return value
        register = (site or self.site).register(shape, name, role)
        if self.mode == "parity":
            self._parity[name] = self.check(Cat(register), name, reset_less=not is_reset(role))
        if self.mode == "dup":
            new, load = Signal.like(register, name=f"{name}_new"), Signal(name=f"{name}_load")
            self._loads[name] = register, new, load
            self._broken[name] = Signal(name=f"{name}_broken")
        return register

    def set(self, register: Signal, value: Any) -> None:
        """Assign `value` for the next cycle."""
        value = Value.cast(value)
        if register.name in self._voted:
            self.m.d.comb += self._voted[register.name].after.eq(value)
            return
        self.m.d.sync += register.eq(value)
        if register.name in self._parity:
            fitted = _fitted(value, len(register))
            self.m.d.sync += self._parity[register.name].eq(~fitted.xor())
        if register.name in self._loads:
            _, new, load = self._loads[register.name]
            self.m.d.comb += [new.eq(value), load.eq(1)]

    def fault(self, *registers: Signal) -> Value:
        """Whether one of these registers changed by itself, and nothing outvotes it."""
        found = [self._broken[one.name] for one in registers if one.name in self._broken]
        return Cat(*found).any() if found else Const(0, 1)

    def check(self, bits: Value, name: str, *, reset_less: bool = False) -> Signal:
        """The parity bit of `bits`, compared with them in every cycle."""
        parity = self.site.register(
            1, f"parity_{name}", "checker", init=1, reset_less=reset_less or None
        )
        self._broken[name] = ~(parity ^ bits.xor())
        return parity

    def finish(self) -> Value:
        """Add twins, replicas and voter behind the last register.

        Gives the alarm: one when a register changed by itself and nothing outvoted it.
        """
        if self._loads:
            self._compare()
        if self._voted:
            self._vote()
        return Cat(*self._broken.values()).any() if self._broken else Const(0, 1)

    def _compare(self) -> None:
        m, found = self.m, list(self._loads.values())
        twin = _Twin([register for register, _, _ in found], self.site)
        m.submodules[f"{self.name}_twin"] = twin
        m.d.comb += [
            twin.d.eq(Cat(*(new for _, new, _ in found))),
            twin.load.eq(Cat(*(load for _, _, load in found))),
        ]
        at = 0
        for register, _, _ in found:
            broken = self._broken[register.name]
            held = twin.q[at : at + len(register)]
            m.d.comb += broken.eq(Cat(register) != held)
            at += len(register)

    def _vote(self) -> None:
        """Three replicas of all registers, each in a module of its own, and their voter."""
        m, registers = self.m, list(self._voted.values())
        given = Cat(*(one.value for one in registers))
        after = Cat(*(one.after for one in registers))
        m.submodules[f"{self.name}_voter"] = voter = Voter(len(given))
        for index, port in enumerate((voter.a, voter.b, voter.c)):
            replica = _Replica(registers, self.site, index)
            m.submodules[f"{self.name}_r{index}"] = replica
            m.d.comb += [replica.d.eq(after), port.eq(replica.q)]
        m.d.comb += given.eq(voter.y)


class Spoiled:
    """Which ranks of a pipeline hold something that a check found wrong.

    Parameters: `m`, the number of `ranks`; with `active` false nothing is ever marked and no logic
    is added. `add` collects findings, `mark` puts them on the marks that travel beside the data,
    `close` ends the collection.
    """

    def __init__(self, m: Module, ranks: int, *, active: bool) -> None:
        self.m, self.active = m, active
        self.at = [Signal(name=f"spoiled_{rank}") for rank in range(ranks)] if active else []
        self._found: list[list[Value]] = [[] for _ in range(ranks)]

    def add(self, rank: int, wrong: Value) -> None:
        """What rank `rank` holds is wrong."""
        self._found[rank].append(wrong)

    def mark(
        self, marks: dict[str, Value], parity: Value | None, rank: int
    ) -> tuple[dict[str, Value], Value | None]:
        """The marks beside rank `rank`, and their parity where they are as they were."""
        if not self.active:
            return marks, parity
        return {**marks, "err": marks["err"] | self.at[rank]}, None

    def close(self) -> None:
        """No more findings."""
        for signal, found in zip(self.at, self._found, strict=False):
            self.m.d.comb += signal.eq(Cat(*found).any() if found else 0)


class _Twin(wiring.Component):
    """A second copy of a group's registers; a module that synthesis may not merge.

    Parameters: the `registers`, whose names and widths it takes, `site`. Members: `d`, their next
    values, the first lowest; `load`, which of them change; `q`, what it holds.
    """

    def __init__(self, registers: list[Signal], site: Site) -> None:
        self.registers, self.site = registers, site
        width = len(Cat(*registers))
        super().__init__({"d": In(width), "load": In(len(registers)), "q": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        at = 0
        for index, register in enumerate(self.registers):
            held = self.site.register(
                len(register), f"twin_{register.name}", "checker",
                reset_less=register.reset_less or None,
            )  # fmt: skip
            part = slice(at, at + len(register))
            with m.If(self.load[index]):
                m.d.sync += held.eq(self.d[part])
            m.d.comb += self.q[part].eq(held)
            at += len(register)
        return m


class _Replica(wiring.Component):
    """One of three copies of a group's registers; a module that synthesis may not merge.

    Parameters: the `registers`, whose names, widths and roles it takes, `site`, `replica` 0..2.
    Members: `d`, all registers' next values, the first lowest; `q`, what they hold.
    """

    def __init__(self, registers: list[_Voted], site: Site, replica: int) -> None:
        width = sum(len(one.value) for one in registers)
        self.registers, self.site = registers, Site(site.layer, site.lane, replica)
        super().__init__({"d": In(width), "q": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Cat(
            *(
                self.site.register(len(one.value), one.value.name, one.role)
                for one in self.registers
            )
        )
        m.d.sync += held.eq(self.d)
        m.d.comb += self.q.eq(held)
        return m


def _fitted(value: Value, width: int) -> Value:
    """The bits that a register of `width` bits takes of `value`."""
    if value.shape().signed and len(value) < width:
        return Cat(value, value[-1].replicate(width - len(value)))
    return value[:width]
