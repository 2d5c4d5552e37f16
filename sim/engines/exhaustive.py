"""Every flip-flop bit in every cycle of a window, by dynamic fault collapsing.

One cycle of the bit-parallel engine tells what becomes of each flip: it vanishes, it is exactly one
flipped bit of the next state, or neither. In the second case everything after is what the flip of
that bit in the next cycle does, so its fate is inherited; only the rest is simulated. A flip
inherits only if in its cycle all outputs that matter, the handshake, the counters and all writes to
memories are the fault-free ones: then the environment and the memories are golden as well.

The watch ends a number of frames after the one that is delivered next. Where the next cycle watches
one frame more, a fate is inherited only if it was golden again before the shorter watch ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...quant.errors import InputError
from ...quant.ir import IntArray
from .. import outcomes
from ..faults import Faults
from ..outcomes import End, Observed
from .bitparallel import Lanes

if TYPE_CHECKING:
    from ..steady import Prepared

__all__ = ["Fates", "run"]

GONE, SPREAD = -1, -2
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Fates:
    """What becomes of a flip of each bit at the start of each cycle `start`..: arrays
    [cycles, ff_bits].

    `fate` is the simulated experiment, a row of `observed`, that shows it, or -1 if the flip
    vanished; `end_cycle` the cycle at which it was golden again or the watch ended; `outcome` of
    `Outcome`; `inferences` results delivered until it was golden again, -1 where it was not in the
    watch. `simulated` experiments were run.
    """

    start: int
    fate: IntArray
    end_cycle: IntArray
    outcome: Bytes
    inferences: IntArray
    observed: Observed
    simulated: int

    @property
    def faults(self) -> int:
        """Number of (cycle, bit)."""
        return self.fate.size

    def of(self, cycle: IntArray, bit: IntArray) -> Observed:
        """As an engine reports flips [n] of bits at the starts of cycles."""
        fate, seen = self.fate[cycle - self.start, bit], self.observed
        gone = fate < 0
        order = np.argsort(seen.experiment, kind="stable")
        low, high = (np.searchsorted(seen.experiment[order], fate, s) for s in ("left", "right"))
        counts = np.where(gone, 0, high - low)
        first = np.cumsum(counts) - counts
        rows = order[np.arange(counts.sum()) + np.repeat(low - first, counts)]
        rest = [getattr(seen, key)[rows] for key in ("frame", "flags", "words")]
        ends = np.where(gone, End.GOLDEN, seen.ends[fate]).astype(np.uint8)
        events = np.where(gone, 0, seen.events[fate]).astype(np.uint8)
        end_cycle = self.end_cycle[cycle - self.start, bit]
        return Observed(ends, events, end_cycle, np.repeat(np.arange(len(fate)), counts), *rest)


def run(
    prepared: Prepared,
    start: int | None = None,
    stop: int | None = None,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Fates:
    """All flips at the starts of cycles start..stop-1, default the stimulus's window.

    `progress` is told numbers of simulated experiments. InputError for cycles outside the window.
    """
    window = prepared.stimulus.window(prepared.golden)
    start, stop = window[0] if start is None else start, window[1] if stop is None else stop
    if not window[0] <= start < stop <= window[1]:
        raise InputError(f"cycles {start}..{stop - 1} are not in the window {window}")
    return _Exhaustive(prepared, start, stop, Lanes(prepared, workers), progress).fates()


class _Exhaustive:
    def __init__(
        self,
        prepared: Prepared,
        start: int,
        stop: int,
        lanes: Lanes,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.prepared, self.lanes, self.progress = prepared, lanes, progress
        self.start, self.cycles = start, np.arange(start, stop)
        self.successor = lanes.collapse(start, stop)
        # What the last cycle hands on is not in the window.
        self.successor[-1][self.successor[-1] >= 0] = SPREAD
        self.number = np.full(self.successor.shape, -1, np.int64)  # of the simulated experiment
        self.parts: list[Observed] = []
        self.diverged = np.zeros(0, bool)
        self.limits = prepared.golden.done[prepared.watched(self._flips())[1] - 1] + 1

    def _flips(self) -> Faults:
        return Faults.single(self.cycles, np.zeros(len(self.cycles), np.int64))

    def fates(self) -> Fates:
        """Simulate what spreads, then what the end of the watch keeps from inheriting."""
        self._simulate(self.successor == SPREAD)
        self._simulate(self._bounded(*self._inherited()))
        fate, end_cycle = self._inherited()
        observed = _joined(self.parts)
        golden = self.prepared.golden
        classes = outcomes.classify(observed, golden.words, self.prepared.model.manifest.output)
        gone = fate < 0
        outcome = np.where(gone, outcomes.Outcome.MASKED, classes[fate]).astype(np.uint8)
        delivered = np.searchsorted(golden.done, end_cycle)
        inferences = delivered - np.searchsorted(golden.done, self.cycles)[:, None]
        inferences[~gone & (observed.ends[fate] != End.GOLDEN)] = -1
        simulated = len(observed.ends)
        return Fates(self.start, fate, end_cycle, outcome, inferences, observed, simulated)

    def _simulate(self, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        """Run these flips and give them the next numbers."""
        row, bit = np.nonzero(chosen)
        if not len(row):
            return
        observed, diverged = self.lanes.inject(Faults.single(self.cycles[row], bit), self.progress)
        self.number[row, bit] = len(self.diverged) + np.arange(len(row))
        self.diverged = np.concatenate((self.diverged, diverged))
        self.parts.append(observed)

    def _inherited(self) -> tuple[IntArray, IntArray]:
        """Fate and end cycle of all flips, from the last cycle back."""
        known = np.concatenate([part.end_cycle for part in self.parts] or [np.zeros(1, np.int64)])
        fate, end_cycle = self.number.copy(), np.empty(self.number.shape, np.int64)
        for at in range(len(self.cycles) - 1, -1, -1):
            own, successor = fate[at], self.successor[at]
            end = np.where(own >= 0, known[own], self.cycles[at] + 1)
            hands_on = np.flatnonzero((own < 0) & (successor >= 0))
            if len(hands_on):
                own[hands_on] = fate[at + 1, successor[hands_on]]
                end[hands_on] = end_cycle[at + 1, successor[hands_on]]
            end_cycle[at] = end
        return fate, end_cycle

    def _bounded(self, fate: IntArray, end_cycle: IntArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Flips that inherit what a longer watch saw, and may not."""
        chosen = np.zeros(fate.shape, bool)
        ends = np.concatenate([part.ends for part in self.parts] or [np.zeros(1, np.uint8)])
        for at in np.flatnonzero(self.limits[:-1] != self.limits[1:]):
            simulated = fate[at] >= 0
            late = (ends[fate[at]] != End.GOLDEN) | (end_cycle[at] > self.limits[at])
            late |= self.diverged[fate[at]] if len(self.diverged) else False
            chosen[at] = simulated & late & (self.number[at] < 0)
        return chosen


def _joined(parts: list[Observed]) -> Observed:
    """The parts, numbered one after the other."""
    offsets = np.cumsum([0] + [len(part.ends) for part in parts])
    experiment = [p.experiment + at for p, at in zip(parts, offsets, strict=False)]
    rest = {
        key: np.concatenate([getattr(part, key) for part in parts])
        for key in ("ends", "events", "end_cycle", "frame", "flags", "words")
    }
    return Observed(experiment=np.concatenate(experiment), **rest)
