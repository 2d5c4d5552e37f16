"""Layers that reduce a window without weights: maximum, average, index of the maximum."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .arith import adder_tree, bipolar, max_tree
from .average import group_bits
from .codes import encode
from .control import ControlGroup
from .fifo import OutputFifo
from .reduce_config import ArgMaxConfig, PoolConfig
from .registers import Spoiled
from .requantize import Requantizer
from .sequencer import USE_RANK, Sequencer, assemble, read_elements
from .site import Site
from .stream import beat_stream
from .unit_registers import UnitGuard, UnitRegisters, collect
from .window import WindowBuffer

__all__ = ["ArgMax", "Pool"]


class _Reduce(wiring.Component):
    """Buffer, sequencer, a combining register for each lane, FIFO; one step a cycle.

    Parameters: `config`. Members: `i`, `o`, streams of beats (`hw.stream`).
    """

    def __init__(self, config: PoolConfig | ArgMaxConfig) -> None:
        self.config, self.site = config, Site(config.name)
        window = config.window
        super().__init__(
            {
                "i": In(beat_stream(window.word, window.lane_bits, window.code_bits)),
                "o": Out(beat_stream(config.out_lanes, config.out_bits, config.out_code_bits)),
            }
        )

    def combine(self, m: Module, window: WindowBuffer, control: Sequencer) -> list[Value]:
        """The results of a beat, `config.requantize_cycles` after the group is complete."""
        raise AssertionError("defined by each layer kind")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, site = self.config, self.site
        self.group = group = ControlGroup(m, site, config.control)
        alarm = Signal(name="own_alarm")
        window = WindowBuffer(config.window, site, control=config.control)
        control = Sequencer(config, config.reduce_cycles, site)
        fifo = OutputFifo(
            config.out_lanes, config.out_bits, config.fifo_beats, 0, site,
            control=config.control, code=config.stream,
        )  # fmt: skip
        assemble(m, self, window, control, fifo, alarm)
        self.post = UnitRegisters(m, site, UnitGuard(config.post), "accumulator")
        self.steps = Spoiled(m, config.reduce_cycles, active=config.spoils)
        self.late = Spoiled(m, config.requantize_cycles + 1, active=config.compared)
        self.codes: list[Value] = []
        self.act = read_elements(m, config, window, self.steps)
        outputs = self.combine(m, window, control)
        self._close(m, control)
        done = control.done
        marks: dict[str, Value] = {
            "valid": done["valid"],
            "begin": done["valid"] & done["begin"],
            "end": done["end"],
            "err": done["err"],
        }
        valids, parity = [marks["valid"]], None
        for rank in range(config.requantize_cycles):
            marks, parity = self.late.mark(marks, parity, rank)
            marks, parity = group.pipe(marks, f"q{rank}", parity)
            valids.append(marks["valid"])
        marks, _ = self.late.mark(marks, parity, config.requantize_cycles)
        if self.codes:
            m.d.comb += fifo.beat.code.eq(Cat(*self.codes))
        control.watch(m, fifo, valids)
        m.d.comb += [
            fifo.write.eq(marks["valid"]),
            fifo.beat.data.eq(Cat(*outputs)),
            fifo.beat.first.eq(marks["begin"]),
            fifo.beat.last.eq(marks["end"]),
            fifo.beat.err.eq(marks["err"]),
            alarm.eq(group.finish()),
        ]
        return m

    def _close(self, m: Module, control: Sequencer) -> None:
        """No more registers and findings."""
        ranks = self.config.reduce_cycles
        broken = self.post.broken(ranks)
        if self.steps.active:
            for rank in range(ranks):
                self.steps.add(rank, broken[rank])
            self.steps.close()
            m.d.comb += control.spoiled.eq(Cat(*self.steps.at))
        self.late.close()

    def accumulate(self, control: Sequencer, shape: Any, name: str, site: Site) -> Signal:
        """A register that each step reads but the first of a group, and then the result."""
        register = self.post.register(shape, name, "accumulator", site)
        broken = self.post.fault(register)
        self.steps.add(self.config.reduce_cycles - 1, broken & ~control.first)
        self.late.add(0, broken)
        return register

    def code(self, m: Module, name: str, site: Site, value: Value, load: Value) -> None:
        """The register of the code of a result, which takes `value` in the cycles of `load`."""
        config = self.config
        if config.stream == "none":
            return
        maker = site if config.compared else self.post
        register = maker.register(config.out_code_bits, name, "accumulator")
        with m.If(load):
            self.post.set(register, encode(m, config.stream, value))
        self.codes.append(register)


class Pool(_Reduce):
    """Maximum, or requantised sum, of a window, `config.out_lanes` results a pass.

    Padding is the type's minimum (maximum) or the zero point (average).
    """

    config: PoolConfig

    def combine(self, m: Module, window: WindowBuffer, control: Sequencer) -> list[Value]:
        config = self.config
        outputs: list[Value] = []
        guard = UnitGuard(config.post, config.stream)
        index: Value = control.group
        if any(config.window.place_bits):
            index = Cat(index[: group_bits(config.window)], self._place(m, window))
        for i, picked in enumerate(config.picks):
            site = Site(config.name, i)
            element = self._combined(picked, site)
            shape = signed(config.acc_bits) if config.average else element.shape()
            acc = self.accumulate(control, shape, f"acc_{i}", site)
            larger = control.first | (element > acc)
            if config.average:
                start = -config.zero_point * config.window.steps * config.simd
                combined: Value = Mux(control.first, start, acc) + element
            else:
                combined = Mux(larger, element, acc)
            with m.If(control.valid):
                self.post.set(acc, combined)
            if config.requantize is None:
                self.code(m, f"code_{i}", site, element, control.valid & larger)
                outputs.append(acc)
                continue
            unit = Requantizer(config.requantize, config.channels(i), config.acc_bits, site, guard)
            m.submodules[f"requantize_{i}"] = unit
            m.d.comb += [unit.acc.eq(acc), unit.index.eq(index)]
            outputs.append(unit.q)
            collect(unit, self.late, self.codes)
        return outputs

    def _combined(self, picked: tuple[int, ...], site: Site) -> Value:
        """The sum or the maximum of a lane's elements of a step, `tree_levels` cycles later."""
        config = self.config
        found = [self._element(i) for i in picked]

        def keep(rank: int, shape: Any, name: str, value: Value) -> Signal:
            return self.post.take(USE_RANK + 1 + rank, shape, name, value, site)

        if not config.average:
            return max_tree(keep, found, f"max_{site.lane}")
        shape = (signed if found[0].shape().signed else unsigned)(config.acc_bits)
        return adder_tree(keep, found, f"sum_{site.lane}", shape)

    def _element(self, index: int) -> Value:
        """The value of one of a step's elements."""
        config = self.config
        element: Value = self.act.word_select(index, config.window.lane_bits)
        if config.act_bipolar:  # the larger bit is the larger value
            return bipolar(element) if config.average else element
        return element.as_signed() if config.act_signed else element

    def _place(self, m: Module, window: WindowBuffer) -> Value:
        """The class of the window's position, in the cycle in which `group` counts."""
        place: Value = window.place
        for rank in range(1, self.config.reduce_cycles):
            late = self.group.register(len(place), f"place_{rank}")
            self.group.set(late, place)
            place = late
        return place


class ArgMax(_Reduce):
    """Index of a frame's largest element, the lowest index on ties; one element a cycle."""

    config: ArgMaxConfig

    def combine(self, m: Module, window: WindowBuffer, control: Sequencer) -> list[Value]:
        config = self.config
        shape = signed(config.in_bits) if config.in_signed else unsigned(config.in_bits)
        best = self.accumulate(control, shape, "best", self.site)
        index = self.accumulate(control, config.out_bits, "best_index", self.site)
        count = self.group.register(config.out_bits, "count")
        element: Value = self.act.as_signed() if config.in_signed else self.act
        now = Signal(config.out_bits)
        m.d.comb += now.eq(Mux(control.first, 0, count))
        larger = control.first | (element > best)
        self.code(m, "code", self.site, now, control.valid & larger)
        with m.If(control.valid):
            self.group.set(count, now + 1)
            with m.If(larger):
                self.post.set(best, element)
                self.post.set(index, now)
        return [index]
