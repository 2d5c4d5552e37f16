"""Layers that reduce a window without weights: maximum, average, index of the maximum."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .arith import adder_tree, bipolar, max_tree
from .average import group_bits
from .control import ControlGroup
from .fifo import OutputFifo
from .reduce_config import ArgMaxConfig, PoolConfig
from .requantize import Requantizer
from .sequencer import Sequencer, assemble
from .site import Site
from .stream import beat_stream
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
                "o": Out(beat_stream(config.out_lanes, config.out_bits)),
            }
        )

    def combine(
        self, m: Module, window: WindowBuffer, control: Sequencer
    ) -> tuple[list[Value], int]:
        """The results of a beat and the cycles that they come after the group is complete."""
        raise AssertionError("defined by each layer kind")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, site = self.config, self.site
        self.group = group = ControlGroup(m, site, config.control)
        alarm = Signal(name="own_alarm")
        window = WindowBuffer(config.window, site, control=config.control)
        control = Sequencer(config, config.reduce_cycles, site)
        fifo = OutputFifo(
            config.out_lanes, config.out_bits, config.fifo_beats, 0, site, control=config.control
        )
        assemble(m, self, window, control, fifo, alarm)
        outputs, late = self.combine(m, window, control)
        done = control.done
        marks: dict[str, Value] = {
            "valid": done["valid"],
            "begin": done["valid"] & done["begin"],
            "end": done["end"],
            "err": done["err"],
        }
        valids, parity = [marks["valid"]], None
        for rank in range(late):
            marks, parity = group.pipe(marks, f"q{rank}", parity)
            valids.append(marks["valid"])
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


class Pool(_Reduce):
    """Maximum, or requantised sum, of a window, `config.out_lanes` results a pass.

    Padding is the type's minimum (maximum) or the zero point (average).
    """

    config: PoolConfig

    def combine(
        self, m: Module, window: WindowBuffer, control: Sequencer
    ) -> tuple[list[Value], int]:
        config = self.config
        outputs: list[Value] = []
        index: Value = control.group
        if any(config.window.place_bits):
            index = Cat(index[: group_bits(config.window)], self._place(m, window))
        for i, picked in enumerate(config.picks):
            site = Site(config.name, i)
            element = self._combined(m, window, picked, site)
            shape = signed(config.acc_bits) if config.average else element.shape()
            acc = site.register(shape, f"acc_{i}", "accumulator")
            if config.average:
                start = -config.zero_point * config.window.steps * config.simd
                combined: Value = Mux(control.first, start, acc) + element
            else:
                combined = Mux(control.first | (element > acc), element, acc)
            with m.If(control.valid):
                m.d.sync += acc.eq(combined)
            if config.requantize is None:
                outputs.append(acc)
                continue
            unit = Requantizer(config.requantize, config.channels(i), config.acc_bits, site)
            m.submodules[f"requantize_{i}"] = unit
            m.d.comb += [unit.acc.eq(acc), unit.index.eq(index)]
            outputs.append(unit.q)
        return outputs, config.requantize_cycles

    def _combined(
        self, m: Module, window: WindowBuffer, picked: tuple[int, ...], site: Site
    ) -> Value:
        """The sum or the maximum of a lane's elements of a step, `tree_levels` cycles later."""
        config = self.config
        found = [self._element(window, i) for i in picked]
        if not config.average:
            return max_tree(m, site, found)
        shape = (signed if found[0].shape().signed else unsigned)(config.acc_bits)
        return adder_tree(m, site, found, f"sum_{site.lane}", "accumulator", shape)

    def _element(self, window: WindowBuffer, index: int) -> Value:
        """The value of one of a step's elements."""
        config = self.config
        element: Value = window.act.word_select(index, config.window.lane_bits)
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

    def combine(
        self, m: Module, window: WindowBuffer, control: Sequencer
    ) -> tuple[list[Value], int]:
        config, site = self.config, self.site
        shape = signed(config.in_bits) if config.in_signed else unsigned(config.in_bits)
        best = site.register(shape, "best", "accumulator")
        index = site.register(config.out_bits, "best_index", "accumulator")
        count = self.group.register(config.out_bits, "count")
        element: Value = window.act.as_signed() if config.in_signed else window.act
        now = Signal(config.out_bits)
        m.d.comb += now.eq(Mux(control.first, 0, count))
        with m.If(control.valid):
            self.group.set(count, now + 1)
            with m.If(control.first | (element > best)):
                m.d.sync += [best.eq(element), index.eq(now)]
        return [index], 0
