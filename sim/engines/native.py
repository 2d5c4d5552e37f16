"""The native engine: experiments on the cut model, in processes of their own.

A stream of frames runs through the design; an experiment starts from the golden state of its first
event's cycle and stops as soon as state, memories and environment are golden again and no event is
to come.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...quant.errors import ClaimError
from ...quant.ir import IntArray
from ...quant.names import printable
from .. import cache
from ..faults import Faults
from ..manifest import Words
from ..native_model import NativeModel, container_bytes
from ..outcomes import End, Observed

if TYPE_CHECKING:
    from ..steady import Prepared, Stimulus

__all__ = ["RESET_CYCLES", "Golden", "Timing", "golden", "inject", "register_values"]

RESET_CYCLES = 3
STATE_BUDGET_BYTES = 256 << 20
CHUNK = 2000
NONE = np.zeros(0, np.int64)


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


NO_FAULTS = Faults.single(np.zeros(0, np.int64), np.zeros(0, np.int64))


def golden(model: NativeModel, stimulus: Stimulus) -> Golden:
    """The fault-free run; ClaimError if it stalls, raises the error flag or delivers a malformed
    frame."""
    return _run(model, stimulus, NO_FAULTS)[0]


def register_values(model: NativeModel, stimulus: Stimulus, cycles: IntArray) -> list[list[int]]:
    """Golden values at the start of each of `cycles`, in the order of `cut.registers`."""
    raw = _run(model, stimulus, NO_FAULTS, cycles)[2].tobytes()
    widths = [container_bytes(row["width"]) for row in model.design.cut.registers]
    values, at = [], 0
    for _ in range(len(cycles)):
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

    The result does not depend on `workers`: experiments are shared out in the order of their
    cycles. `progress` is called with the number of experiments finished. InputError for faults
    that are none (`Prepared.check`); ClaimError if a flip did not land.
    """
    prepared.check(faults)
    order = np.argsort(faults.cycle, kind="stable")
    taken = faults.take(order)
    starts = range(0, len(faults), CHUNK)
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:

        def one(start: int) -> Observed:
            part = taken.part(start, min(start + CHUNK, len(faults)))
            seen = _run(prepared.model, prepared.stimulus, part)[1]
            if progress is not None:
                progress(len(part))
            return seen

        parts = list(pool.map(one, starts))
    observed = _joined(parts, order)
    if (observed.ends == End.NOT_LANDED).any():
        raise ClaimError("native engine: a flip did not change exactly its bit of the state")
    return observed


def _joined(parts: list[Observed], order: IntArray) -> Observed:
    """The parts as one, in the caller's order of experiments."""
    back = np.argsort(order)
    ends, events, end_cycle = (
        np.concatenate([getattr(part, key) for part in parts])[back]
        for key in ("ends", "events", "end_cycle")
    )
    offsets = np.cumsum([0] + [len(part.ends) for part in parts[:-1]])
    experiment = order[
        np.concatenate([p.experiment + at for p, at in zip(parts, offsets, strict=True)])
    ]
    rows = np.argsort(experiment, kind="stable")
    rest = [
        np.concatenate([getattr(p, key) for p in parts])[rows]
        for key in ("frame", "flags", "words")
    ]
    return Observed(ends, events, end_cycle, experiment[rows], *rest)


def _run(
    model: NativeModel, stimulus: Stimulus, faults: Faults, states: IntArray = NONE
) -> tuple[Golden, Observed, Words]:
    """One process: golden run, experiments, golden states in register order."""
    words, timing = stimulus.words, stimulus.timing
    patterns = [NONE if p is None else p for p in (stimulus.offer, stimulus.ready)]
    frames, out = len(words), model.manifest.output
    source = model.manifest.input
    header = [frames, source.beats, source.word_bytes, out.beats, out.word_bytes]
    header += [RESET_CYCLES, timing.max_cycles, timing.bound_frames, timing.slack_cycles]
    header += [STATE_BUDGET_BYTES, len(faults), len(faults.target), len(states)]
    header += [len(pattern) for pattern in patterns]
    columns = (faults.cycle, faults.first, faults.target, states)
    with cache.scratch() as work:
        with (work / "job").open("wb") as file:
            file.write(np.array(header, "<u8").tobytes())
            file.write(np.ascontiguousarray(words).tobytes())
            for column in columns:
                file.write(column.astype("<u4").tobytes())
            for pattern in patterns:
                file.write(pattern.astype("u1").tobytes())
        _call(model.program, work)
        return _read(work / "result", model, len(faults), frames)


def _call(program: Path, work: Path) -> None:
    done = subprocess.run([program, "job", "result"], cwd=work, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise ClaimError(f"native engine: {printable(lines[-1])}")


def _read(
    path: Path, model: NativeModel, count: int, frames: int
) -> tuple[Golden, Observed, Words]:
    data, at = path.read_bytes(), 0

    def take(number: int, kind: str, *shape: int) -> Any:
        nonlocal at
        array = np.frombuffer(data, kind, number, at)
        at += array.nbytes
        return array.reshape(-1, *shape) if shape else array

    shape = (model.manifest.output.beats, model.manifest.output.word_bytes)
    size = shape[0] * shape[1]
    cycles, visible, state_bytes, *_ = (int(v) for v in take(5, "<u8"))
    accepted, done = (take(frames, "<u4").astype(np.int64) for _ in range(2))
    delivered = take(frames * size, "u1", *shape)
    at_cycle = [take(cycles + 1, "<u4").astype(np.int64) for _ in range(2)]
    golden_run = Golden(cycles, accepted, done, delivered, *at_cycle)
    ends, events = take(count, "u1"), take(count, "u1")
    end_cycle = take(count, "<u4").astype(np.int64)
    experiment, frame = (take(visible, "<u4").astype(np.int64) for _ in range(2))
    flags, words = take(visible, "u1"), take(visible * size, "u1", *shape)
    observed = Observed(ends, events, end_cycle, experiment, frame, flags, words)
    return golden_run, observed, take(state_bytes, "u1")
