"""Folded convolution and dense layers: a window buffer, `pe` lanes, drain, requantiser, FIFO.

A dense layer is a convolution over one pixel whose channels are the features.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .checksum import ChecksumLane
from .config import CHECK_CYCLES, clog2
from .control import ControlGroup
from .fifo import OutputFifo
from .lane import Lane
from .linear_config import LinearConfig
from .packed import PackedProducts
from .requantize import requantizer
from .sequencer import Sequencer, assemble
from .site import Site
from .stream import beat_stream
from .votes import vote_in_space, vote_in_time
from .window import WindowBuffer

__all__ = ["Linear"]


class Linear(wiring.Component):
    """q[n] = requantize(b[n] + sum over the window of w[n, k] x[k]) for all neurons n.

    Each pass over a window gives a group of `pe` results in `config.window.steps` cycles; a pass
    that can go on does so without a gap. A group starts when its window is complete and the FIFO
    has room for all that is under way, so nothing behind the start ever stalls. Control is reset,
    the datapath is not.

    Parameters: `config`. Members: `i`, `o`, streams of beats (`hw.stream`).
    """

    def __init__(self, config: LinearConfig) -> None:
        self.config = config
        self.site = Site(config.name)
        window = config.window
        super().__init__(
            {
                "i": In(beat_stream(window.word, window.lane_bits, window.code_bits)),
                "o": Out(beat_stream(config.out_lanes, config.out_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        self.group = ControlGroup(m, self.site, config.control)
        alarm = Signal(name="own_alarm")
        window = self._buffer()
        control = Sequencer(config, config.lane_cycles, self.site)
        fifo = OutputFifo(
            config.out_lanes,
            config.out_bits,
            depth=config.fifo_beats,
            groups=config.fifo_beats // config.beats if config.modulus else 0,
            site=self.site,
            lag=config.verdict_cycles,
            control=config.control,
        )
        assemble(m, self, window, control, fifo, alarm)
        results = self._lanes(m, window, control)
        words, marks = self._drain(m, results, control)
        if config.modulus:
            self._check(m, window, control, fifo, words, marks)
        self._finish(m, fifo, words, marks, control)
        m.d.comb += alarm.eq(self.group.finish())
        return m

    def _buffer(self) -> Any:
        """What feeds the lanes."""
        return WindowBuffer(self.config.window, self.site, control=self.config.control)

    def _requantizer(self, lane: int) -> Any:
        """The unit behind output lane `lane`; the layer requantises."""
        config = self.config
        assert config.requantize is not None
        site = Site(config.name, lane)
        return requantizer(config.requantize, config.channels(lane), config.acc_bits, site)

    def _lanes(self, m: Module, window: WindowBuffer, control: Sequencer) -> list[Value]:
        """The lanes' accumulators; a protected lane's is voted among three replicas."""
        config, results = self.config, []
        address: Value = control.address
        if not (config.constant_weights or config.block_weights):
            address = self.group.register(len(control.address), "address")
            self.group.set(address, control.address)
        shared = self._packed(m, window, address)
        for index in range(config.pe):
            protected = index in config.replicated
            replicas = []
            for replica in range(3 if protected else 1):
                suffix = f"_r{replica}" if protected else ""
                site = Site(config.name, index, replica if protected else None)
                lane = Lane(config, index, site)
                m.submodules[f"lane_{index}{suffix}"] = lane
                if index in shared:
                    m.d.comb += lane.products.eq(shared[index])
                else:
                    m.d.comb += [lane.address.eq(address), lane.act.eq(self._act(window, index))]
                m.d.comb += [
                    lane.valid.eq(control.valid),
                    lane.first.eq(control.first),
                    lane.group.eq(control.group),
                ]
                replicas.append(lane)
            result = vote_in_space(m, config, index, replicas)
            results.append(vote_in_time(m, config, index, result, control))
        return results

    def _act(self, window: WindowBuffer, index: int) -> Value:
        """The elements that lane `index` reads."""
        config = self.config
        picked = config.lane_elements(index)
        if picked == list(range(config.elements)):
            return window.act
        return Cat(window.act.word_select(i, config.act_bits) for i in picked)

    def _packed(self, m: Module, window: WindowBuffer, address: Value) -> dict[int, Value]:
        """The products of the lanes that share multipliers."""
        config = self.config
        found: dict[int, Value] = {}
        for pair in config.pairs:
            unit = PackedProducts(config, pair, Site(config.name))
            m.submodules[f"products_{pair[0]}_{pair[1]}"] = unit
            m.d.comb += [unit.address.eq(address), unit.act.eq(self._act(window, pair[0]))]
            found |= zip(pair, (unit.high, unit.low), strict=True)
        return found

    def _drain(
        self, m: Module, results: list[Value], control: Sequencer
    ) -> tuple[list[Value], dict[str, Any]]:
        """`out_lanes` results a cycle, lowest lanes first, with the marks of their beat."""
        config, site, group = self.config, self.site, self.group
        done = {name: control.done[name] for name in ("valid", "begin", "end", "err")}
        if config.beats == 1:
            marks = {**done, "first": done["valid"], "last": done["valid"], "index": control.group}
            return results, marks
        bits, lanes, beats = config.acc_bits, config.out_lanes, config.beats
        hold = site.register(bits * config.pe, "results", "accumulator")
        left = group.register(beats, "left")
        index = group.register(clog2(len(config.window.passes) * beats), "index")
        flags = group.register(3, "flags")
        step = Signal.like(index)
        with m.If(done["valid"]):
            m.d.sync += hold.eq(Cat(*results))
            group.set(left, (1 << beats) - 1)
            group.set(flags, Cat(done["begin"], done["end"], done["err"]))
            m.d.comb += step.eq(control.done["group"] * beats)
        with m.Else():
            m.d.sync += hold.eq(hold[bits * lanes :])
            group.set(left, left >> 1)
            m.d.comb += step.eq(index + 1)
        group.set(index, step)
        words = [hold[i * bits : (i + 1) * bits].as_signed() for i in range(lanes)]
        first, last = Signal(), Signal()
        m.d.comb += [first.eq(left.all()), last.eq(left == 1)]
        marks = {
            "valid": left[0],
            "first": first,
            "last": last,
            "begin": first & flags[0],
            "end": last & flags[1],
            "err": flags[2],
            "index": step,
        }
        return words, marks

    def _check(
        self,
        m: Module,
        window: WindowBuffer,
        control: Sequencer,
        fifo: OutputFifo,
        words: list[Value],
        marks: dict[str, Any],
    ) -> None:
        """Checksum lane; its verdict releases the group from the FIFO."""
        config, site = self.config, self.site
        m.submodules.checksum = check = ChecksumLane(config, site)
        m.d.comb += [
            check.issue.eq(control.issue),
            check.start.eq(control.start),
            check.act.eq(window.act),
            check.drain.eq(marks["valid"]),
            check.drain_first.eq(marks["first"]),
            check.drained.eq(Cat(*words)),
        ]
        commit: Value = marks["valid"] & marks["last"]
        for rank in range(CHECK_CYCLES):
            stage = site.register(1, f"check_{rank}", "checker")
            m.d.sync += stage.eq(commit)
            commit = stage
        bad: Value = check.mismatch
        for rank in range(max(0, config.requantize_cycles - CHECK_CYCLES)):
            waiting, verdict = (site.register(1, f"{n}_{rank}", "checker") for n in ("wait", "bad"))
            m.d.sync += [waiting.eq(commit), verdict.eq(bad)]
            commit, bad = waiting, verdict
        m.d.comb += [fifo.commit.eq(commit), fifo.bad.eq(bad)]

    def _finish(
        self,
        m: Module,
        fifo: OutputFifo,
        words: list[Value],
        marks: dict[str, Any],
        control: Sequencer,
    ) -> None:
        """Requantise the words of a beat side by side and write it."""
        config = self.config
        outputs: list[Value] = []
        for i, word in enumerate(words):
            if config.requantize is None:
                raw = Signal(signed(config.out_bits), name=f"raw_{i}")
                m.d.comb += raw.eq(word)
                outputs.append(raw)
                continue
            unit = self._requantizer(i)
            m.submodules[f"requantize_{i}"] = unit
            m.d.comb += [unit.acc.eq(word), unit.index.eq(marks["index"])]
            outputs.append(unit.q)
        names = ("valid", "begin", "end", "err", "last")
        late: dict[str, Value] = {n: marks[n] for n in (names if config.modulus else names[:-1])}
        late["begin"] = late["begin"] & late["valid"]
        valids, parity = [late["valid"]], None
        for rank in range(config.requantize_cycles):
            late, parity = self.group.pipe(late, f"q{rank}", parity)
            valids.append(late["valid"])
        control.watch(m, fifo, valids)
        m.d.comb += [
            fifo.write.eq(late["valid"]),
            fifo.beat.data.eq(Cat(*outputs)),
            fifo.beat.first.eq(late["begin"]),
            fifo.beat.last.eq(late["end"]),
            fifo.beat.err.eq(late["err"]),
        ]
        if config.modulus:
            m.d.comb += fifo.end.eq(late["last"])
