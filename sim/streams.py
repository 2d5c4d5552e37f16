"""Drivers, monitors and in-order checkers of the streams of a probed design (sim/probe.py).

They run inside the simulator. One coroutine wakes once a cycle, at the falling edge: it reads which
streams moved a beat at the last rising edge, hands those beats to their checkers as one integer
{err, last, first, data}, and drives what the design samples at the next rising edge. Checkers
compare whole words and take a beat apart only when it is wrong.
"""

import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject

from .manifest import Manifest, Stream, Words

__all__ = ["Checker", "Link", "Mismatch", "Outcome", "always", "flagged", "pause", "random_bits"]

PERIOD_NS = 10
RESET_CYCLES = 3
LISTED = 10
BLOCK = 256

Pattern = Iterator[int]


def always() -> Pattern:
    """A pattern without idle cycles or stalls."""
    return itertools.repeat(1)


def random_bits(rng: np.random.Generator, least: float) -> Pattern:
    """1 at random, else 0; every 256 cycles the share of ones is drawn anew from `least` to 1."""
    while True:
        yield from (rng.random(BLOCK) < rng.uniform(least, 1)).astype(np.int64).tolist()


def pause(before: int, length: int) -> Pattern:
    """1 for `before` cycles, 0 for `length` cycles, then 1 for ever."""
    yield from itertools.repeat(1, before)
    yield from itertools.repeat(0, length)
    yield from itertools.repeat(1)


def flagged(layout: Stream, words: Words) -> Iterator[int]:
    """The beats of frames [n, beats, word_bytes] as {last, first, data}, one frame at a time."""
    first, last = 1 << layout.word_bits, 2 << layout.word_bits
    for frame in words:
        beats = layout.to_ints(frame[None])
        beats[0] |= first
        beats[-1] |= last
        yield from beats


@dataclass(frozen=True)
class Mismatch:
    """One wrong element: its index in the model's order, or None if only first/last/err differ."""

    layer: str
    frame: int
    element: tuple[int, ...] | None
    got: int | str
    expected: int | str

    def __str__(self) -> str:
        where = "markers" if self.element is None else f"element {list(self.element)}"
        return f"{self.layer}: frame {self.frame}, {where}: got {self.got}, not {self.expected}"


@dataclass
class Checker:
    """Compares the beats of one stream, in order, with the expected frames.

    `words` uint8 [n, beats, word_bytes]; err must be 0 on every beat. `ends` holds the cycle of
    each frame's last beat.
    """

    layer: str
    layout: Stream
    words: Words
    beats: int = 0
    wrong: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._expected = flagged(self.layout, self.words)
        self._last = 2 << self.layout.word_bits

    @property
    def finished(self) -> bool:
        """All expected beats have come."""
        return self.beats >= len(self.words) * self.layout.beats

    def beat(self, word: int, cycle: int) -> None:
        """Take the next beat {err, last, first, data}."""
        expected = next(self._expected, None)
        if word != expected:
            self._explain(word, expected)
        if word & self._last:
            self.ends.append(cycle)
        self.beats += 1

    def _explain(self, word: int, expected: int | None) -> None:
        frame, beat = divmod(self.beats, self.layout.beats)
        if expected is None:
            self._note(Mismatch(self.layer, frame, None, "a beat", "no beat"))
            return
        mask = (1 << self.layout.word_bits) - 1
        for lane, got, wanted in _different(self.layout, word & mask, expected & mask):
            index = _element(self.layout, beat * self.layout.lanes + lane)
            self._note(Mismatch(self.layer, frame, index, got, wanted))
        if word & ~mask != expected & ~mask:
            self._note(
                Mismatch(self.layer, frame, None, self._markers(word), self._markers(expected))
            )

    def _markers(self, word: int) -> str:
        flags = word >> self.layout.word_bits
        return f"first={flags & 1} last={flags >> 1 & 1} err={flags >> 2 & 1}"

    def _note(self, mismatch: Mismatch) -> None:
        self.wrong += 1
        if len(self.mismatches) < LISTED:
            self.mismatches.append(mismatch)


def _different(layout: Stream, word: int, expected: int) -> Iterator[tuple[int, int, int]]:
    """(lane, value, expected value) of each lane that differs."""
    for lane in range(layout.lanes):
        shift, mask = lane * layout.lane_bits, (1 << layout.lane_bits) - 1
        got, wanted = word >> shift & mask, expected >> shift & mask
        if got != wanted:
            yield lane, _value(layout, got), _value(layout, wanted)


def _value(layout: Stream, bits: int) -> int:
    if layout.bipolar:
        return 2 * bits - 1
    sign = 1 << (layout.lane_bits - 1)
    return (bits ^ sign) - sign if layout.signed else bits


def _element(layout: Stream, position: int) -> tuple[int, ...]:
    """Index in the model's order of the element at a position of the frame."""
    index = [int(i) for i in np.unravel_index(position, layout.shape)]
    if layout.permutation is not None:
        index[-1] = layout.permutation[index[-1]]
    return tuple(index)


