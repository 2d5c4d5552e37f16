"""In-order checkers: what a stream showed against what it must show, in words.

Nothing here needs a simulator; the cocotb benches (streams.py) hand beats over one by one, the
clocked harness (checked.py) the wrong ones only.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .manifest import Stream, Words

__all__ = ["LISTED", "Checker", "Mismatch", "Outcome", "flagged"]

LISTED = 10


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
            self._explain(self.beats, word, expected)
        if word & self._last:
            self.ends.append(cycle)
        self.beats += 1

    def explain(self, beat: int, word: int) -> None:
        """Note what is wrong with this word as beat number `beat` of the stream."""
        frame, place = divmod(beat, self.layout.beats)
        expected = None
        if frame < len(self.words):
            beats = flagged(self.layout, self.words[frame : frame + 1])
            expected = next(itertools.islice(beats, place, None))
        self._explain(beat, word, expected)

    def _explain(self, number: int, word: int, expected: int | None) -> None:
        frame, beat = divmod(number, self.layout.beats)
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
        """For JSON: ten mismatches in words, the first of each stream before others, the counts."""
        ranked = [
            (rank, place, str(mismatch))
            for place, checker in enumerate([*self.checkers[1:], self.output])
            for rank, mismatch in enumerate(checker.mismatches)
        ]
        lines = [line for _, _, line in sorted(ranked)][:LISTED]
        if self.hang:
            missing = [c.layer for c in self.checkers if not c.finished]
            lines.append(f"no beat for too long; unfinished: {', '.join(missing)}")
        lines += [f"{name}: an offered beat was changed or withdrawn" for name in self.unstable]
        return {"cycles": self.cycles, "mismatches": self.wrong, "report": lines}
