"""Folded convolution and dense layers: a window buffer, `pe` lanes, drain, requantiser, FIFO.

A dense layer is a convolution over one pixel whose channels are the features.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .checksum import ChecksumLane
from .codes import encode
from .config import CHECK_CYCLES, clog2
from .control import ControlGroup
from .fifo import OutputFifo
from .frame_check import FrameCheck
from .frame_fifo import FrameFifo
from .lane import Lane
from .linear_config import LinearConfig
from .packed import PackedProducts
from .registers import RegisterGroup, Spoiled
from .requantize import requantizer
from .retry import GroupLog, join_flags, join_log
from .retry_sequencer import RetrySequencer
from .sequencer import USE_RANK, Sequencer, assemble, read_elements
from .site import Site
from .stream import beat_stream
from .unit_registers import UnitGuard, collect
from .votes import vote_in_space, vote_in_time
from .window import WindowBuffer

__all__ = ["Linear"]


class Linear(wiring.Component):
    """q[n] = requantize(b[n] + sum over the window of w[n, k] x[k]) for all neurons n.

    Each pass over a window gives a group of `pe` results in `config.window.steps` cycles; a pass
    that can go on does so without a gap. A group starts when its window is complete and the FIFO
    has room for all that is under way, so nothing behind the start ever stalls. Control is reset,
    the datapath is not.

    Parameters: `config`. Members: `i`, `o`, streams of beats (`hw.stream`); with `config.retry`
    also `retried`, groups are about to be computed again.
    """

    def __init__(self, config: LinearConfig) -> None:
        self.config = config
        self.site = Site(config.name)
        window = config.window
        more = {"retried": Out(1)} if config.retry else {}
        super().__init__(
            {
                **more,
                "i": In(beat_stream(window.word, window.lane_bits, window.code_bits)),
                "o": Out(beat_stream(config.out_lanes, config.out_bits, config.out_code_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        self.group = ControlGroup(m, self.site, config.control)
        self.post = RegisterGroup(m, self.site, config.drain_post, "post")
        self.guard = UnitGuard(config.post, config.stream)
        self.spoiled = Spoiled(m, config.lane_cycles, active=config.spoils)
        alarm = Signal(name="own_alarm")
        window = self._buffer()
        control = (RetrySequencer if config.retry else Sequencer)(
            config, config.lane_cycles, self.site
        )
        fifo = self._fifo()
        assemble(m, self, window, control, fifo, alarm)
        self.act = read_elements(m, config, window, self.spoiled)
        results = self._lanes(m, window, control)
        words, marks = self._drain(m, results, control)
        if config.retry:
            m.submodules.retry = self.log = GroupLog(config, self.site)
            join_log(m, self.log, window, control, fifo)
            m.d.comb += self.retried.eq(self.log.rewind)
        if config.by_frame:
            self._check_frames(m, window, control, fifo, words, marks)
        elif config.modulus:
            self._check(m, window, control, fifo, words, marks)
        self._finish(m, fifo, words, marks, control)
        self._close(m, control)
        own = self.group.finish()
        m.d.comb += alarm.eq(own | self.log.alarm if config.retry else own)
        return m

    def _fifo(self) -> OutputFifo:
        """Where results wait for their verdict and for the next layer."""
        config = self.config
        options: dict[str, Any] = {"control": config.control, "code": config.stream}
        size = (config.out_lanes, config.out_bits, config.fifo_beats)
        if config.by_frame:
            return FrameFifo(*size, self.site, **options)
        groups = config.fifo_beats // config.beats if config.modulus else 0
        options |= {"lag": config.verdict_cycles, "rewinds": config.retry > 0}
        return OutputFifo(*size, groups, self.site, **options)

    def _close(self, m: Module, control: Sequencer) -> None:
        """No more registers and findings."""
        self.post.finish()
        self.spoiled.close()
        if self.spoiled.active:
            m.d.comb += control.spoiled.eq(Cat(*self.spoiled.at))

    def _buffer(self) -> Any:
        """What feeds the lanes."""
        return WindowBuffer(self.config.window, self.site, control=self.config.control)

    def _requantizer(self, lane: int) -> Any:
        """The unit behind output lane `lane`; the layer requantises."""
        config = self.config
        assert config.requantize is not None
        site = Site(config.name, lane)
        channels = config.channels(lane)
        return requantizer(config.requantize, channels, config.acc_bits, site, self.guard)

    def _lanes(self, m: Module, window: WindowBuffer, control: Sequencer) -> list[Value]:
        """The lanes' accumulators; a protected lane's is voted among three replicas."""
        config, results = self.config, []
        address: Value = control.address
        if not (config.constant_weights or config.block_weights):
            address = self.group.register(len(control.address), "address")
            self.group.set(address, control.address)
        shared = self._packed(m, address)
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
                    m.d.comb += [lane.address.eq(address), lane.act.eq(self._act(index))]
                if lane.code != "none":
                    self.spoiled.add(USE_RANK, lane.broken)
                m.d.comb += [
                    lane.valid.eq(control.valid),
                    lane.first.eq(control.first),
                    lane.group.eq(control.group),
                ]
                replicas.append(lane)
            result = vote_in_space(m, config, index, replicas)
            results.append(vote_in_time(m, config, index, result, control))
        return results

    def _act(self, index: int) -> Value:
        """The elements that lane `index` reads."""
        config = self.config
        picked = config.lane_elements(index)
        if picked == list(range(config.elements)):
            return self.act
        return Cat(self.act.word_select(i, config.act_bits) for i in picked)

    def _packed(self, m: Module, address: Value) -> dict[int, Value]:
        """The products of the lanes that share multipliers."""
        config = self.config
        found: dict[int, Value] = {}
        for pair in config.pairs:
            unit = PackedProducts(config, pair, Site(config.name))
            m.submodules[f"products_{pair[0]}_{pair[1]}"] = unit
            m.d.comb += [unit.address.eq(address), unit.act.eq(self._act(pair[0]))]
            if unit.code != "none":
                self.spoiled.add(USE_RANK, unit.broken)
            found |= zip(pair, (unit.high, unit.low), strict=True)
        return found

    def _drain(
        self, m: Module, results: list[Value], control: Sequencer
    ) -> tuple[list[Value], dict[str, Any]]:
        """`out_lanes` results a cycle, lowest lanes first, with the marks of their beat."""
        config, group = self.config, self.group
        done = {name: control.done[name] for name in ("valid", "begin", "end", "err")}
        if config.beats == 1:
            marks = {**done, "first": done["valid"], "last": done["valid"], "index": control.group}
            return results, {**marks, "late": done["end"]}
        bits, lanes, beats = config.acc_bits, config.out_lanes, config.beats
        hold = self.post.register(bits * config.pe, "results", "accumulator")
        left = group.register(beats, "left")
        index = group.register(clog2(len(config.window.passes) * beats), "index")
        flags = group.register(3, "flags")
        step = Signal.like(index)
        with m.If(done["valid"]):
            self.post.set(hold, Cat(*results))
            group.set(left, (1 << beats) - 1)
            group.set(flags, Cat(done["begin"], done["end"], done["err"]))
            m.d.comb += step.eq(control.done["group"] * beats)
        with m.Else():
            self.post.set(hold, hold[bits * lanes :])
            group.set(left, left >> 1)
            m.d.comb += step.eq(index + 1)
            if config.drain_post in ("parity", "dup"):
                group.set(flags, Cat(flags[:2], flags[2] | self.post.fault(hold)))
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
            "late": flags[1],
            "err": flags[2] | self.post.fault(hold) if config.drain_post != "none" else flags[2],
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
            check.act.eq(self.act),
            check.drain.eq(marks["valid"]),
            check.drain_first.eq(marks["first"]),
            check.drained.eq(Cat(*words)),
        ]
        if config.retry and len(config.window.passes) > 1:
            m.d.comb += [
                check.rewind.eq(self.log.rewind),
                check.again_pass.eq(self.log.again.pass_),
            ]
        commit: Value = marks["valid"] & marks["last"]
        for rank in range(CHECK_CYCLES):
            commit = self._later(m, commit, f"check_{rank}")
        bad: Value = check.mismatch
        for rank in range(max(0, config.requantize_cycles - CHECK_CYCLES)):
            commit = self._later(m, commit, f"wait_{rank}")
            verdict = site.register(1, f"bad_{rank}", "checker")
            m.d.sync += verdict.eq(bad)
            bad = verdict
        if config.retry:
            m.d.comb += [self.log.verdict.eq(commit), self.log.bad.eq(bad)]
            commit = self.log.release
        m.d.comb += [fifo.commit.eq(commit), fifo.bad.eq(bad)]

    def _check_frames(
        self,
        m: Module,
        window: WindowBuffer,
        control: Sequencer,
        fifo: OutputFifo,
        words: list[Value],
        marks: dict[str, Any],
    ) -> None:
        """Checksum of whole frames; its verdict releases a frame's last group from the FIFO."""
        m.submodules.checksum = check = FrameCheck(self.config, self.site)
        m.d.comb += [
            check.issue.eq(control.issue),
            check.start.eq(control.start),
            check.begin.eq(window.first_window),
            check.end.eq(control.advance & window.last_window),
            check.act.eq(self.act),
            check.drain.eq(marks["valid"]),
            check.drain_begin.eq(marks["begin"]),
            check.drain_late.eq(marks["first"] & marks["late"]),
            check.drained.eq(Cat(*words)),
            fifo.commit.eq(~check.busy),
            fifo.bad.eq(check.bad),
        ]

    def _later(self, m: Module, commit: Value, name: str) -> Signal:
        """The mark of a verdict a cycle later; the log of groups counts on it, as control does."""
        if self.config.retry:
            stage = self.group.register(1, name)
            self.group.set(stage, commit)
            return stage
        stage = self.site.register(1, name, "checker")
        m.d.sync += stage.eq(commit)
        return stage

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
        codes: list[Value] = []
        spoiled = Spoiled(m, config.requantize_cycles + 1, active=config.compared)
        for i, word in enumerate(words):
            if config.requantize is None:
                raw = Signal(signed(config.out_bits), name=f"raw_{i}")
                m.d.comb += raw.eq(word)
                outputs.append(raw)
                codes.append(encode(m, config.stream, raw))
                continue
            unit = self._requantizer(i)
            m.submodules[f"requantize_{i}"] = unit
            m.d.comb += [unit.acc.eq(word), unit.index.eq(marks["index"])]
            outputs.append(unit.q)
            collect(unit, spoiled, codes)
        spoiled.close()
        names = ("valid", "begin", "end", "err", "late" if config.by_frame else "last")
        late: dict[str, Value] = {n: marks[n] for n in (names if config.modulus else names[:-1])}
        late["begin"] = late["begin"] & late["valid"]
        valids, parity = [late["valid"]], None
        for rank in range(config.requantize_cycles):
            late, parity = spoiled.mark(late, parity, rank)
            late, parity = self.group.pipe(late, f"q{rank}", parity)
            valids.append(late["valid"])
        late, _ = spoiled.mark(late, parity, config.requantize_cycles)
        if codes and config.stream != "none":
            m.d.comb += fifo.beat.code.eq(Cat(*codes))
        control.watch(m, fifo, valids)
        m.d.comb += [
            fifo.write.eq(late["valid"]),
            fifo.beat.data.eq(Cat(*outputs)),
            fifo.beat.first.eq(late["begin"]),
            fifo.beat.last.eq(late["end"]),
            fifo.beat.err.eq(late["err"]),
        ]
        if config.modulus:
            m.d.comb += fifo.end.eq(late[names[-1]])
        if config.retries_flags:
            join_flags(m, self.log, fifo)