@dataclass(frozen=True)
class Outcome:
    """What one run saw; `starts` are the cycles of the first beats that the input took."""

    cycles: int
    hang: bool
    unstable: tuple[str, ...]
    starts: tuple[int, ...]
    checkers: tuple[Checker, ...]

    @property
    def wrong(self) -> int:
        """Wrong elements and markers, of all streams."""
        return sum(checker.wrong for checker in self.checkers)

    @property
    def output(self) -> Checker:
        """The checker of the design's output."""
        return self.checkers[0]

    @property
    def passed(self) -> bool:
        """Everything came, in order and right, and no offered beat was changed."""
        return not self.wrong and not self.hang and not self.unstable

    def report(self) -> dict[str, Any]:
        """For JSON: the first ten mismatches in words, and the counts."""
        lines = [str(m) for checker in self.checkers for m in checker.mismatches][:LISTED]
        if self.hang:
            missing = [c.layer for c in self.checkers if not c.finished]
            lines.append(f"no beat for too long; unfinished: {', '.join(missing)}")
        lines += [f"{name}: an offered beat was changed or withdrawn" for name in self.unstable]
        return {"cycles": self.cycles, "mismatches": self.wrong, "report": lines}


class Link:
    """The bench's hold on the probe: reset it, play frames through it.

    `expected` holds the words uint8 [n, beats, word_bytes] of the input, the output and each tap.
    """

    def __init__(self, dut: HierarchyObject, manifest: Manifest, expected: Sequence[Words]) -> None:
        self.dut, self.manifest, self.expected = dut, manifest, expected
        self.streams = [("output", manifest.output)]
        self.streams += [(tap.layer, tap.stream) for tap in manifest.taps]
        self._words = [dut[f"word_{k}"] for k in range(1, len(self.streams) + 1)]
        self._moved, self._drive, self._word = dut["moved"], dut["drive"], dut["word"]
        self.edge = dut["clk"].falling_edge
        self.patience = 4 * manifest.latency_cycles + 1000
        Clock(dut["clk"], PERIOD_NS, "ns").start()

    async def reset(self) -> None:
        """Hold the reset for three cycles; the next rising edge is the first without it."""
        await self.edge
        self.dut["rst"].value = 1
        self._drive.value = 0
        for _ in range(RESET_CYCLES):
            await self.edge
        self.dut["rst"].value = 0

    def checkers(self, frames: slice) -> tuple[Checker, ...]:
        """Fresh checkers of the output and every tap for these frames."""
        pairs = zip(self.streams, self.expected[1:], strict=True)
        return tuple(Checker(name, layout, words[frames]) for (name, layout), words in pairs)

    async def play(
        self,
        frames: slice,
        idle: Pattern | None = None,
        ready: Pattern | None = None,
        *,
        cycles: int | None = None,
        act: Callable[[int], Awaitable[None]] | None = None,
        patience: int = 0,
    ) -> Outcome:
        """Play `frames`, offering where `idle` is 1 and taking where `ready` is 1.

        Stops when every checker has finished and nothing more came for a while, after `cycles`
        cycles, or when nothing moved for too long (`patience` cycles are added to that bound).
        `act(cycle)` is awaited after the falling edge that follows rising edge number `cycle`.
        """
        offer, take = idle or always(), ready or always()
        source = flagged(self.manifest.input, self.expected[0][frames])
        checkers = self.checkers(frames)
        handlers = _Handlers(checkers, self._words)
        first, drain = 1 << self.manifest.input.word_bits, self.manifest.latency_cycles
        patience += self.patience
        starts: list[int] = []
        word = next(source, None)
        offered = driven = quiet = cycle = 0
        while cycle != cycles and quiet < patience:
            if word is not None and not offered and next(offer):
                offered = 1
                self._word.value = word
            drive = next(take) << 1 | offered
            if drive != driven:
                self._drive.value = driven = drive
            await self.edge
            cycle += 1
            if act is not None:
                await act(cycle)
            moved = self._moved.value.to_unsigned()
            quiet = 0 if moved else quiet + 1
            if moved & 1:
                assert word is not None
                offered = 0
                if word & first:
                    starts.append(cycle)
                word = next(source, None)
            for checker, handle in handlers[moved]:
                checker.beat(handle.value.to_unsigned(), cycle)
            if quiet == drain and all(checker.finished for checker in checkers):
                break
        return Outcome(cycle, quiet >= patience, self._unstable(), tuple(starts), checkers)

    def _unstable(self) -> tuple[str, ...]:
        """The streams that broke the protocol since the last reset."""
        seen = self.dut["unstable"].value.to_unsigned()
        return tuple(name for k, (name, _) in enumerate(self.streams, 1) if seen >> k & 1)


class _Handlers(dict[int, tuple[tuple[Checker, Any], ...]]):
    """Value of `moved` -> the checkers that have a beat to take, with their word's handle."""

    def __init__(self, checkers: tuple[Checker, ...], words: list[Any]) -> None:
        super().__init__()
        self._pairs = tuple(zip(checkers, words, strict=True))

    def __missing__(self, moved: int) -> tuple[tuple[Checker, Any], ...]:
        found = tuple(pair for k, pair in enumerate(self._pairs, 1) if moved >> k & 1)
        self[moved] = found
        return found
