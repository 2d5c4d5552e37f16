"""Driver and monitor of the streams of a probed design (sim/probe.py), inside the simulator.

One coroutine wakes once a cycle, at the falling edge: it reads which streams moved a beat at the
last rising edge, hands those beats to their checkers (checker.py) as one integer {err, last, first,
data}, and drives what the design samples at the next rising edge.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import First, Timer, ValueChange
from cocotb.utils import get_sim_time

from . import budget
from .checker import Checker, Outcome, flagged
from .manifest import Manifest, Words

__all__ = ["PERIOD_NS", "Link", "always", "pause", "random_bits"]

PERIOD_NS = 10
RESET_CYCLES = 3
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
        self._tick = dut["tick"]
        self.edge = dut["clk"].falling_edge
        self.patience = budget.patience(manifest)
        self.drain = budget.drain(manifest)
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
        patience: int = 0,
    ) -> Outcome:
        """Play `frames`, offering where `idle` is 1 and taking where `ready` is 1.

        Stops when every checker has finished and nothing more came for a while, after `cycles`
        cycles, or when nothing moved for too long (`patience` cycles are added to that bound).
        """
        offer, take = idle or always(), ready or always()
        source = flagged(self.manifest.input, self.expected[0][frames])
        checkers = self.checkers(frames)
        handlers = _Handlers(checkers, self._words)
        edge, moves, drives = self.edge, self._moved, self._drive
        first, drain = 1 << self.manifest.input.word_bits, self.drain
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
                drives.value = driven = drive
            await edge
            cycle += 1
            moved = moves.value.to_unsigned()
            if not moved:
                quiet += 1
                if quiet >= drain and all(checker.finished for checker in checkers):
                    break
                continue
            quiet = 0
            if moved & 1:
                assert word is not None
                offered = 0
                if word & first:
                    starts.append(cycle)
                word = next(source, None)
            for checker, handle in handlers[moved]:
                checker.beat(handle.value.to_unsigned(), cycle)
        return Outcome(cycle, quiet >= patience, self._unstable(), tuple(starts), checkers)

    async def play_output(self, frames: slice) -> Outcome:
        """Play `frames` without stalls and compare the output only, right after a reset.

        Python wakes when the input or the output has moved, not every cycle.
        """
        source = flagged(self.manifest.input, self.expected[0][frames])
        output = self.checkers(frames)[0]
        begin, cycle = get_sim_time("ns"), 0
        word = next(source, None)
        self._offer(word)
        while True:
            wait = self.drain if output.finished else self.patience
            timeout = Timer(wait * PERIOD_NS, "ns")
            if await First(ValueChange(self._tick), timeout) is timeout:
                break
            cycle = round((get_sim_time("ns") - begin + PERIOD_NS / 2) / PERIOD_NS)
            moved = self._moved.value.to_unsigned()
            if moved & 1:
                word = next(source, None)
                self._offer(word)
            if moved & 2:
                output.beat(self._words[0].value.to_unsigned(), cycle)
        return Outcome(cycle, not output.finished, self._unstable(), (), (output,))

    def _offer(self, word: int | None) -> None:
        """Offer this beat, or none, and take every output."""
        if word is not None:
            self._word.value = word
        self._drive.value = 2 | (word is not None)

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
