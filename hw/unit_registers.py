"""Registers behind the accumulators: what a requantiser, a threshold unit or a clamp is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib.wiring import Out

from .code_words import code_bits
from .codes import encode
from .registers import RegisterGroup, Spoiled
from .site import Site

__all__ = ["BARE", "UnitGuard", "UnitRegisters", "collect"]


@dataclass(frozen=True)
class UnitGuard:
    """What protects a unit: its registers by `post`, its result on the way by the code `stream`."""

    post: str = "none"
    stream: str = "none"

    @property
    def compared(self) -> bool:
        """Whether registers are compared with what they took."""
        return self.post in ("parity", "dup")

    def members(self, bits: int, ranks: int) -> dict[str, Any]:
        """Members of a unit with a result of `bits` bits: `broken`, a bit for each of its `ranks`
        whose registers were upset, and `code`, that of the result."""
        found: dict[str, Any] = {}
        if self.compared:
            found["broken"] = Out(ranks)
        if self.stream != "none":
            found["code"] = Out(code_bits(self.stream, bits))
        return found


BARE = UnitGuard()


def collect(unit: Any, spoiled: Spoiled, codes: list[Value]) -> None:
    """What a unit's guard has: the ranks that were upset, and the code of its result."""
    if unit.guard.compared:
        for rank in range(len(unit.broken)):
            spoiled.add(rank, unit.broken[rank])
    if unit.guard.stream != "none":
        codes.append(unit.code)


class UnitRegisters(RegisterGroup):
    """A unit's registers by the rank that reads them: rank r, r cycles after its input.

    A result that leaves with a code is compared by its reader, and not here as well.
    """

    def __init__(self, m: Module, site: Site, guard: UnitGuard, role: str = "requant") -> None:
        super().__init__(m, site, guard.post, "post")
        self.guard, self.role = guard, role
        self._ranks: dict[int, list[Signal]] = {}

    def at(
        self, rank: int, shape: Any, name: str, site: Site | None = None, role: str = ""
    ) -> Signal:
        """A register that rank `rank` reads."""
        register = self.register(shape, name, role or self.role, site)
        self._ranks.setdefault(rank, []).append(register)
        return register

    def take(
        self,
        rank: int,
        shape: Any,
        name: str,
        value: Any,
        site: Site | None = None,
        role: str = "",
    ) -> Signal:
        """One that takes `value` in every cycle."""
        register = self.at(rank, shape, name, site, role)
        self.set(register, value)
        return register

    def result(self, rank: int, shape: Any, name: str) -> Signal:
        """The register of the result."""
        if self.guard.compared and self.guard.stream != "none":
            return self.site.register(shape, name, self.role)
        return self.at(rank, shape, name)

    def code(self, rank: int, value: Value) -> Signal:
        """The register of the result's code, made of what the result's register takes."""
        code = encode(self.m, self.guard.stream, value)
        register = self.result(rank, len(code), "code")
        self.set(register, code)
        return register

    def broken(self, ranks: int) -> Value:
        """End the group; for each rank, whether one of its registers changed by itself."""
        self.finish()
        return Cat(*(self.fault(*self._ranks.get(rank, [])) for rank in range(ranks)))
