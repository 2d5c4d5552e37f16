"""Layers that read several streams, or extend one: residual Add, Concat, Pad.

Each operand waits in a FIFO. A schedule names the operands that the next word takes; once their
words are there and the output has room the word starts, and nothing behind the start ever stalls.
A frame starts with the operands' `first` marks: words before it are dropped, and one in mid-frame
starts the schedule again, so that one upset cannot shift every later frame.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .arith import bipolar
from .control import ControlGroup, hold_alarm
from .fifo import OutputFifo
from .join_config import AddConfig, ConcatConfig, JoinConfig, MergeConfig, Operand, PadConfig
from .requantize import Requantizer
from .site import Site
from .skip_fifo import SkipFifo
from .stream import beat_stream

__all__ = ["AddJoin", "ConcatJoin", "MergeJoin", "PadJoin"]


@dataclass(frozen=True)
class _Schedule:
    """The next word: which operands it takes, which of them must start a frame, its place.

    `needs`: whose word must be there, `takes`: whose word leaves; `starts`: it must be a frame's
    first. `begin`, `end`: the next word starts, ends a frame of the result. `more`: other marks
    that follow the word.
    """

    needs: list[Value]
    takes: list[Value]
    starts: list[Value]
    begin: Value
    end: Value
    more: dict[str, Value] = field(default_factory=dict)


class _Join(wiring.Component):
    """FIFOs, schedule, element registers, function, output FIFO; one word a cycle.

    Parameters: `config`. Members: `i_0`, `i_1`, ..., one for each operand, and `o`, streams of
    beats (`hw.stream`).
    """

    config: JoinConfig

    def __init__(self, config: JoinConfig) -> None:
        self.config, self.site = config, Site(config.name)
        members: dict[str, Any] = {
            f"i_{k}": In(beat_stream(operand.lanes, operand.bits))
            for k, operand in enumerate(config.operands)
        }
        super().__init__({**members, "o": Out(beat_stream(config.out_lanes, config.out_bits))})

    def schedule(self, m: Module, move: Value, restart: Value, heads: list[Any]) -> _Schedule:
        """The schedule, which moves on with `move` and starts a frame again with `restart`."""
        raise AssertionError("defined by each layer kind")

    def function(
        self, m: Module, elements: list[Signal], marks: list[dict[str, Value]]
    ) -> list[Value]:
        """The lanes of the result, `config.function_cycles` after the element registers.

        `marks[r]` are those of the word r cycles after the element registers.
        """
        raise AssertionError("defined by each layer kind")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, site = self.config, self.site
        self.group = group = ControlGroup(m, site, config.control)
        heads = self._operands(m)
        fifo = OutputFifo(
            config.out_lanes, config.out_bits, config.fifo_beats, 0, site, control=config.control
        )
        m.submodules.fifo = fifo
        issue, idle = Signal(), Signal()
        plan = self._start(m, heads, issue)
        used = group.register(range(config.fifo_beats + 1), "used")
        popped = fifo.o.valid & fifo.o.ready
        m.d.comb += issue.eq(self.complete & (used < config.fifo_beats))
        group.set(used, Mux(idle, 0, used - popped) + issue)
        elements = []
        for k, head in enumerate(heads):
            element = site.register(len(head.payload.data), f"element_{k}", "activation")
            m.d.sync += element.eq(head.payload.data)
            elements.append(element)
        stages = self._marks(m, plan, issue, heads)
        outputs = self.function(m, elements, stages)
        late = stages[-1]
        m.d.comb += [
            idle.eq(~Cat(*(marks["valid"] for marks in stages)).any() & fifo.empty),
            fifo.write.eq(late["valid"]),
            fifo.beat.data.eq(Cat(*outputs)),
            fifo.beat.first.eq(late["begin"]),
            fifo.beat.last.eq(late["end"]),
            fifo.beat.err.eq(late["err"]),
        ]
        self._leave(m, fifo)
        return m

    def _start(self, m: Module, heads: list[Any], issue: Signal) -> _Schedule:
        """Whether the next word is complete; words that stand where no frame can start leave."""
        self.complete, restart = Signal(name="complete"), Signal(name="restart")
        plan = self.schedule(m, issue, restart, heads)
        fits, early = [], []
        for head, needs, takes, starts in zip(
            heads, plan.needs, plan.takes, plan.starts, strict=True
        ):
            first = head.payload.first
            fits.append(~needs | (head.valid & (first == starts)))
            early.append(needs & head.valid & first & ~starts)
            stray = needs & head.valid & starts & ~first
            m.d.comb += head.ready.eq(stray | (issue & takes))
        m.d.comb += [self.complete.eq(Cat(*fits).all()), restart.eq(Cat(*early).any())]
        return plan

    def _marks(
        self, m: Module, plan: _Schedule, issue: Value, heads: list[Any]
    ) -> list[dict[str, Value]]:
        """The marks of a word, with the element registers and at each rank behind them."""
        group = self.group
        err = group.register(1, "err_frame")
        flags = [takes & head.payload.err for takes, head in zip(plan.takes, heads, strict=True)]
        flagged = (err & ~plan.begin) | Cat(*flags).any()
        with m.If(issue):
            group.set(err, flagged)
        marks: dict[str, Value] = {
            "valid": issue,
            "begin": issue & plan.begin,
            "end": plan.end,
            "err": flagged,
        }
        marks |= plan.more
        stages, parity = [], None
        for rank in range(self.config.function_cycles + 1):
            marks, parity = group.pipe(marks, f"q{rank}", parity)
            stages.append(marks)
        return stages

    def _operands(self, m: Module) -> list[Any]:
        """The streams behind the operands' FIFOs."""
        config, heads = self.config, []
        for k, operand in enumerate(config.operands):
            fifo = SkipFifo(
                operand.lanes, operand.bits, operand.depth, self.site, control=config.control
            )
            m.submodules[f"operand_{k}"] = fifo
            connect(m, flipped(getattr(self, f"i_{k}")), fifo.i)
            heads.append(fifo.o)
        return heads

    def _leave(self, m: Module, fifo: OutputFifo) -> None:
        """The output stream; an upset of control that nothing outvotes flags what leaves."""
        m.d.comb += [
            self.o.valid.eq(fifo.o.valid),
            self.o.payload.eq(fifo.o.payload),
            fifo.o.ready.eq(self.o.ready),
        ]
        alarms = fifo.alarm | self.group.finish()
        if self.config.checked:
            left = self.o.valid & self.o.ready & self.o.payload.last
            flag = hold_alarm(m, self.site, alarms, left)
            m.d.comb += self.o.payload.err.eq(fifo.o.payload.err | flag)

    def counter(self, m: Module, size: int, name: str, move: Value, restart: Value) -> Any:
        """A counter over 0..size - 1 that `move` advances and `restart` clears; and its end."""
        count = self.group.register(range(max(2, size)), name)
        end = Signal(name=f"{name}_end")
        m.d.comb += end.eq(count == size - 1)
        with m.If(restart):
            self.group.set(count, 0)
        with m.Elif(move):
            self.group.set(count, Mux(end, 0, count + 1))
        return count, end


