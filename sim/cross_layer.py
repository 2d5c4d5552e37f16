"""The same fault in the integer graph and in the circuit: predicted words beside observed ones.

Upsets of product, accumulator and weight registers are tensor faults (`schedule`). The software
engine predicts the output words of their inference; the native engine measures them. They must be
equal, word by word, and no other inference may differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..quant import serialize
from ..quant.errors import InputError
from ..quant.faults import TensorFaults
from ..quant.faults.layer import Events
from ..quant.ir import Conv2d, Dense, Graph, IntArray
from .engines import native
from .engines.software import SoftwareEngine
from .faults import Faults
from .outcomes import FrameFlag, Observed, Outcome, top1
from .schedule import Schedule, accumulator_bits
from .sites import Register
from .testbed import StreamTestbed

__all__ = ["ROLES", "Comparison", "CrossLayer", "Upsets"]

ROLES = ("product", "accumulator", "weight")

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Upsets:
    """Upsets [n]: `register` (number among the testbed's), `bit`, `cycle`; what they are in the
    integer graph, `faults` of n experiments on the frames of the stream."""

    register: IntArray
    bit: IntArray
    cycle: IntArray
    faults: TensorFaults

    def __len__(self) -> int:
        return len(self.register)


@dataclass(frozen=True)
class Comparison:
    """What was predicted and measured: the circuit's output `words` [n, *shape] of the inference
    that the upset is in; classes [n] of `Outcome` (masked, tolerable or critical by the words
    alone, whatever was flagged); and whether every word of the stream agrees [n]."""

    words: IntArray
    predicted: Bytes
    measured: Bytes
    agrees: Mask


class CrossLayer:
    """A build directory's circuit and its integer graph, side by side."""

    def __init__(self, testbed: StreamTestbed) -> None:
        self.testbed, self.prepared = testbed, testbed.prepared
        found = self.prepared.model.manifest
        path = found.directory / "graph.json"
        if not path.is_file():
            raise InputError(f"{path}: is missing; the comparison needs the integer graph")
        self.graph: Graph = serialize.load(path)
        self.schedule = Schedule(self.prepared, self.graph)
        play = self.prepared.stimulus
        self.engine = SoftwareEngine(self.graph, play.frames, None, accumulator_bits(found))

    def registers(self, roles: tuple[str, ...] = ROLES) -> list[Register]:
        """The registers of these roles in layers with multipliers."""
        known = self.schedule.layers
        return [r for r in self.testbed.registers if r.role in roles and r.layer in known]

    def draw(self, count: int, seed: int, roles: tuple[str, ...] = ROLES) -> Upsets:
        """`count` upsets, uniform over the bits of `registers(roles)` x the cycles of the window,
        less those that are no tensor fault."""
        rng = np.random.default_rng(seed)
        registers = self.registers(roles)
        widths = np.array([register.width for register in registers])
        ends = np.cumsum(widths)
        bit = rng.integers(0, ends[-1], count)
        register = np.searchsorted(ends, bit, side="right")
        return self.upsets(
            registers, register, bit - (ends - widths)[register],
            rng.integers(*self.testbed.window, count),
        )  # fmt: skip

    def upsets(
        self, registers: list[Register], register: IntArray, bit: IntArray, cycle: IntArray
    ) -> Upsets:
        """Upsets of `registers[register]`; those that are no tensor fault are left out."""
        rows, frames, lists = [], [], []
        for row, (r, b, c) in enumerate(zip(register, bit, cycle, strict=True)):
            found = self.schedule.faults(registers[r], int(b), int(c))
            if found is not None:
                rows.append(row)
                frames.append(found[0])
                lists.append(found[1])
        faults = TensorFaults.listed(lists, np.array(frames, np.int64))
        numbers = {id(r): i for i, r in enumerate(self.testbed.registers)}
        place = np.array([numbers[id(r)] for r in registers], np.int64)
        return Upsets(place[register[rows]], bit[rows], cycle[rows], faults)

    def compare(self, upsets: Upsets, workers: int | None = None) -> Comparison:
        """Run both engines on the same upsets."""
        words, strange = self.measure(upsets, workers)
        predicted = self.engine.run(upsets.faults)
        same = (words == predicted.words).reshape(len(words), -1).all(axis=1)
        golden = self.engine.words[upsets.faults.frame]
        measured = np.full(len(words), Outcome.MASKED, np.uint8)
        wrong = (words != golden).reshape(len(words), -1).any(axis=1)
        measured[wrong] = Outcome.SDC_TOLERABLE
        measured[top1(words) != top1(golden)] = Outcome.SDC_CRITICAL
        return Comparison(words, predicted.outcome, measured, same & ~strange)

    def measure(self, upsets: Upsets, workers: int | None = None) -> tuple[IntArray, Mask]:
        """What the circuit delivers: output [n, *shape] of each upset's inference, and whether
        another inference was wrong or any frame malformed [n]."""
        numbers, registers = self.testbed.numbers, self.testbed.registers
        bits = [registers[r].bits[b] for r, b in zip(upsets.register, upsets.bit, strict=True)]
        target = np.array([numbers[bit.cell, bit.index] for bit in bits], np.int64)
        struck = Faults.single(upsets.cycle, target)
        observed = native.inject(self.prepared, struck, workers=workers)
        frame = upsets.faults.frame
        words: IntArray = self.engine.words[frame]
        mine = observed.frame == frame[observed.experiment]
        seen = self.prepared.model.manifest.output.unpack(observed.words[mine])
        words[observed.experiment[mine]] = seen.reshape(-1, *words.shape[1:])
        return words, self._strange(observed, frame)

    def differences(self, upsets: Upsets) -> tuple[IntArray, IntArray]:
        """By the integer graph: which upsets change the word of their layer's result before the
        activation, and by how much."""
        rows, found = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        faults, engine = upsets.faults, self.engine
        for number, name in enumerate(faults.layers):
            node, mine = self.graph.node(name), np.flatnonzero(faults.layer == number)
            assert isinstance(node, Conv2d | Dense)
            columns = ("tensor", "index", "step", "span", "width", "op", "value")
            experiment = faults.experiment[mine]
            events = Events(experiment, *(getattr(faults, key)[mine] for key in columns))
            acc, words = engine.accumulator(node), engine.layers.words[name]
            operand = engine.golden[node.inputs[0]]
            at, element, value = words.results(operand, acc, events, faults.frame, before=True)
            exact = acc.reshape(len(acc), -1)[faults.frame[at], element]
            difference = value - words.finish.before(exact, element % node.out_channels)
            rows.append(at[difference != 0])
            found.append(difference[difference != 0])
        return np.concatenate(rows), np.concatenate(found)

    def _strange(self, observed: Observed, frame: IntArray) -> Mask:
        """Whether another inference was wrong, or any frame malformed [n]."""
        wrong = (observed.flags & (FrameFlag.WRONG | FrameFlag.MALFORMED)) != 0
        malformed = (observed.flags & FrameFlag.MALFORMED) != 0
        elsewhere = observed.frame != frame[observed.experiment]
        found = np.zeros(len(frame), bool)
        found[observed.experiment[(wrong & elsewhere) | malformed]] = True
        return found
