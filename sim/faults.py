"""A list of faults, the same for every engine, and the numbering of what they strike.

An experiment is one or more events. An event strikes one bit (its *target*): a flip inverts it
once at the start of a cycle, a stuck-at holds it at a value at the start of every cycle of a span.
Bits of flip-flops come first in the numbering (in the order of the cut netlist), then those of
memories, then configuration bits.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from ..quant.errors import InputError
from ..quant.ir import IntArray

__all__ = ["PERMANENT", "Faults", "MemoryRange", "Mode", "Space"]

#: `stop` of a stuck-at that never ends.
PERMANENT = 2**32 - 1


class Mode(enum.IntEnum):
    """What an event does to its target."""

    FLIP = 0
    STUCK_AT_0 = 1
    STUCK_AT_1 = 2


@dataclass(frozen=True)
class MemoryRange:
    """The bits of one memory: `depth` words of `width` bits, numbered from `first` on, word by
    word, bit 0 first."""

    name: str
    width: int
    depth: int
    first: int

    @property
    def bits(self) -> int:
        """Number of bits."""
        return self.width * self.depth


@dataclass(frozen=True)
class Space:
    """All targets of a design: flip-flop bits, memories, configuration bits."""

    ff_bits: int
    memories: tuple[MemoryRange, ...] = ()
    config_bits: int = 0

    @classmethod
    def of(cls, ff_bits: int, memories: list[tuple[str, int, int]], config_bits: int = 0) -> Space:
        """`memories` as (name, width, depth), in the order of the engine."""
        ranges, first = [], ff_bits
        for name, width, depth in memories:
            ranges.append(MemoryRange(name, width, depth, first))
            first += width * depth
        return cls(ff_bits, tuple(ranges), config_bits)

    @property
    def memory_bits(self) -> int:
        """Bits of all memories."""
        return sum(memory.bits for memory in self.memories)

    @property
    def first_config(self) -> int:
        """Target number of configuration bit 0."""
        return self.ff_bits + self.memory_bits

    @property
    def size(self) -> int:
        """Number of targets."""
        return self.first_config + self.config_bits


@dataclass(frozen=True)
class Faults:
    """n experiments of e events. Experiment i is the events `first[i]`..`first[i + 1]` - 1.

    `target` [e] bit number in the design's `Space`; `mode` [e] of `Mode`; `start` [e] the cycle at
    whose start the event strikes; `stop` [e] the cycle after the last in which a stuck-at holds
    (`PERMANENT`: it never ends), `start + 1` for a flip.
    """

    first: IntArray
    target: IntArray
    mode: IntArray
    start: IntArray
    stop: IntArray

    @classmethod
    def flips(cls, start: IntArray, first: IntArray, target: IntArray) -> Faults:
        """Flips only: `start` [n] is the cycle of all flips of an experiment."""
        when = np.repeat(start, np.diff(first))
        return cls(first, target, np.zeros(len(target), np.int64), when, when + 1)

    @classmethod
    def single(cls, start: IntArray, target: IntArray) -> Faults:
        """One flip an experiment."""
        return cls.flips(start, np.arange(len(start) + 1), target)

    @classmethod
    def stuck(cls, start: IntArray, stop: IntArray, target: IntArray, value: IntArray) -> Faults:
        """One stuck-at `value` [n] an experiment."""
        mode = np.where(value != 0, Mode.STUCK_AT_1, Mode.STUCK_AT_0).astype(np.int64)
        return cls(np.arange(len(start) + 1), target, mode, start, stop)

    @property
    def cycle(self) -> IntArray:
        """Cycle [n] of each experiment's first event."""
        if not len(self):
            return np.zeros(0, np.int64)
        return np.asarray(np.minimum.reduceat(self.start, self.first[:-1]), np.int64)

    def check(self, space: Space, cycles: int) -> None:
        """InputError if there are no faults, or one strikes no target of `space`, starts outside
        the first `cycles` cycles, or ends before it starts."""
        if not len(self) or (np.diff(self.first) < 1).any():
            raise InputError("no faults: each experiment needs at least one event")
        if self.target.min() < 0 or self.target.max() >= space.size:
            raise InputError("a fault strikes no bit of the design")
        if self.start.min() < 0 or self.start.max() >= cycles:
            raise InputError("a fault strikes outside the fault-free run")
        if (self.stop <= self.start).any():
            raise InputError("a fault ends before it starts")

    def take(self, picks: IntArray) -> Faults:
        """The experiments of these numbers, in this order."""
        sizes = np.diff(self.first)[picks]
        first = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        rows = np.arange(first[-1]) + np.repeat(self.first[picks] - first[:-1], sizes)
        columns = (self.target, self.mode, self.start, self.stop)
        return Faults(first, *(column[rows] for column in columns))

    def part(self, start: int, stop: int) -> Faults:
        """Experiments start..stop-1."""
        return self.take(np.arange(start, stop))

    def __len__(self) -> int:
        return len(self.first) - 1
