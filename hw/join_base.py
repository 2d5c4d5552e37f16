"""What layers that read several streams have in common (`hw.join`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .codes import check_word, encode
from .control import ControlGroup, hold_alarm
from .fifo import OutputFifo
from .join_config import JoinConfig
from .registers import Spoiled
from .requantize import Requantizer
from .site import Site
from .skip_fifo import SkipFifo
from .stream import beat_stream
from .unit_registers import UnitGuard, UnitRegisters

__all__ = ["Join", "Schedule", "Together"]


@dataclass(frozen=True)
class Schedule:
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


class Join(wiring.Component):
    """FIFOs, schedule, element registers, function, output FIFO; one word a cycle.

    Parameters: `config`. Members: `i_0`, `i_1`, ..., one for each operand, and `o`, streams of
    beats (`hw.stream`).
    """

    config: JoinConfig

    def __init__(self, config: JoinConfig) -> None:
        self.config, self.site = config, Site(config.name)
        members: dict[str, Any] = {
            f"i_{k}": In(beat_stream(operand.lanes, operand.bits, config.in_code_bits(k)))
            for k, operand in enumerate(config.operands)
        }
        out = beat_stream(config.out_lanes, config.out_bits, config.out_code_bits)
        super().__init__({**members, "o": Out(out)})

    def schedule(self, m: Module, move: Value, restart: Value, heads: list[Any]) -> Schedule:
        """The schedule, which moves on with `move` and starts a frame again with `restart`."""
        raise AssertionError("defined by each layer kind")

    def function(
        self, m: Module, elements: list[Value], marks: list[dict[str, Value]]
    ) -> tuple[list[Value], list[Value]]:
        """The lanes of the result, `config.function_cycles` after the element registers, and codes.

        `marks[r]` are those of the word r cycles after the element registers.
        """
        raise AssertionError("defined by each layer kind")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, site = self.config, self.site
        self.group = group = ControlGroup(m, site, config.control)
        self.post = UnitRegisters(m, site, UnitGuard(config.post))
        self.guard = UnitGuard(config.post, config.stream)
        active = config.coded or config.compared
        self.spoiled = Spoiled(m, config.function_cycles + 1, active=active)
        heads = self._operands(m)
        fifo = OutputFifo(
            config.out_lanes, config.out_bits, config.fifo_beats, 0, site,
            control=config.control, code=config.stream,
        )  # fmt: skip
        m.submodules.fifo = fifo
        issue, idle = Signal(), Signal()
        plan = self._start(m, heads, issue)
        used = group.register(range(config.fifo_beats + 1), "used")
        popped = fifo.o.valid & fifo.o.ready
        m.d.comb += issue.eq(self.complete & (used < config.fifo_beats))
        group.set(used, Mux(idle, 0, used - popped) + issue)
        elements, codes = [], []
        for k, head in enumerate(heads):
            element = site.register(len(head.payload.data), f"element_{k}", "activation")
            m.d.sync += element.eq(head.payload.data)
            elements.append(element)
            if config.in_code(k) != "none":
                codes.append(site.register(len(head.payload.code), f"code_{k}", "activation"))
                m.d.sync += codes[k].eq(head.payload.code)
        stages = self._marks(m, plan, issue, heads)
        checked = self._checked(m, elements, codes, stages[0])
        outputs, out_codes = self.function(m, checked, stages)
        if config.stream != "none":
            m.d.comb += fifo.beat.code.eq(Cat(*out_codes))
        self._close()
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

    def _start(self, m: Module, heads: list[Any], issue: Signal) -> Schedule:
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
        self, m: Module, plan: Schedule, issue: Value, heads: list[Any]
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
            marks, parity = self.spoiled.mark(marks, parity, rank)
            stages.append(marks)
        return stages

    def _checked(
        self, m: Module, elements: list[Signal], codes: list[Signal], marks: dict[str, Value]
    ) -> list[Value]:
        """The elements as their codes have them; only operands that are taken matter."""
        if not self.config.coded:
            return list(elements)
        found: list[Value] = []
        for k, (element, operand) in enumerate(zip(elements, self.config.operands, strict=True)):
            code = self.config.in_code(k)
            if code == "none":
                found.append(element)
                continue
            right, wrong = check_word(m, code, element, codes[k], operand.bits)
            self.spoiled.add(0, wrong & marks.get(f"take_{k}", Const(1, 1)))
            found.append(right)
        return found

    def _close(self) -> None:
        """No more registers and findings."""
        ranks = self.config.function_cycles + 1
        broken = self.post.broken(ranks)
        if self.config.compared:
            for rank in range(ranks):
                self.spoiled.add(rank, broken[rank])
        self.spoiled.close()

    def result(self, unit: Requantizer, start: int) -> Value:
        """A requantiser's result, its code above it; upsets are marked from rank `start` on."""
        if self.config.compared:
            for rank in range(len(unit.broken)):
                self.spoiled.add(start + rank, unit.broken[rank])
        return unit.q if self.config.stream == "none" else Cat(unit.q, unit.code)

    def with_code(self, m: Module, value: Value) -> Value:
        """An element that passes as it is, its code above it."""
        if self.config.stream == "none":
            return value
        return Cat(value, encode(m, self.config.stream, value))

    def halves(self, words: list[Value]) -> tuple[list[Value], list[Value]]:
        """Elements, and the codes above them."""
        bits = self.config.out_bits
        if self.config.stream == "none":
            return words, []
        return [word[:bits] for word in words], [word[bits:] for word in words]

    def _operands(self, m: Module) -> list[Any]:
        """The streams behind the operands' FIFOs."""
        config, heads = self.config, []
        for k, operand in enumerate(config.operands):
            fifo = SkipFifo(
                operand.lanes, operand.bits, operand.depth, self.site,
                control=config.control, code=config.in_code(k),
            )  # fmt: skip
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
        if self.config.alarmed:
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


class Together(Join):
    """A word of every operand at every start."""

    def schedule(self, m: Module, move: Value, restart: Value, heads: list[Any]) -> Schedule:
        inside = self.group.register(1, "inside")
        end = heads[0].payload.last
        with m.If(restart):
            self.group.set(inside, 0)
        with m.Elif(move):
            self.group.set(inside, ~end)
        every: list[Value] = [Const(1, 1)] * len(heads)
        return Schedule(every, every, [~inside] * len(heads), ~inside, end)
