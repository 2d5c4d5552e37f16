"""Width converters between layers: gather narrow beats into wide ones, or split wide ones."""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from .config import clog2
from .control import ControlGroup, hold_alarm
from .site import Site
from .stream import beat_stream

__all__ = ["Gather", "Split", "connect_streams", "converters"]


class Gather(wiring.Component):
    """Joins `ratio` beats of `lanes` elements into one; no cycle of its own.

    The last part passes through; the others wait in registers. A first beat of a frame restarts the
    count. `err` of any part flags the whole.

    Parameters: `lanes`, `lane_bits`, `ratio`, `code_bits`, `site`. Members: `i`, `o`.
    Raises ValueError for a ratio below 2.
    """

    def __init__(
        self,
        lanes: int,
        lane_bits: int,
        ratio: int,
        site: Site,
        *,
        control: str = "none",
        code_bits: int = 0,
    ) -> None:
        if ratio < 2:
            raise ValueError(f"ratio must be >= 2, not {ratio}")
        self.ratio, self.site, self.code_bits, self.control = ratio, site, code_bits, control
        super().__init__(
            {
                "i": In(beat_stream(lanes, lane_bits, code_bits)),
                "o": Out(beat_stream(lanes * ratio, lane_bits, code_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat, out, site = self.i.payload, self.o.payload, self.site
        group = ControlGroup(m, site, self.control)
        count = group.register(range(self.ratio), "count")
        first, err = group.register(1, "held_first"), group.register(1, "held_err")
        now, complete = Signal.like(count), Signal()
        m.d.comb += [
            now.eq(Mux(beat.first, 0, count)),
            complete.eq(now == self.ratio - 1),
            self.i.ready.eq(~complete | self.o.ready),
            self.o.valid.eq(self.i.valid & complete),
            out.first.eq(first),
            out.last.eq(beat.last),
            out.err.eq(err | beat.err),
        ]
        fields = ["data", "code"] if self.code_bits else ["data"]
        accept = self.i.valid & self.i.ready
        for field in fields:
            new = beat[field]
            held = site.register(len(new) * (self.ratio - 1), f"held_{field}", "fifo")
            with m.If(accept):
                m.d.sync += held.eq(Cat(held, new)[len(new) :])
            m.d.comb += out[field].eq(Cat(held, new))
        with m.If(accept):
            group.set(count, Mux(complete, 0, now + 1))
            group.set(first, Mux(now == 0, beat.first, first))
            group.set(err, Mux(complete, 0, Mux(now == 0, 0, err) | beat.err))
        alarm = group.finish()
        if self.control == "parity":
            left = self.o.valid & self.o.ready & out.last
            m.d.comb += out.err.eq(err | beat.err | hold_alarm(m, site, alarm, left))
        return m


class Split(wiring.Component):
    """Sends a beat of `lanes` elements as `ratio` narrower ones, lowest lanes first; no register.

    Parameters: `lanes` of the wide side, `lane_bits`, `ratio`, `code_bits`, `site`.
    Members: `i`, `o`. Raises ValueError when `ratio` does not divide `lanes`.
    """

    def __init__(
        self,
        lanes: int,
        lane_bits: int,
        ratio: int,
        site: Site,
        *,
        control: str = "none",
        code_bits: int = 0,
    ) -> None:
        if ratio < 2 or lanes % ratio:
            raise ValueError(f"ratio must be >= 2 and divide {lanes} lanes, not {ratio}")
        self.ratio, self.site, self.code_bits, self.control = ratio, site, code_bits, control
        super().__init__(
            {
                "i": In(beat_stream(lanes, lane_bits, code_bits)),
                "o": Out(beat_stream(lanes // ratio, lane_bits, code_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat, out = self.i.payload, self.o.payload
        group = ControlGroup(m, self.site, self.control)
        index = group.register(clog2(self.ratio), "index")
        final = Signal()
        m.d.comb += [
            final.eq(index >= self.ratio - 1),
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready & final),
            out.first.eq(beat.first & (index == 0)),
            out.last.eq(beat.last & final),
            out.err.eq(beat.err),
            out.data.eq(beat.data.word_select(index, len(out.data))),
        ]
        if self.code_bits:
            m.d.comb += out.code.eq(beat.code.word_select(index, len(out.code)))
        with m.If(self.o.valid & self.o.ready):
            group.set(index, Mux(final, 0, index + 1))
        alarm = group.finish()
        if self.control == "parity":
            left = self.o.valid & self.o.ready & out.last
            m.d.comb += out.err.eq(beat.err | hold_alarm(m, self.site, alarm, left))
        return m


def converters(source: int, sink: int) -> list[tuple[type[Gather] | type[Split], int, int]]:
    """The chain from `source` to `sink` lanes: (kind, lanes it takes, ratio), 0 to 2 of them.

    Integer ratios take one converter; others gather to the least common multiple, then split.
    """
    wide = source * sink // gcd(source, sink)
    chain: list[tuple[type[Gather] | type[Split], int, int]] = []
    if wide > source:
        chain.append((Gather, source, wide // source))
    if wide > sink:
        chain.append((Split, wide, wide // sink))
    return chain


def connect_streams(
    m: Module,
    source: wiring.Component,
    sink: wiring.Component,
    lanes: tuple[int, int],
    bits: int,
    name: str,
    *,
    control: str,
    code_bits: int = 0,
    held: Callable[[Any], Any] = lambda unit: unit,
) -> None:
    """Join `source` (a stream of lanes[0]) to `sink` (of lanes[1]) through converters.

    `held` wraps each of them on its way into `m`.
    """
    stream = source
    for kind, width, ratio in converters(*lanes):
        unit = kind(width, bits, ratio, Site(name), control=control, code_bits=code_bits)
        m.submodules[f"{name}_{kind.__name__.lower()}"] = held(unit)
        connect(m, stream, unit.i)
        stream = unit.o
    connect(m, stream, sink)
