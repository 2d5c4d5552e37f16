"""Layers that read several streams, or extend one: residual Add, Concat, Pad.

Each operand waits in a FIFO. A schedule names the operands that the next word takes; once their
words are there and the output has room the word starts, and nothing behind the start ever stalls.
A frame starts with the operands' `first` marks: words before it are dropped, and one in mid-frame
starts the schedule again, so that one upset cannot shift every later frame.
"""

from __future__ import annotations

import itertools
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from .arith import bipolar
from .join_base import Join, Schedule, Together
from .join_config import AddConfig, ConcatConfig, MergeConfig, Operand, PadConfig
from .requantize import Requantizer
from .site import Site

__all__ = ["AddJoin", "ConcatJoin", "MergeJoin", "PadJoin"]


class AddJoin(Together):
    """The rescaled sum of two streams, one rounding."""

    config: AddConfig

    def function(
        self, m: Module, elements: list[Value], marks: list[dict[str, Value]]
    ) -> tuple[list[Value], list[Value]]:
        config = self.config
        outputs: list[Value] = []
        pairs = list(zip(config.operands, config.multipliers, strict=True))
        offset = sum(operand.zero_point * scale for operand, scale in pairs)
        for i in range(config.out_lanes):
            site = Site(config.name, i)
            total: Value = Const(-offset, signed(config.acc_bits + 1))
            for k, (operand, scale) in enumerate(pairs):
                full = _element(elements[k], i, operand) * scale
                product = self.post.take(1, full.shape(), f"product_{k}_{i}", full, site)
                total = total + product
            unit = Requantizer(config.requantize, [0], config.acc_bits, site, self.guard)
            m.submodules[f"requantize_{i}"] = unit
            m.d.comb += unit.acc.eq(total)
            outputs.append(self.result(unit, 1))
        return self.halves(outputs)


class ConcatJoin(Join):
    """The channels of each operand in turn, pixel by pixel."""

    config: ConcatConfig

    def schedule(self, m: Module, move: Value, restart: Value, heads: list[Any]) -> Schedule:
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
        return Schedule(takes, takes, starts, starts[0], end, more)

    def function(
        self, m: Module, elements: list[Value], marks: list[dict[str, Value]]
    ) -> tuple[list[Value], list[Value]]:
        config, late = self.config, marks[-1]
        outputs: list[Value] = []
        for i in range(config.out_lanes):
            bits = config.out_bits + config.out_code_bits
            total: Value = Const(0, bits)
            for k in range(len(config.operands)):
                q = self._operand(m, elements[k], k, i)
                total = total | Mux(late[f"take_{k}"], q[:bits], 0)
            outputs.append(total)
        return self.halves(outputs)

    def _operand(self, m: Module, element: Value, k: int, lane: int) -> Value:
        """Lane `lane` of operand `k` behind its requantiser, as late as the slowest operand."""
        config = self.config
        low, high = config.bounds[k : k + 2]
        channels = [word * config.out_lanes + lane for word in range(high - low)]
        return _rescaled(m, self, element, (k, lane), channels, self.word - low)


class MergeJoin(Together):
    """The channels of every operand side by side, whole pixels."""

    config: MergeConfig

    def function(
        self, m: Module, elements: list[Value], marks: list[dict[str, Value]]
    ) -> tuple[list[Value], list[Value]]:
        config = self.config
        outputs = []
        for k, lane in config.picks:
            channels = [lane % (config.operands[k].lanes // config.pixels)]
            q = _rescaled(m, self, elements[k], (k, lane), channels, Const(0, 1))
            outputs.append(q[: config.out_bits + config.out_code_bits])
        return self.halves(outputs)


class PadJoin(Join):
    """The image inside a border of constant words.

    A frame's border starts when the frame's first word is there, so that the latency is defined.
    """

    config: PadConfig

    def schedule(self, m: Module, move: Value, restart: Value, heads: list[Any]) -> Schedule:
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
        return Schedule([inside | begin], [inside], [origin | begin], begin, end, more)

    def function(
        self, m: Module, elements: list[Value], marks: list[dict[str, Value]]
    ) -> tuple[list[Value], list[Value]]:
        config, late, bits = self.config, marks[-1], self.config.out_bits
        fill = self.with_code(m, Const(config.value % (1 << bits), bits))
        lanes = range(len(elements[0]) // bits)
        words = [self.with_code(m, elements[0].word_select(lane, bits)) for lane in lanes]
        before = self._before(m, words, late)
        outputs: list[Value] = []
        for pick in config.picks:
            if pick is None:
                outputs.append(fill)
            elif pick < 0:
                element = before.word_select(config.delayed + pick, len(words[0]))
                outputs.append(Mux(late["after"], element, fill))
            else:
                outputs.append(Mux(late["take_0"], words[pick], fill))
        return self.halves(outputs)

    def _before(self, m: Module, words: list[Value], late: dict[str, Value]) -> Value:
        """The last elements of the word before, where a word takes some of them."""
        delayed = self.config.delayed
        if not delayed:
            return Const(0, 0)
        last = Cat(*words[-delayed:])
        before = self.post.register(len(last), "before", "activation")
        with m.If(late["valid"] & late["take_0"]):
            self.post.set(before, last)
        self.spoiled.add(0, self.post.fault(before) & late["after"])
        return before


def _rescaled(
    m: Module,
    join: ConcatJoin | MergeJoin,
    element: Value,
    place: tuple[int, int],
    channels: list[int],
    index: Value,
) -> Value:
    """Lane `place` (operand, lane) behind its requantiser, as late as the slowest operand.

    `channels` are those of each table index, `index` that of the word.
    """
    (k, lane), config = place, join.config
    site, operand, kind = Site(config.name, lane), config.operands[k], config.requantize[k]
    done = 0
    if kind is None:
        q = join.with_code(m, element.word_select(lane, operand.bits))
    else:
        value = _element(element, lane, operand) - operand.zero_point
        unit = Requantizer(kind, channels, len(value), site, join.guard)
        m.submodules[f"requantize_{k}_{lane}"] = unit
        m.d.comb += [unit.acc.eq(value), unit.index.eq(index)]
        q, done = join.result(unit, 0), unit.cycles
    for number, rank in enumerate(range(done, config.function_cycles)):
        name = f"wait_{k}_{lane}_{number}"
        q = join.post.take(rank + 1, len(q), name, q, site, "activation")
    return q


def _element(word: Value, lane: int, operand: Operand) -> Value:
    """The value of one lane of an operand's word."""
    raw: Value = word.word_select(lane, operand.bits)
    if operand.bipolar:
        return bipolar(raw)
    return raw.as_signed() if operand.signed else raw
