"""The bookkeeping of dynamic fault collapsing: which flip's fate is which experiment's.

A flip of (cycle, bit) is simulated itself, hands on to (next cycle, successor), or is gone. An
experiment ends by itself or, merged, at another (cycle, bit), whose fate follows. So experiments
form chains; what a chain shows is what its experiments recorded, one after the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ...quant.ir import IntArray
from ..faults import Faults
from ..outcomes import End, Observed
from .bitparallel import DIVERGED, MERGED, Lanes, Seen

__all__ = ["GONE", "SPREAD", "Chains"]

GONE, SPREAD = -1, -2
Bools = np.ndarray[Any, np.dtype[np.bool_]]


class Chains:
    """Flips at the starts of cycles start..stop, the last only where others end in it.

    `successor` [cycles + 1, ff_bits]; after `simulate`, `head` the experiment of each flip or GONE
    and `end` the cycle at which it is golden or its watch ends.
    """

    def __init__(
        self, lanes: Lanes, start: int, stop: int, progress: Callable[[int], None] | None
    ) -> None:
        self.lanes, self.start, self.progress = lanes, start, progress
        found = lanes.collapse(start, stop)
        self.successor = np.concatenate((found, np.full((1, found.shape[1]), GONE, np.int32)))
        self.number = np.full(self.successor.shape, -1, np.int32)  # of the simulated experiment
        self.cycles = np.arange(start, stop + 1)
        prepared = lanes.prepared
        one = Faults.single(self.cycles, np.zeros(len(self.cycles), np.int64))
        self.limit = prepared.golden.done[prepared.watched(one)[1] - 1] + 1
        self.row = self.bit = np.zeros(0, np.int64)  # of each experiment
        self.seen: Seen | None = None
        self.head, self.end = self.number, np.zeros(self.number.shape, np.int32)
        self.ends = self.events = np.zeros(0, np.uint8)  # of each experiment's chain
        self.detected = np.zeros(0, np.int64)
        self.strays = np.zeros(0, bool)
        self.next = np.zeros(0, np.int64)

    def simulate(self, chosen: Bools, merge_until: int = 0) -> None:
        """Run these flips, which then are experiments of their own, and follow all chains."""
        row, bit = np.nonzero(chosen)
        if len(row):
            seen = self.lanes.sweep(
                Faults.single(self.cycles[row], bit),
                merge_until=merge_until,
                progress=self.progress,
            )
            self.number[row, bit] = len(self.row) + np.arange(len(row))
            self.seen = seen if self.seen is None else _joined(self.seen, seen)
            self.row, self.bit = np.concatenate((self.row, row)), np.concatenate((self.bit, bit))
        self._follow()

    def demanded(self) -> Bools:
        """The flips of the last cycle that others end in."""
        chosen = np.zeros(self.number.shape, bool)
        chosen[-1, self.successor[-2][(self.successor[-2] >= 0) & (self.number[-2] < 0)]] = True
        if self.seen is not None:
            late = (self.seen.ends == MERGED) & (self.seen.end_cycle == self.cycles[-1])
            chosen[-1, self.seen.merged_bit[late]] = True
        return chosen

    def _follow(self) -> None:
        """Heads, ends and events, from the last cycle back."""
        seen, count = self.seen, len(self.row)
        self.head = self.number.copy()
        self.next = np.full(count, GONE)
        if seen is not None:
            self.ends, self.events = seen.ends.copy(), seen.events.copy()
            self.detected = seen.detected.copy()
            self.strays = seen.strayed != 0
        order = np.argsort(self.row, kind="stable")
        first = np.searchsorted(self.row[order], np.arange(len(self.cycles) + 1))
        for at in range(len(self.cycles) - 1, -1, -1):
            own = order[first[at] : first[at + 1]]
            head, end = self.head[at], self.end[at]
            end[:] = self.cycles[at] + 1
            if seen is not None and len(own):
                end_cycle = self._follow_experiments(own, seen)
                current = self.number[at, self.bit[own]] == own  # not simulated anew
                end[self.bit[own[current]]] = end_cycle[current]
            if at + 1 < len(self.cycles):
                heir = np.flatnonzero((head < 0) & (self.successor[at] >= 0))
                heir_to = self.successor[at, heir]
                head[heir], end[heir] = self.head[at + 1, heir_to], self.end[at + 1, heir_to]

    def _follow_experiments(self, own: IntArray, seen: Seen) -> IntArray:
        """The experiments of one cycle; where their chains end."""
        end_cycle = seen.end_cycle[own]
        merged = np.flatnonzero(seen.ends[own] == MERGED)
        if len(merged):
            where = seen.end_cycle[own[merged]] - self.start, seen.merged_bit[own[merged]]
            following = self.head[where].astype(np.int64)
            end_cycle[merged] = self.end[where]
            self.next[own[merged]] = following
            gone = following == GONE
            self.ends[own[merged]] = np.where(gone, End.GOLDEN, self.ends[following])
            self.strays[own[merged]] = ~gone & self.strays[following]
            self.events[own[merged]] |= np.where(gone, 0, self.events[following]).astype(np.uint8)
            later = np.where(gone, -1, self.detected[following])
            self.detected[own[merged]] = _first(seen.detected[own[merged]], later)
        return end_cycle

    # ------------------------------------------------------------------------- what may not inherit

    def cut_short(self) -> Bools:
        """Flips whose fate came from a longer watch and depends on it; and those that recorded
        beats before what follows strayed."""
        chosen = np.zeros(self.number.shape, bool)
        if self.seen is None:
            return chosen
        bad = ((self.ends != End.GOLDEN) | self.strays)[self.head] & (self.head >= 0)
        for at in np.flatnonzero(self.limit[:-1] != self.limit[1:]):
            late = bad[at] | (self.end[at] > self.limit[at])
            chosen[at] = late & (self.number[at] < 0) & (self.successor[at] >= 0)
        merged = np.flatnonzero(self.seen.ends == MERGED)
        row, bit = self.row[merged], self.bit[merged]
        current = self.number[row, bit] == merged
        longer = self.limit[row] != self.limit[self.seen.end_cycle[merged] - self.start]
        late = longer & (bad[row, bit] | (self.end[row, bit] > self.limit[row]))
        recorded = np.bincount(self.seen.experiment, minlength=len(self.row)) > 0
        late |= recorded[merged] & self.strays[merged]
        again = merged[late & current]
        chosen[self.row[again], self.bit[again]] = True
        return chosen

    # ------------------------------------------------------------------------------------ results

    def observed(self) -> tuple[Observed, IntArray]:
        """All experiments with their chains. Rows stand with the first experiment of a chain that
        recorded something or counted an event: its number is the second array [n], -1 none."""
        seen = self.seen
        if seen is None:
            raise AssertionError("no experiment was simulated")
        counts = np.bincount(seen.experiment, minlength=len(self.row))
        diverged = seen.ends == DIVERGED
        shows = (counts > 0) | (seen.events != 0) | (seen.strayed != 0)
        shown = self._shown(shows)
        rows, owner = self._rows(np.flatnonzero(shows & ~diverged), shown, counts)
        end_cycle = self.end[self.row, self.bit].astype(np.int64)
        whole = dataclasses.replace(
            seen,
            ends=self.ends,
            events=self.events,
            detected=self.detected,
            end_cycle=end_cycle,
            experiment=owner,
            cycle=seen.cycle[rows],
            outputs=seen.outputs[rows],
        )
        faults = Faults.single(self.cycles[self.row], self.bit)
        result = self.lanes.with_diverged(faults, self.lanes.observed(whole), diverged)
        last = self._last()
        left = diverged[last]  # chains that end where the native engine took over
        ends, events = result.ends.copy(), result.events.copy()
        ends[left], events[left] = ends[last[left]], events[left] | events[last[left]]
        detected = result.detected.copy()
        detected[left] = _first(detected[left], detected[last[left]])
        at = self.head >= 0
        self.end[at] = np.where(
            diverged[last[self.head[at]]], result.end_cycle[last[self.head[at]]], self.end[at]
        )
        return dataclasses.replace(result, ends=ends, events=events, detected=detected), shown

    def _last(self) -> IntArray:
        """The last experiment [n] of each chain."""
        return _ends(np.where(self.next >= 0, self.next, np.arange(len(self.next))))

    def _shown(self, shows: Bools) -> IntArray:
        """The first experiment [n] from each on in its chain that shows something, -1 none."""
        stays = shows | (self.next < 0)
        reached = _ends(np.where(stays, np.arange(len(shows)), self.next))
        return np.where(shows[reached], reached, -1)

    def _rows(
        self, owners: IntArray, shown: IntArray, counts: IntArray
    ) -> tuple[IntArray, IntArray]:
        """Rows of `seen` of the owners' whole chains, and the owner of each."""
        first = np.cumsum(counts) - counts
        rows, owner, at = [], [], owners
        while len(owners):
            here = counts[at]
            start = np.repeat(first[at] - (np.cumsum(here) - here), here)
            rows.append(np.arange(here.sum()) + start)
            owner.append(np.repeat(owners, here))
            following = np.where(self.next[at] >= 0, shown[self.next[at]], GONE)
            owners, at = owners[following >= 0], following[following >= 0]
        if not rows:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        whole, all_owners = np.concatenate(rows), np.concatenate(owner)
        order = np.argsort(all_owners, kind="stable")
        return whole[order], all_owners[order]


def _first(own: IntArray, later: IntArray) -> IntArray:
    """Cycles [n] of the own, or else the later event; -1 none."""
    return np.where(own >= 0, own, later)


def _ends(following: IntArray) -> IntArray:
    """Where each of n pointers leads in the end; the last one of a path points at itself."""
    while True:
        further = following[following]
        if np.array_equal(further, following):
            return following
        following = further


def _joined(one: Seen, two: Seen) -> Seen:
    """Experiments of the second behind those of the first."""
    both = {
        field.name: np.concatenate((getattr(one, field.name), getattr(two, field.name)))
        for field in dataclasses.fields(one)
        if field.name not in ("experiment", "frame_experiment", "frame_words", "evaluations")
    }
    own = one.frame_experiment, two.frame_experiment + len(one.ends)
    words = [part.frame_words for part in (one, two) if len(part.frame_words)]
    return Seen(
        experiment=np.concatenate((one.experiment, two.experiment + len(one.ends))),
        frame_experiment=np.concatenate(own),
        frame_words=np.concatenate(words) if words else one.frame_words,
        evaluations=one.evaluations + two.evaluations,
        **both,
    )
