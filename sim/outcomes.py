"""Outcome classes of a register upset, and their assignment to what an engine observed.

The classes and their order are docs/faults.md: one inference gets the first that matches, one
upset the worst over all inferences it affects. An engine reports only the output frames that
differ from the golden ones or carry the error flag; this module says what they mean.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..quant.ir import IntArray
from .manifest import Stream, Words

__all__ = [
    "End",
    "FrameFlag",
    "Observed",
    "Outcome",
    "classify",
    "frame_outcomes",
    "judge",
    "top1",
]

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


class Outcome(enum.IntEnum):
    """Outcome classes; the number is the severity that decides between several inferences."""

    MASKED = 0
    LATENT = 1
    FALSE_ALARM = 2
    CORRECTED = 3
    RECOVERED = 4
    DUE = 5
    SDC_TOLERABLE = 6
    SDC_CRITICAL = 7
    HANG = 8

    @property
    def label(self) -> str:
        """The name in reports."""
        return self.name.lower()


class End(enum.IntEnum):
    """How an experiment ended: golden again, not golden after the bound, deadline missed, the
    read-back showed that the state did not change in exactly the bits that were flipped, or an
    output differed (where an engine stops there)."""

    GOLDEN = 0
    BOUND = 1
    HANG = 2
    NOT_LANDED = 3
    VISIBLE = 4


class FrameFlag(enum.IntFlag):
    """What was seen of one output frame: a wrong beat, a wrong number of beats (or markers), the
    error flag with or before the first wrong beat, the error flag at all."""

    WRONG = 1
    MALFORMED = 2
    FLAGGED = 4
    ERR = 8


@dataclass(frozen=True)
class Observed:
    """What an engine saw of n experiments.

    `ends` [n] of `End`; `events` [n], bit 0 a retry and bit 1 a correction was counted;
    `end_cycle` [n] the cycle at whose start it was found golden again, or its watch ended;
    `detected` [n] the cycle of the first delivered beat with the error flag, -1 none. One row a
    frame that differed: `experiment` [v], `frame` [v] its index in the stream of frames,
    `flags` [v] of `FrameFlag`, `words` uint8 [v, beats, word_bytes].
    """

    ends: Bytes
    events: Bytes
    end_cycle: IntArray
    detected: IntArray
    experiment: IntArray
    frame: IntArray
    flags: Bytes
    words: Words


def top1(frames: IntArray) -> IntArray:
    """Class of each frame [n, *shape]: lowest index of the maximum, or the value itself if the
    frame is one element, as an ArgMax makes it."""
    flat = frames.reshape(len(frames), math.prod(frames.shape[1:]))
    return flat[:, 0] if flat.shape[1] == 1 else flat.argmax(axis=1)


def frame_outcomes(observed: Observed, golden: Words, stream: Stream) -> Bytes:
    """Outcome [v] of each row of `observed`; `golden` uint8 [frames, beats, word_bytes]."""
    return _frames(observed, _misclassified(observed, golden, stream))


def _misclassified(observed: Observed, golden: Words, stream: Stream) -> Mask:
    """Is the frame [v] malformed, or its top-1 class not the fault-free one?"""
    expected = top1(stream.unpack(golden))[observed.frame]
    differs = top1(stream.unpack(observed.words)) != expected
    return np.asarray(differs | ((observed.flags & FrameFlag.MALFORMED) != 0), np.bool_)


def _frames(observed: Observed, misclassified: Mask) -> Bytes:
    flags = observed.flags
    wrong = (flags & FrameFlag.WRONG) != 0
    detected = (flags & FrameFlag.FLAGGED) != 0
    retried = (observed.events[observed.experiment] & 1) != 0
    outcomes = np.full(len(flags), Outcome.SDC_TOLERABLE, np.uint8)
    outcomes[misclassified] = Outcome.SDC_CRITICAL
    outcomes[wrong & detected] = Outcome.DUE
    outcomes[~wrong] = Outcome.FALSE_ALARM
    outcomes[~wrong & retried] = Outcome.RECOVERED
    return outcomes


def classify(observed: Observed, golden: Words, stream: Stream) -> Bytes:
    """Outcome [n] of each experiment: the worst over its inferences and its end."""
    return judge(observed, golden, stream)[0]


def judge(observed: Observed, golden: Words, stream: Stream) -> tuple[Bytes, Bytes]:
    """`classify`, and whether [n] some delivered frame, flagged or not, was malformed or had
    another top-1 class than the fault-free one."""
    result = np.full(len(observed.ends), Outcome.MASKED, np.uint8)
    result[observed.ends == End.BOUND] = Outcome.LATENT
    result[(observed.events & 2) != 0] = Outcome.CORRECTED
    result[(observed.events & 1) != 0] = Outcome.RECOVERED
    misclassified = _misclassified(observed, golden, stream)
    np.maximum.at(result, observed.experiment, _frames(observed, misclassified))
    result[observed.ends == End.HANG] = Outcome.HANG
    critical = np.zeros(len(result), np.uint8)
    critical[observed.experiment[misclassified]] = 1
    return result, critical
