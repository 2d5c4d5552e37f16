"""Fork: one stream, several readers, each of which takes a beat when it can."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .control import ControlGroup, hold_alarm
from .site import Site
from .stream import beat_stream

__all__ = ["Fork"]


class Fork(wiring.Component):
    """Offers each beat to every reader once; it leaves when the last of them has taken it.

    No cycle of its own; `valid` depends on no `ready`. Members: `i`, `o_0`, `o_1`, ...

    Parameters: `lanes`, `lane_bits`, the number of `readers`, the `site`, `control` as in
    `hw.control`, `code_bits` of an element.
    Raises ValueError for fewer than two readers.
    """

    def __init__(
        self,
        lanes: int,
        lane_bits: int,
        readers: int,
        site: Site,
        *,
        control: str = "none",
        code_bits: int = 0,
    ) -> None:
        if readers < 2:
            raise ValueError(f"readers must be >= 2, not {readers}")
        self.readers, self.site, self.control = readers, site, control
        signature = beat_stream(lanes, lane_bits, code_bits)
        members: dict[str, Any] = {f"o_{i}": Out(signature) for i in range(readers)}
        super().__init__({"i": In(signature), **members})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        group = ControlGroup(m, self.site, self.control)
        taken = [group.register(1, f"taken_{i}") for i in range(self.readers)]
        outputs = [getattr(self, f"o_{i}") for i in range(self.readers)]
        served = [had | out.ready for had, out in zip(taken, outputs, strict=True)]
        leaves = self.i.valid & Cat(*served).all()
        m.d.comb += self.i.ready.eq(Cat(*served).all())
        for had, out, done in zip(taken, outputs, served, strict=True):
            m.d.comb += [out.valid.eq(self.i.valid & ~had), out.payload.eq(self.i.payload)]
            group.set(had, self.i.valid & done & ~leaves)
        alarm = group.finish()
        if self.control == "parity":
            flag = hold_alarm(m, self.site, alarm, leaves & self.i.payload.last)
            m.d.comb += [out.payload.err.eq(self.i.payload.err | flag) for out in outputs]
        return m
