"""A fault-free run of a design as values of its ports, one row a clock cycle.

Made by a bench that is not ours (sim/foreign), replayed by the engines: cycle t ends with rising
edge t of the clock, and row t holds what a flip-flop samples at that edge; the last row is the
cycle in which the bench ends. A flip at the start of cycle t strikes after edge t - 1.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..quant.ir import IntArray
from .manifest import Words

__all__ = ["Port", "Replayed", "Trace", "Verdict", "container_bytes"]

Flags = np.ndarray[Any, np.dtype[np.bool_]]


def container_bytes(width: int) -> int:
    """Bytes of the variable that Verilator declares for `width` bits."""
    for bytes_ in (1, 2, 4, 8):
        if width <= 8 * bytes_:
            return bytes_
    return 4 * -(-width // 32)


@dataclass(frozen=True)
class Port:
    """One port of the top module."""

    name: str
    width: int

    @property
    def bytes(self) -> int:
        """Bytes that the port takes in a row of a trace, little endian."""
        return container_bytes(self.width)


@dataclass(frozen=True)
class Trace:
    """Values of all inputs but the clock, and of all outputs, before each rising edge.

    `stimulus` uint8 [cycles, sum of bytes of `inputs`], `response` uint8 [cycles, sum of bytes of
    `outputs`]: the ports side by side, each in its own whole bytes. A replay has to give the
    recorded outputs from cycle `settled` on: before it an asynchronous reset that is active from
    the beginning, without an edge, is a level to the engines and nothing to the simulation.
    """

    clock: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    stimulus: Words
    response: Words
    settled: int = 0

    @property
    def cycles(self) -> int:
        """Number of rows, one more than rising edges."""
        return len(self.stimulus)

    def column(self, name: str) -> Words:
        """The bytes [cycles, port.bytes] of a port, least significant first."""
        for ports, rows in ((self.inputs, self.stimulus), (self.outputs, self.response)):
            first = 0
            for port in ports:
                if port.name == name:
                    return rows[:, first : first + port.bytes]
                first += port.bytes
        raise KeyError(name)

    def bit(self, name: str, bit: int) -> Flags:
        """One bit [cycles] of a port."""
        return np.asarray(self.column(name)[:, bit >> 3] >> (bit & 7) & 1, np.bool_)


class Verdict(enum.IntEnum):
    """How a replayed experiment ended: state golden again and no output ever differed; no output
    differed but the state did at the end of the trace; an output differed."""

    GOLDEN = 0
    LATENT = 1
    VISIBLE = 2


@dataclass(frozen=True)
class Replayed:
    """What an engine saw of n experiments that replay the stimulus: `verdict` [n] of `Verdict`,
    `end_cycle` [n] the cycle at whose start the state was golden again, or in which an output first
    differed, or the number of cycles where neither came about."""

    verdict: Words
    end_cycle: IntArray
