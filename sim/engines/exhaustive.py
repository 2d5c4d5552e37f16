"""Every flip-flop bit in every cycle of a window, by dynamic fault collapsing.

One cycle of the bit-parallel engine tells what becomes of each flip: it vanishes, it is exactly one
flipped bit of the next state, or neither. In the second case everything after is what the flip of
that bit in the next cycle does, so its fate is inherited. The rest is simulated, but only until it
is a single flipped bit again: then what follows is known as well. A flip inherits only if in its
cycle all outputs that matter, the handshake, the counters and all writes to memories are the
fault-free ones, and an experiment only if its memories and its handshake are: then the environment
is golden too.

The watch ends a number of frames after the one that is delivered next. Where an heir's watch ends
earlier, a fate is inherited only if it was golden by then; else the flip is simulated to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...quant.errors import InputError
from ...quant.ir import IntArray
from .. import outcomes
from ..outcomes import End, Observed
from .bitparallel import Lanes
from .exhaustive_chains import GONE, SPREAD, Chains

if TYPE_CHECKING:
    from ..steady import Prepared

__all__ = ["Fates", "run"]

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Int32 = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True)
class Fates:
    """What becomes of a flip of each bit at the start of each cycle `start`..: arrays
    [cycles, ff_bits].

    `fate` is the simulated experiment that shows it, -1 if the flip vanished; `end_cycle` the cycle
    at which it was golden again or the watch ended; `detected` the cycle of the first delivered
    beat with the error flag, -1 none; `outcome` and `critical` as `outcomes.judge`;
    `inferences` results delivered until it was golden again, -1 where it was not in the watch.
    `simulated` experiments were run; `observed` holds them, with rows of those that are a fate.
    """

    start: int
    fate: Int32
    end_cycle: Int32
    detected: Int32
    outcome: Bytes
    critical: Bytes
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
        low, high = (np.searchsorted(seen.experiment, fate, side) for side in ("left", "right"))
        counts = high - low
        first = np.cumsum(counts) - counts
        rows = np.arange(counts.sum()) + np.repeat(low - first, counts)
        rest = [getattr(seen, key)[rows] for key in ("frame", "flags", "words")]
        ends = np.where(gone, End.GOLDEN, seen.ends[fate]).astype(np.uint8)
        events = np.where(gone, 0, seen.events[fate]).astype(np.uint8)
        end_cycle = self.end_cycle[cycle - self.start, bit].astype(np.int64)
        detected = self.detected[cycle - self.start, bit].astype(np.int64)
        owner = np.repeat(np.arange(len(fate)), counts)
        return Observed(ends, events, end_cycle, detected, owner, *rest)


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
    lanes = Lanes(prepared, workers)
    chains = Chains(lanes, start, stop, progress)
    chains.simulate(chains.successor == SPREAD, merge_until=stop)
    chains.simulate(chains.demanded())
    chains.simulate(chains.cut_short())
    if chains.cut_short().any():
        raise AssertionError("a flip inherits from a longer watch")
    return _fates(lanes, chains)


def _fates(lanes: Lanes, chains: Chains) -> Fates:
    golden, output = lanes.prepared.golden, lanes.prepared.model.manifest.output
    observed, shown = chains.observed()
    classes, critical = outcomes.judge(observed, golden.words, output)
    head, end_cycle = chains.head[:-1], chains.end[:-1]
    fate = np.where(shown[head] >= 0, shown[head], head).astype(np.int32)
    gone = head == GONE
    fate[gone] = GONE
    outcome = np.where(gone, outcomes.Outcome.MASKED, classes[fate]).astype(np.uint8)
    detected = np.where(gone, -1, observed.detected[fate]).astype(np.int32)
    wrong = np.where(gone, 0, critical[fate]).astype(np.uint8)
    cycles = np.arange(chains.start, chains.start + len(fate))
    inferences = np.searchsorted(golden.done, end_cycle)
    inferences -= np.searchsorted(golden.done, cycles)[:, None]
    inferences[~gone & (observed.ends[fate] != End.GOLDEN)] = -1
    seen = end_cycle, detected, outcome, wrong, inferences
    return Fates(chains.start, fate, *seen, observed, len(observed.ends))
