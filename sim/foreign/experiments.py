"""Faults in a bench's own simulation: one fault-free run that forks at each experiment.

Every experiment is the user's bench with the real upset: the bench may react to it. The flips are
made between the clock's edge and the first task of the bench that wakes for it.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...quant.errors import ClaimError, InputError
from ...quant.ir import IntArray
from ...quant.names import printable
from .. import cache
from ..faults import PERMANENT, Faults
from ..manifest import Words
from ..native_model import Design
from ..trace import Trace
from .bench import NO_VARIABLE, NOT_GOLDEN, WRAPPER, Bench, simulate

__all__ = ["Played", "Status", "play"]

CHUNK = 500
WALL_S = 120
SLACK_CYCLES = 1000
NEVER = 2**32 - 1


class Status(enum.IntEnum):
    """How the bench ended: all tests passed, one failed, none ended in time."""

    PASSED = 0
    FAILED = 1
    HANG = 2
    NOT_LANDED = 3
    LOST = 4


@dataclass(frozen=True)
class Played:
    """What became of n experiments: `status` [n] of `Status`; `flagged` [n] whether the flag was
    seen before the end; `differs` [n] the first cycle in which an output was not as without a
    fault, -1 if none was in the `cycles` [n] that ended before the bench did."""

    status: Words
    flagged: Words
    differs: IntArray
    cycles: IntArray


def play(
    bench: Bench,
    trace: Trace,
    faults: Faults,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Played:
    """Run the experiments; they end at a first failed test, or as a hang when the bench needs more
    than twice the fault-free cycles (or two minutes).

    Raises ClaimError if a flip did not land, the bench ran differently without a fault, or a
    process was lost; InputError if a register cannot be reached.
    """
    places = _Places(bench.source.design, bench.source.top)
    rows = np.zeros((len(faults), 4), np.int64)
    order = np.argsort(faults.cycle, kind="stable")
    for start in range(0, len(order), CHUNK):
        chosen = order[start : start + CHUNK]
        rows[chosen] = _play(bench, trace, faults.take(chosen), places, workers)
        if progress is not None:
            progress(len(chosen))
    return Played(rows[:, 0].astype(np.uint8), rows[:, 1].astype(np.uint8), rows[:, 2], rows[:, 3])


class _Places:
    """Where each target of the design's space lies: variable, word of an array, bit."""

    def __init__(self, design: Design, top: str) -> None:
        self.names: list[str] = []
        index: dict[str, int] = {}

        def variable(path: tuple[str, ...]) -> int:
            name = "\t".join((WRAPPER, top, *path))
            if name not in index:
                index[name] = len(self.names)
                self.names.append(name)
            return index[name]

        space, numbers = design.space, design.bit_numbers
        self.rows = np.zeros((space.first_config, 3), np.int64)
        for register in design.registers:
            for bit in register.bits:
                row = (variable(bit.path), 0, bit.offset)
                self.rows[numbers[bit.cell, bit.index]] = row
        for memory, entry in zip(space.memories, design.cut.memories, strict=True):
            words, bits = np.divmod(np.arange(memory.bits), memory.width)
            block = self.rows[memory.first : memory.first + memory.bits]
            block[:, 0], block[:, 1], block[:, 2] = variable(tuple(entry["path"])), words, bits


def _play(
    bench: Bench, trace: Trace, faults: Faults, places: _Places, workers: int | None
) -> IntArray:
    """One simulation of experiments in the order of their cycles: the columns of `Played`."""
    targets, which = np.unique(faults.target, return_inverse=True)
    stop = np.minimum(faults.stop, PERMANENT)
    events = np.stack((which, faults.mode, faults.start, stop), axis=1)
    owner = np.repeat(np.arange(len(faults)), np.diff(faults.first))
    events = events[np.lexsort((faults.start, owner))]  # the first one is when a child is forked
    limit = 2 * trace.cycles + SLACK_CYCLES
    cores = workers or len(os.sched_getaffinity(0))
    header = [limit, cores, WALL_S, len(faults), len(events), len(targets)]
    with cache.scratch() as work:
        with (work / "job").open("wb") as file:
            for block in (header, faults.first, events, places.rows[targets]):
                file.write(np.asarray(block).astype("<u4").tobytes())
        (work / "names").write_text("".join(f"{name}\n" for name in places.names))
        np.hstack((trace.stimulus, trace.response)).tofile(work / "golden")
        status = simulate(bench, work, WALL_S * (2 + len(faults)))
        if status:
            lines = (work / "log.txt").read_text(errors="replace").strip().splitlines() or [""]
            raise _broken(status, lines[-1].removeprefix("tercet: "))
        file_ = work / "results"
        found = np.fromfile(file_, "<u4").reshape(-1, 5) if file_.is_file() else np.zeros((0, 5))
    return _checked(found.astype(np.int64), len(faults))


def _broken(status: int, why: str) -> Exception:
    if status == NO_VARIABLE:
        name = printable(why.removeprefix(f"{WRAPPER}."))
        return InputError(
            f"register {name} cannot be reached in the simulator; give it a plain name"
        )
    if status == NOT_GOLDEN:
        return ClaimError("cocotb engine: without a fault the bench ran differently than before")
    return ClaimError(f"cocotb engine: {printable(why)}")


def _checked(found: IntArray, count: int) -> IntArray:
    """Rows in the order of the experiments, each there once."""
    if not np.array_equal(np.sort(found[:, 0]), np.arange(count)):
        raise ClaimError(f"cocotb engine: {len(found)} of {count} experiments came back")
    rows = found[np.argsort(found[:, 0])]
    if (rows[:, 1] == Status.NOT_LANDED).any():
        raise ClaimError("cocotb engine: a flip did not change exactly its bit of the state")
    if (rows[:, 1] == Status.LOST).any():
        raise ClaimError("cocotb engine: a process of the bench crashed")
    differs = np.where(rows[:, 4] == NEVER, -1, rows[:, 4])
    return np.stack((rows[:, 1], rows[:, 2], differs, rows[:, 3]), axis=1)
