"""Sequencer: walks passes and steps, starts groups, and times the marks that follow the data."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .arith import rom
from .codes import check_word
from .config import Turn, WindowedConfig, clog2
from .control import ControlGroup, hold_alarm
from .fifo import OutputFifo
from .registers import Spoiled
from .site import Site
from .window import WindowBuffer

__all__ = ["USE_RANK", "Sequencer", "assemble", "read_elements"]

MARKS = ("valid", "first", "last", "start", "begin", "end", "err")
"""A step; a group's first and last step; a window's first pass; a frame's first and last group;
the frame was flagged upstream."""

USE_RANK = 2
"""Cycles from a step's issue to its elements and weights where they are used."""


class Sequencer(wiring.Component):
    """Issues one step a cycle; a group starts when its window is complete and the FIFO has room.

    Room is counted in credits: `beats` are taken when a group starts and given back when a beat
    leaves the FIFO. Whenever nothing is under way the count restarts from zero, so an upset in it
    does not last.

    Parameters: `config`; `delay`, cycles from a step's issue to its place in the accumulator; the
    `site` of the registers.

    Members: `available`, `popped`, `idle` in; where checks find things (`config.spoils`) also
    `spoiled`, whose bit r says that the step issued r cycles ago reads something wrong; `issue`,
    `step`, `pass_`, `advance`, `start`, `begin`, `end`, `address` (of the step's weights), marks of
    the step that is issued; `valid`, `first`, `group` as they reach the accumulator; `done_*`, one
    cycle later, when a group is complete that leaves; `alarm`, a control register was upset.

    A pass that is computed three times counts as three. Its first two results wait: they take no
    credit; `done_keep_0` and `done_keep_1` mark them, `done_voted` the third where other results
    leave without a vote.
    """

    def __init__(self, config: WindowedConfig, delay: int, site: Site) -> None:
        self.config, self.delay, self.site = config, delay, site
        steps, passes = config.window.steps, len(config.window.passes)
        waiting = {f"done_{name}": Out(1) for name in self.kept}
        more = self.more_members()
        super().__init__(
            {
                "available": In(1),
                "first_window": In(1),
                "last_window": In(1),
                "err_in": In(1),
                **({"spoiled": In(delay)} if config.spoils else {}),
                "popped": In(1),
                "idle": In(1),
                "issue": Out(1),
                "start": Out(1),
                "advance": Out(1),
                "step": Out(clog2(steps)),
                "pass_": Out(clog2(passes)),
                "address": Out(clog2(steps * sum(config.leaving))),
                "valid": Out(1),
                "first": Out(1),
                "last": Out(1),
                "group": Out(clog2(passes)),
                "busy": Out(1),
                "alarm": Out(1),
                "done_valid": Out(1),
                "done_begin": Out(1),
                "done_end": Out(1),
                "done_err": Out(1),
                "done_group": Out(clog2(passes)),
                **waiting,
                **more,
            }
        )

    def more_members(self) -> dict[str, Any]:
        """Members of a sequencer that does more."""
        return {}

    @property
    def done(self) -> dict[str, Signal]:
        """Marks of a complete group: valid, begin, end, err, group."""
        names = ("valid", "begin", "end", "err", "group")
        return {name: getattr(self, f"done_{name}") for name in names}

    def resume(self, m: Module, group: ControlGroup, count: Signal) -> None:
        """Groups are counted from another one on; here never."""

    def watch(self, m: Module, fifo: OutputFifo, under_way: list[Value]) -> None:
        """Nothing is under way when the pipeline, `under_way` and the FIFO are empty."""
        m.d.comb += self.idle.eq(~self.busy & ~Cat(*under_way).any() & fifo.empty)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        steps, passes = config.window.steps, len(config.window.passes)
        group = ControlGroup(m, self.site, config.control)
        step = group.register(range(max(2, steps)), "step_count")
        pass_ = group.register(range(max(2, passes)), "pass_count")
        at = group.register(clog2(steps * sum(config.leaving)), "address_count")
        used = group.register(range(config.fifo_beats + 1), "used")
        first, last, start, final = Signal(), Signal(), Signal(), Signal()
        go = Signal()
        m.d.comb += [
            first.eq(step == 0),
            last.eq(step == steps - 1),
            start.eq(pass_ == 0),
            final.eq(pass_ == passes - 1),
            go.eq(self.available & (used <= config.fifo_beats - config.beats)),
            self.issue.eq(~first | go),
            self.advance.eq(self.issue & last & final),
            self.start.eq(first & start),
            self.step.eq(step),
            self.pass_.eq(pass_),
            self.address.eq(at),
        ]
        with m.If(self.issue):
            group.set(step, Mux(last, 0, step + 1))
            group.set(at, Mux(self.advance, 0, self._following(m, at, last)))
            with m.If(last):
                group.set(pass_, Mux(final, 0, pass_ + 1))
        taken = Signal(range(config.beats + 1))
        taking: Value = first & go
        if self.kept:
            taking = taking & self._is(m, pass_, "leaves", Turn.PLAIN, Turn.VOTED)
        m.d.comb += taken.eq(Mux(taking, config.beats, 0))
        group.set(used, Mux(self.idle, 0, used - self.popped) + taken)
        self._marks(m, group, first, last, start, final)
        m.d.comb += self.alarm.eq(group.finish())
        return m

    @property
    def kept(self) -> dict[str, Turn]:
        """Marks of results that wait and are voted; none where no pass is repeated."""
        turns = self.config.turns
        if Turn.FIRST not in turns:
            return {}
        found = {"keep_0": Turn.FIRST, "keep_1": Turn.SECOND}
        return found | ({"voted": Turn.VOTED} if Turn.PLAIN in turns else {})

    def _is(self, m: Module, group: Value, name: str, *turns: Turn) -> Signal:
        """Whether the turn with the number `group` is one of `turns`."""
        return rom(m, [turn in turns for turn in self.config.turns], group, 1, name)

    def _following(self, m: Module, at: Signal, last: Signal) -> Value:
        """The address after `at`: the first of the pass again where that is repeated."""
        if not self.kept:
            return at + 1
        again = self._is(m, self.pass_, "again", Turn.FIRST, Turn.SECOND)
        return Mux(last & again, at - (self.config.window.steps - 1), at + 1)

    def _marks(
        self,
        m: Module,
        group: ControlGroup,
        first: Signal,
        last: Signal,
        start: Signal,
        final: Signal,
    ) -> None:
        """Shift the marks along with the data; count groups where they are summed up."""
        marks: dict[str, Value] = {
            "valid": self.issue,
            "first": first,
            "last": last,
            "start": start,
            "begin": self.first_window & (start if self.config.leaving[0] else self.pass_ == 2),
            "end": self.last_window & final,
            "err": self.err_in,
        }
        valids: list[Value] = []
        parity = None
        for rank in range(1, self.delay):
            marks, parity = group.pipe(marks, str(rank), parity)
            valids.append(marks["valid"])
            if self.config.spoils:
                marks, parity = {**marks, "err": marks["err"] | self.spoiled[rank]}, None
        passes = len(self.config.window.passes)
        if passes > 1:
            count = group.register(clog2(passes), "group_count")
            m.d.comb += self.group.eq(Mux(marks["start"], 0, Mux(marks["first"], count + 1, count)))
            with m.If(marks["valid"]):
                group.set(count, self.group)
            self.resume(m, group, count)
            m.d.comb += self.done_group.eq(count)
        m.d.comb += [
            self.valid.eq(marks["valid"]),
            self.first.eq(marks["first"]),
            self.last.eq(marks["valid"] & marks["last"]),
        ]
        complete = marks["valid"] & marks["last"]
        finished = {"valid": complete}
        finished |= {name: marks[name] for name in ("begin", "end", "err")}
        if self.config.spoils and self.config.window.steps > 1:
            spoiled = group.register(1, "spoiled")
            finished["err"] = marks["err"] | (spoiled & ~marks["first"])
            with m.If(marks["valid"]):
                group.set(spoiled, finished["err"])
        if self.kept:
            leaves = self._is(m, self.group, "group_leaves", Turn.PLAIN, Turn.VOTED)
            finished["valid"] = complete & leaves
        for name, turn in self.kept.items():
            finished[name] = complete & self._is(m, self.group, f"group_{name}", turn)
        done, _ = group.pipe(finished, "done")
        m.d.comb += [
            self.busy.eq(Cat(*valids, done["valid"]).any()),
            self.done_valid.eq(done["valid"]),
            self.done_begin.eq(done["begin"]),
            self.done_end.eq(done["end"]),
            self.done_err.eq(done["err"]),
            *(getattr(self, f"done_{name}").eq(done[name]) for name in self.kept),
        ]