class _Together(_Join):
    """A word of every operand at every start."""

    def schedule(self, m: Module, move: Value, restart: Value, heads: list[Any]) -> _Schedule:
        inside = self.group.register(1, "inside")
        end = heads[0].payload.last
        with m.If(restart):
            self.group.set(inside, 0)
        with m.Elif(move):
            self.group.set(inside, ~end)
        every: list[Value] = [Const(1, 1)] * len(heads)
        return _Schedule(every, every, [~inside] * len(heads), ~inside, end)


class AddJoin(_Together):
    """The rescaled sum of two streams, one rounding."""

    config: AddConfig

    def function(
        self, m: Module, elements: list[Signal], marks: list[dict[str, Value]]
    ) -> list[Value]:
        config = self.config
        outputs: list[Value] = []
        pairs = list(zip(config.operands, config.multipliers, strict=True))
        offset = sum(operand.zero_point * scale for operand, scale in pairs)
        for i in range(config.out_lanes):
            site = Site(config.name, i)
            total: Value = Const(-offset, signed(config.acc_bits + 1))
            for k, (operand, scale) in enumerate(pairs):
                full = _element(elements[k], i, operand) * scale
                product = site.register(full.shape(), f"product_{k}_{i}", "requant")
                m.d.sync += product.eq(full)
                total = total + product
            unit = Requantizer(config.requantize, [0], config.acc_bits, site)
            m.submodules[f"requantize_{i}"] = unit
            m.d.comb += unit.acc.eq(total)
            outputs.append(unit.q)
        return outputs


class ConcatJoin(_Join):
    """The channels of each operand in turn, pixel by pixel."""

    config: ConcatConfig

    def schedule(self, m: Module, move: Value, restart: Value, heads: list[Any]) -> _Schedule:
        config, bounds = self.config, self.config.bounds
        self.word, last = self.counter(m, config.words_per_pixel, "word", move, restart)
        inside = self.group.register(1, "inside")
        end = last & heads[-1].payload.last
        with m.If(restart):
            self.group.set(inside, 0)
        with m.Elif(move & last):
            self.group.set(inside, ~end)
        takes: list[Value] = [
            (self.word >= low) & (self.word < high) for low, high in itertools.pairwise(bounds)
        ]
        starts: list[Value] = [~inside & (self.word == low) for low in bounds[:-1]]
        more = {f"take_{k}": taken for k, taken in enumerate(takes)}
        return _Schedule(takes, takes, starts, starts[0], end, more)

    def function(
        self, m: Module, elements: list[Signal], marks: list[dict[str, Value]]
    ) -> list[Value]:
        config, late = self.config, marks[-1]
        outputs: list[Value] = []
        for i in range(config.out_lanes):
            total: Value = Const(0, config.out_bits)
            for k in range(len(config.operands)):
                q = self._operand(m, elements[k], k, i)
                total = total | Mux(late[f"take_{k}"], q[: config.out_bits], 0)
            outputs.append(total)
        return outputs

    def _operand(self, m: Module, element: Signal, k: int, lane: int) -> Value:
        """Lane `lane` of operand `k` behind its requantiser, as late as the slowest operand."""
        config = self.config
        low, high = config.bounds[k : k + 2]
        channels = [word * config.out_lanes + lane for word in range(high - low)]
        return _rescaled(m, config, element, (k, lane), channels, self.word - low)


