"""The native engine: experiments on the cut model, in processes of their own.

A stream of frames runs through the design; an experiment starts from the golden state of its first
event's cycle and stops as soon as state, memories and environment are golden again and no event is
to come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...quant.errors import ClaimError, InputError
from ...quant.ir import IntArray
from ...quant.names import printable
from ..faults import Faults
from ..manifest import Words
from ..native_model import Design, NativeModel, container_bytes
from ..outcomes import End, Observed
from . import native_process
from .native_process import Answer, Part, Setup

if TYPE_CHECKING:
    from ..steady import Prepared, Stimulus

__all__ = [
    "RESET_CYCLES",
    "Golden",
    "Timing",
    "golden",
    "inject",
    "register_bits",
    "register_values",
    "unpacked",
]

RESET_CYCLES = 3


@dataclass(frozen=True)
class Timing:
    """Limits of an experiment: `bound_frames` inferences are watched, counted from the one that
    is delivered next; one that is `slack_cycles` late is a hang; `max_cycles` ends a golden run
    that does not finish."""

    bound_frames: int
    slack_cycles: int
    max_cycles: int


@dataclass(frozen=True)
class Golden:
    """The fault-free run: `cycles` in all, `accepted` [frames] cycle of the first input beat,
    `done` [frames] cycle of the last output beat, `words` uint8 [frames, beats, word_bytes];
    `accepted_at` and `delivered_at` [cycles + 1] input beats accepted and output beats delivered
    before each cycle."""

    cycles: int
    accepted: IntArray
    done: IntArray
    words: Words
    accepted_at: IntArray
    delivered_at: IntArray


def golden(model: NativeModel, stimulus: Stimulus) -> Golden:
    """The fault-free run; ClaimError if it stalls, raises the error flag or delivers a malformed
    frame."""
    frames, shape = len(stimulus.words), _beats(model)

    def read(answer: Answer, cycles: int) -> Golden:
        accepted, done = answer.numbers(frames), answer.numbers(frames)
        delivered = answer.bytes(frames, *shape)
        at_cycle = answer.numbers(cycles + 1), answer.numbers(cycles + 1)
        return Golden(cycles, accepted, done, delivered, *at_cycle)

    return native_process.golden(_setup(model, stimulus), read)


def register_values(model: NativeModel, stimulus: Stimulus, cycles: IntArray) -> list[list[int]]:
    """Golden values at the start of each of `cycles`, in the order of `cut.registers`."""
    raw = native_process.states(_setup(model, stimulus), cycles)
    return unpacked(model.design, raw, len(cycles))


def register_bits(
    model: NativeModel, stimulus: Stimulus, cycles: IntArray, names: Sequence[str]
) -> list[Words]:
    """Golden value [cycles] of the one-bit registers `names` at the start of each of `cycles`;
    InputError for a name that the design has not."""
    design = model.design
    raw = native_process.states(_setup(model, stimulus), cycles)
    states = np.frombuffer(raw, np.uint8).reshape(len(cycles), -1)
    sizes = [container_bytes(row["width"]) for row in design.cut.registers]
    at = dict(
        zip((row["cell"] for row in design.cut.registers), np.cumsum([0, *sizes]), strict=False)
    )
    registers = {register.name: register for register in design.registers}
    found = []
    for name in names:
        if name not in registers:
            raise InputError(f"the design has no register {printable(name)}; build it again")
        bit = registers[name].bits[0]
        column = states[:, at[bit.cell] + bit.index // 8]
        found.append((column >> np.uint8(bit.index % 8)) & np.uint8(1))
    return found


def unpacked(design: Design, raw: bytes, count: int) -> list[list[int]]:
    """`count` states, each as the values of `cut.registers`."""
    widths = [container_bytes(row["width"]) for row in design.cut.registers]
    values, at = [], 0
    for _ in range(count):
        row = []
        for size in widths:
            row.append(int.from_bytes(raw[at : at + size], "little"))
            at += size
        values.append(row)
    return values


def inject(
    prepared: Prepared,
    faults: Faults,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Observed:
    """Run the experiments, `workers` processes at a time (default: one a core).

    The result does not depend on `workers`. `progress` is called with the number of experiments
    finished. InputError for faults that are none (`Prepared.check`); ClaimError if a fault did not
    land.
    """
    prepared.check(faults)
    model, shape = prepared.model, _beats(prepared.model)

    def read(answer: Answer, count: int) -> _Seen:
        visible = answer.number()
        events, detected = answer.bytes(count), answer.firsts(count)
        experiment, frame = answer.numbers(visible), answer.numbers(visible)
        flags, words = answer.bytes(visible), answer.bytes(visible, *shape)
        return _Seen(events, detected, experiment, frame, flags, words)

    setup, (_, limits) = _setup(model, prepared.stimulus), prepared.watched(faults)
    parts, order = native_process.run(
        setup, faults, limits, read, workers=workers, progress=progress
    )
    observed = _joined(parts, order)
    if (observed.ends == End.NOT_LANDED).any():
        raise ClaimError("native engine: a fault did not change exactly its bits of the state")
    return observed


@dataclass(frozen=True)
class _Seen:
    """What the stream environment adds: `events` and `detected` [n], and the rows of `Observed`."""

    events: Words
    detected: IntArray
    experiment: IntArray
    frame: IntArray
    flags: Words
    words: Words


def _joined(parts: list[Part[_Seen]], order: IntArray) -> Observed:
    """The parts as one, in the caller's order of experiments."""
    back = np.argsort(order)
    ends = np.concatenate([part.ends for part in parts])[back]
    end_cycle = np.concatenate([part.end_cycle for part in parts])[back]
    events = np.concatenate([part.more.events for part in parts])[back]
    detected = np.concatenate([part.more.detected for part in parts])[back]
    offsets = np.cumsum([0] + [len(part.ends) for part in parts[:-1]])
    pairs = zip(parts, offsets, strict=True)
    experiment = order[np.concatenate([part.more.experiment + at for part, at in pairs])]
    rows = np.argsort(experiment, kind="stable")
    rest = [
        np.concatenate([getattr(part.more, key) for part in parts])[rows]
        for key in ("frame", "flags", "words")
    ]
    return Observed(ends, events, end_cycle, detected, experiment[rows], *rest)


def _beats(model: NativeModel) -> tuple[int, int]:
    return model.manifest.output.beats, model.manifest.output.word_bytes


def _setup(model: NativeModel, stimulus: Stimulus) -> Setup:
    words, timing, source = stimulus.words, stimulus.timing, model.manifest.input
    pair = stimulus.offer, stimulus.ready
    patterns = [np.zeros(0, np.uint8) if p is None else p.astype(np.uint8) for p in pair]
    numbers = [len(words), source.beats, source.word_bytes, *_beats(model), RESET_CYCLES]
    numbers += [timing.slack_cycles, timing.max_cycles, *(len(p) for p in patterns)]
    return Setup(model.program, numbers, [words, *patterns])