def read_elements(m: Module, config: WindowedConfig, window: Any, spoiled: Spoiled) -> Value:
    """The elements of a step, checked by their codes where they are used."""
    act: Value = window.act
    if not config.coded or config.direct:
        return act
    code, bits = config.in_code(0), config.window.lane_bits
    act, wrong = check_word(m, code, act, window.code, bits)
    spoiled.add(USE_RANK, wrong)
    return act


def assemble(
    m: Module,
    layer: Any,
    window: WindowBuffer,
    control: Sequencer,
    fifo: OutputFifo,
    alarm: Value,
) -> None:
    """Add buffer, sequencer and FIFO to a layer, join them, and join its streams `i` and `o`.

    With parity an upset of control in any part, or `alarm` of the layer's own registers, flags what
    leaves.
    """
    m.submodules.window, m.submodules.sequencer, m.submodules.fifo = window, control, fifo
    connect(m, flipped(layer.i), window.i)
    m.d.comb += [
        control.available.eq(window.available),
        control.first_window.eq(window.first_window),
        control.last_window.eq(window.last_window),
        control.err_in.eq(window.err),
        control.popped.eq(fifo.o.valid & fifo.o.ready),
        window.step.eq(control.step),
        window.pass_.eq(control.pass_),
        window.read.eq(control.issue),
        window.advance.eq(control.advance),
        layer.o.valid.eq(fifo.o.valid),
        layer.o.payload.eq(fifo.o.payload),
        fifo.o.ready.eq(layer.o.ready),
    ]
    if layer.config.alarmed:
        alarms = window.alarm | control.alarm | fifo.alarm | alarm
        left = layer.o.valid & layer.o.ready & layer.o.payload.last
        flag = hold_alarm(m, layer.site, alarms, left)
        m.d.comb += layer.o.payload.err.eq(fifo.o.payload.err | flag)