class MergeJoin(_Together):
    """The channels of every operand side by side, whole pixels."""

    config: MergeConfig

    def function(
        self, m: Module, elements: list[Signal], marks: list[dict[str, Value]]
    ) -> list[Value]:
        config = self.config
        outputs = []
        for k, lane in config.picks:
            channels = [lane % (config.operands[k].lanes // config.pixels)]
            q = _rescaled(m, config, elements[k], (k, lane), channels, Const(0, 1))
            outputs.append(q[: config.out_bits])
        return outputs


class PadJoin(_Join):
    """The image inside a border of constant words.

    A frame's border starts when the frame's first word is there, so that the latency is defined.
    """

    config: PadConfig

    def schedule(self, m: Module, move: Value, restart: Value, heads: list[Any]) -> _Schedule:
        config = self.config
        word, last_word = self.counter(m, config.words_per_pixel, "word", move, restart)
        column, last_column = self.counter(m, config.width, "column", move & last_word, restart)
        row, last_row = self.counter(
            m, config.height, "row", move & last_word & last_column, restart
        )
        counts = (row, column, word)
        inside, origin = Signal(), Signal()
        begin = Cat(*counts) == 0
        regions = list(zip(counts, config.inside, strict=True))
        m.d.comb += [
            inside.eq(Cat(*((n >= low) & (n < high) for n, (low, high) in regions)).all()),
            origin.eq(Cat(*(n == low for n, (low, _) in regions)).all()),
        ]
        end = last_row & last_column & last_word
        more: dict[str, Value] = {"take_0": inside}
        if config.delayed:  # the word before is in the same row
            low, high = config.inside[1]
            more["after"] = (
                (row >= config.inside[0][0]) & (row < config.inside[0][1])
                & (column > low) & (column <= high)
            )  # fmt: skip
        return _Schedule([inside | begin], [inside], [origin | begin], begin, end, more)

    def function(
        self, m: Module, elements: list[Signal], marks: list[dict[str, Value]]
    ) -> list[Value]:
        config, late, bits = self.config, marks[-1], self.config.out_bits
        fill = Const(config.value % (1 << bits), bits)
        before = self._before(m, elements[0], late)
        outputs: list[Value] = []
        for pick in config.picks:
            if pick is None:
                outputs.append(fill)
            elif pick < 0:
                element = before.word_select(config.delayed + pick, bits)
                outputs.append(Mux(late["after"], element, fill))
            else:
                element = elements[0].word_select(pick, bits)
                outputs.append(Mux(late["take_0"], element, fill))
        return outputs

    def _before(self, m: Module, element: Signal, late: dict[str, Value]) -> Value:
        """The last elements of the word before, where a word takes some of them."""
        bits = self.config.delayed * self.config.out_bits
        if not bits:
            return Const(0, 0)
        before = self.site.register(bits, "before", "activation")
        with m.If(late["valid"] & late["take_0"]):
            m.d.sync += before.eq(element[-bits:])
        return before


def _rescaled(
    m: Module,
    config: ConcatConfig | MergeConfig,
    element: Signal,
    place: tuple[int, int],
    channels: list[int],
    index: Value,
) -> Value:
    """Lane `place` (operand, lane) behind its requantiser, as late as the slowest operand.

    `channels` are those of each table index, `index` that of the word.
    """
    k, lane = place
    site, operand, kind = Site(config.name, lane), config.operands[k], config.requantize[k]
    ranks = config.function_cycles
    q: Value = element.word_select(lane, operand.bits)
    if kind is not None:
        value = _element(element, lane, operand) - operand.zero_point
        unit = Requantizer(kind, channels, len(value), site)
        m.submodules[f"requantize_{k}_{lane}"] = unit
        m.d.comb += [unit.acc.eq(value), unit.index.eq(index)]
        q, ranks = unit.q, ranks - unit.cycles
    for rank in range(ranks):
        wait = site.register(len(q), f"wait_{k}_{lane}_{rank}", "activation")
        m.d.sync += wait.eq(q)
        q = wait
    return q


def _element(word: Signal, lane: int, operand: Operand) -> Value:
    """The value of one lane of an operand's word."""
    raw: Value = word.word_select(lane, operand.bits)
    if operand.bipolar:
        return bipolar(raw)
    return raw.as_signed() if operand.signed else raw
