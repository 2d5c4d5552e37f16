"""The bit-parallel engine: 512 experiments at a time in the lanes of a compiled LUT network.

Lane 0 is the fault-free run. An experiment starts in a free lane at its cycle and gets the
fault-free inputs for as long as its handshake is the fault-free one; then what the environment
does is known, and the engine's results are exactly those of the native engine. A lane whose
handshake differs is given up, and its experiment run by the native engine.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...quant.errors import ClaimError
from ...quant.ir import IntArray
from ...quant.names import printable
from .. import cache, gates_build
from ..faults import Faults
from ..manifest import Words
from ..native_model import NativeModel, counters
from ..outcomes import End, FrameFlag, Observed
from . import native

if TYPE_CHECKING:
    from ..steady import Prepared, Stimulus

Bools = np.ndarray[Any, np.dtype[np.bool_]]

__all__ = ["DIVERGED", "MERGED", "Lanes", "Seen", "Trace", "inject", "sweep"]

#: `ends` of an experiment whose state differs in one bit, where such ones are given up
#: (`merge_until`); and of one that the lanes cannot follow, which the native engine runs.
MERGED, DIVERGED = 5, 6
STREAM_NUMBERS = 19
NO_PORT = 1 << 32


@dataclass(frozen=True)
class Trace:
    """The fault-free run as bits of ports. `inputs` uint8 [lead + cycles, bits] from `lead` cycles
    before cycle 0 on; per cycle `outputs`, and which of them must be golden for a lane to go on
    (`shake`) or else are recorded (`care`), uint8 [cycles, bits]; `retried` and `corrected` [bits]
    the outputs that count an event while they are 1; `streams` what bitparallel_stream.h reads;
    without it a lane whose handshake differs is given up."""

    lead: int
    inputs: Words
    outputs: Words
    shake: Words
    care: Words
    retried: Words
    corrected: Words
    streams: bytes = bytes(8 * STREAM_NUMBERS)


@dataclass(frozen=True)
class Seen:
    """What became of n experiments: `ends` of `End`, DIVERGED or MERGED, `events`, `end_cycle` [n],
    `merged_bit` [n] the one bit that differs at the end of a merged one; `detected` [n] as in
    `Observed`; `strayed` [n] whether its handshake differed. One row an output beat that differs:
    `experiment`, `cycle` [r], `outputs` uint8 [r, bits]; of an experiment that strayed, one row a
    frame that differs: `frame_experiment`, `frame`, `frame_flags` [f], `frame_words` uint8 [f,
    bytes]."""

    ends: Words
    events: Words
    strayed: Words
    end_cycle: IntArray
    merged_bit: IntArray
    detected: IntArray
    experiment: IntArray
    cycle: IntArray
    outputs: Words
    frame_experiment: IntArray
    frame: IntArray
    frame_flags: Words
    frame_words: Words
    evaluations: int


def inject(
    prepared: Prepared,
    faults: Faults,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Observed:
    """Run the experiments on `workers` threads (default: one a core); as `native.inject`."""
    prepared.check(faults)
    return Lanes(prepared, workers).inject(faults, progress)


class Lanes:
    """The compiled engine of a prepared design."""

    def __init__(self, prepared: Prepared, workers: int | None = None) -> None:
        model = prepared.model
        self.prepared, self.workers = prepared, workers or len(os.sched_getaffinity(0))
        self.program = gates_build.build(model.design.cut, model.manifest.top)
        self.layout = Layout.of(model, self.program)
        self.trace = stream_trace(self.layout, prepared.stimulus, prepared.golden)

    def inject(self, faults: Faults, progress: Callable[[int], None] | None = None) -> Observed:
        """As `native.inject`."""
        seen = self.sweep(faults, progress=progress)
        return self.with_diverged(faults, self.observed(seen), seen.ends == DIVERGED)

    def sweep(
        self,
        faults: Faults,
        *,
        merge_until: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> Seen:
        """The experiments in lanes, watched as long as by the other engines."""
        _, stop = self.prepared.watched(faults)
        return sweep(
            self.program,
            self.trace,
            faults,
            self.prepared.golden.done[stop - 1] + 1,
            further=self.prepared.stimulus.timing.slack_cycles + 1,
            merge_until=merge_until,
            workers=self.workers,
            progress=progress,
        )

    def observed(self, seen: Seen) -> Observed:
        """Rows of beats as rows of frames; what diverged has none."""
        return _observed(self.layout, self.prepared, seen)

    def with_diverged(self, faults: Faults, seen: Observed, diverged: Bools) -> Observed:
        """The same with the experiments [n] that left the lanes run by the native engine."""
        if (seen.ends == End.NOT_LANDED).any():
            raise ClaimError("bit-parallel engine: a flip did not change its bit of the state")
        picks = np.flatnonzero(diverged)
        if not len(picks):
            return seen
        again = native.inject(self.prepared, faults.take(picks), workers=self.workers)
        each = {
            key: getattr(seen, key).copy() for key in ("ends", "events", "end_cycle", "detected")
        }
        for key, values in each.items():
            values[picks] = getattr(again, key)
        experiment = np.concatenate((seen.experiment, picks[again.experiment]))
        order = np.argsort(experiment, kind="stable")
        rest = [
            np.concatenate((getattr(seen, key), getattr(again, key)))[order]
            for key in ("frame", "flags", "words")
        ]
        rows = experiment[order], *rest
        return Observed(each["ends"], each["events"], each["end_cycle"], each["detected"], *rows)

    def collapse(self, start: int, stop: int) -> IntArray:
        """Successors int32 [stop - start, ff_bits] of all flips: the one bit of the next state
        that differs, -1 none, -2 more than that."""
        with cache.scratch() as work:
            _write_trace(work / "trace", self.trace)
            command = [self.program.model, self.program.contents, "trace", "collapse", "result"]
            _call(work, [*command, self.workers, start, stop], None)
            return np.fromfile(work / "result", "<i4").reshape(stop - start, -1)


# ------------------------------------------------------------------------------------------ trace


@dataclass(frozen=True)
class Layout:
    """Where the ports of the streams are among the bits of a trace: first bit by port name."""

    model: NativeModel
    inputs: dict[str, int]
    outputs: dict[str, int]
    widths: dict[str, int]

    @classmethod
    def of(cls, model: NativeModel, program: gates_build.Program) -> Layout:
        """Of a compiled program."""
        sides = []
        for ports in (program.inputs, program.outputs):
            first = np.cumsum([0] + [width for _, width in ports])
            sides.append({name: int(at) for (name, _), at in zip(ports, first, strict=False)})
        return cls(model, sides[0], sides[1], dict(program.inputs + program.outputs))

    def bits(self, side: dict[str, int], name: str | None) -> slice:
        """The bits of a port; none if the design has no such port."""
        if name is None or name not in side:
            return slice(0, 0)
        return slice(side[name], side[name] + self.widths[name])


def stream_trace(layout: Layout, stimulus: Stimulus, golden: native.Golden) -> Trace:
    """Inputs and outputs of a stream design in its fault-free run."""
    found, cycles = layout.model.manifest, golden.cycles
    lead, at = native.RESET_CYCLES, np.arange(cycles)
    source, sink = found.input, found.output
    accepted, delivered = golden.accepted_at[:-1], golden.delivered_at[:-1]
    taken, given = np.diff(golden.accepted_at) != 0, np.diff(golden.delivered_at) != 0
    offer = _pattern(stimulus.offer, at) & (accepted < len(stimulus.words) * source.beats)
    ready = _pattern(stimulus.ready, at)
    beats = stimulus.words.reshape(-1, source.word_bytes)
    words = np.unpackbits(beats, axis=1, count=source.word_bits, bitorder="little")
    beat = accepted % source.beats

    inputs = np.zeros((lead + cycles, sum(layout.widths[n] for n in layout.inputs)), np.uint8)
    driven = inputs[lead:]
    place = layout.inputs
    inputs[:lead, layout.bits(place, found.reset)] = 1
    inputs[:lead, layout.bits(place, sink.ready)] = 1
    driven[:, layout.bits(place, sink.ready)] = ready[:, None]
    driven[:, layout.bits(place, source.valid)] = offer[:, None]
    driven[:, layout.bits(place, source.first)] = (offer & (beat == 0))[:, None]
    driven[:, layout.bits(place, source.last)] = (offer & (beat == source.beats - 1))[:, None]
    held = words[np.minimum(accepted, len(words) - 1)] * offer[:, None]
    driven[:, layout.bits(place, source.data)] = held

    bits = sum(layout.widths[n] for n in layout.outputs)
    outputs, shake, care = (np.zeros((cycles, bits), np.uint8) for _ in range(3))
    beat = delivered % sink.beats
    golden_words = golden.words.reshape(-1, sink.word_bytes)
    words = np.unpackbits(golden_words, axis=1, count=sink.word_bits, bitorder="little")
    row = words[np.minimum(delivered, len(words) - 1)]
    place = layout.outputs
    outputs[:, layout.bits(place, source.ready)] = taken[:, None]
    shake[:, layout.bits(place, source.ready)] = offer[:, None]
    outputs[:, layout.bits(place, sink.valid)] = given[:, None]
    shake[:, layout.bits(place, sink.valid)] = ready[:, None]
    for marker, value in ((sink.first, beat == 0), (sink.last, beat == sink.beats - 1)):
        outputs[:, layout.bits(place, marker)] = value[:, None]
        shake[:, layout.bits(place, marker)] = given[:, None]
    outputs[:, layout.bits(place, sink.data)] = row
    care[:, layout.bits(place, sink.data)] = given[:, None]
    care[:, layout.bits(place, sink.err)] = given[:, None]
    counted = np.zeros((2, bits), np.uint8)
    for mask, name in zip(counted, counters(found).values(), strict=True):
        mask[layout.bits(place, name)] = 1
    streams = _streams(layout, stimulus, golden, _pattern(stimulus.offer, at), ready)
    return Trace(lead, inputs, outputs, shake, care, counted[0], counted[1], streams)


def _streams(
    layout: Layout, stimulus: Stimulus, golden: native.Golden, offer: Bools, ready: Bools
) -> bytes:
    """The streams as bitparallel_stream.h reads them."""
    source, sink = layout.model.manifest.input, layout.model.manifest.output
    stalls = stimulus.offer is not None or stimulus.ready is not None
    numbers = [len(stimulus.words), source.beats, source.word_bytes, sink.beats, sink.word_bytes]
    numbers += [stimulus.timing.slack_cycles, int(stalls)]
    names = (source.valid, source.first, source.last, source.data)
    numbers += [*(layout.inputs[name] for name in names), source.word_bits]
    names = (source.ready, sink.valid, sink.first, sink.last)
    numbers += [layout.outputs[name] for name in names]
    numbers += [NO_PORT if sink.err is None else layout.outputs[sink.err]]
    numbers += [layout.outputs[sink.data], sink.word_bits]
    parts = [np.array(numbers, "<u8"), stimulus.words, golden.words]
    parts += [offer.astype(np.uint8), ready.astype(np.uint8)]
    parts += [a.astype("<u4") for a in (golden.accepted_at, golden.delivered_at, golden.done)]
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


def _pattern(pattern: Any, at: IntArray) -> Any:
    return np.ones(len(at), bool) if pattern is None else pattern[at % len(pattern)]


# ---------------------------------------------------------------------------------------- process


def sweep(
    program: gates_build.Program,
    trace: Trace,
    faults: Faults,
    limit: IntArray,
    *,
    further: int = 0,
    merge_until: int = 0,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Seen:
    """Run experiments in lanes; `limit` [n] is the cycle at which each watch ends, `further` the
    cycles for which one that strayed is followed after that. Until cycle `merge_until` one whose
    state differs in exactly one bit is given up."""
    with cache.scratch() as work:
        _write_trace(work / "trace", trace)
        columns = (faults.first, faults.target, faults.mode, faults.start, faults.stop, limit)
        with (work / "job").open("wb") as file:
            file.write(np.array([len(faults), len(faults.target), merge_until], "<u8").tobytes())
            file.write(b"".join(np.asarray(c).astype("<u4").tobytes() for c in columns))
        count = workers or len(os.sched_getaffinity(0))
        arguments = [program.model, program.contents, "trace", "job", "result", count]
        until = min(len(trace.outputs), limit.max() + further)
        _call(work, [*arguments, faults.start.min(), until], progress)
        return _read(work / "result", len(faults), trace.outputs.shape[1])


def _write_trace(path: Path, trace: Trace) -> None:
    packed = [_packed(array) for array in (trace.inputs, trace.outputs, trace.shake, trace.care)]
    ends = [_packed(array[None]) for array in (trace.retried, trace.corrected)]
    sizes = np.array([trace.lead, len(trace.outputs)], "<u8").tobytes()
    path.write_bytes(b"".join([sizes, *packed, *ends, trace.streams]))


def _packed(bits: Words) -> bytes:
    return np.packbits(bits, axis=1, bitorder="little").tobytes()


def _call(work: Path, command: list[Any], progress: Callable[[int], None] | None) -> None:
    with subprocess.Popen(
        [str(part) for part in command],
        cwd=work,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if progress is not None:
                progress(int(line))
        lines = process.stderr.read().strip().splitlines()
    if process.returncode:
        why = lines[-1] if lines else f"exit status {process.returncode}"
        raise ClaimError(f"bit-parallel engine: {printable(why)}")


def _read(path: Path, count: int, bits: int) -> Seen:
    data, at = path.read_bytes(), 0

    def take(number: int, kind: str) -> Any:
        nonlocal at
        array = np.frombuffer(data, kind, number, at)
        at += array.nbytes
        return array

    rows, frames, evaluations = (int(v) for v in take(3, "<u8"))
    ends, events, strayed = (take(count, "u1") for _ in range(3))
    end_cycle, merged_bit = (take(count, "<u4").astype(np.int64) for _ in range(2))
    detected = take(count, "<i4").astype(np.int64)  # never is all ones
    experiment, cycle = (take(rows, "<u4").astype(np.int64) for _ in range(2))
    outputs = take(rows * -(-bits // 8), "u1").reshape(rows, -(-bits // 8))
    frame_experiment, frame = (take(frames, "<u4").astype(np.int64) for _ in range(2))
    flags = take(frames, "u1")
    words = take(len(data) - at, "u1")
    order = np.lexsort((cycle, experiment))
    order = order[: np.searchsorted(experiment[order], count)]  # without rows that frames replaced
    wide = np.unpackbits(outputs[order], axis=1, count=bits, bitorder="little")
    beats = experiment[order], cycle[order], wide
    own = frame_experiment, frame, flags, words.reshape(frames, -1) if frames else words[None][:0]
    each = ends, events, strayed, end_cycle, merged_bit, detected
    return Seen(*each, *beats, *own, evaluations)


# ---------------------------------------------------------------------------------------- results


def _observed(layout: Layout, prepared: Prepared, seen: Seen) -> Observed:
    sink, golden = layout.model.manifest.output, prepared.golden
    keep = seen.ends[seen.experiment] != DIVERGED
    experiment, cycle, bits = seen.experiment[keep], seen.cycle[keep], seen.outputs[keep]
    delivered = golden.delivered_at[cycle]
    frame, beat = delivered // sink.beats, delivered % sink.beats
    data = np.packbits(
        bits[:, layout.bits(layout.outputs, sink.data)], axis=1, bitorder="little"
    ).reshape(len(bits), sink.word_bytes)
    err = bits[:, layout.bits(layout.outputs, sink.err)].any(axis=1)
    wrong = (data != golden.words[frame, beat]).any(axis=1)

    new = np.ones(len(frame), bool)
    new[1:] = (experiment[1:] != experiment[:-1]) | (frame[1:] != frame[:-1])
    row = np.cumsum(new) - 1
    first = np.flatnonzero(new)
    count = len(first)
    words = golden.words[frame[first]].copy()
    words[row, beat] = data
    flags = np.zeros(count, np.uint8)
    np.bitwise_or.at(flags, row[wrong], FrameFlag.WRONG)
    np.bitwise_or.at(flags, row[err], FrameFlag.ERR)
    # A flag counts if it comes before the first wrong beat or with it.
    first_wrong = np.full(count, sink.beats)
    np.minimum.at(first_wrong, row[wrong], beat[wrong])
    in_time = err & (beat <= first_wrong[row])
    np.bitwise_or.at(flags, row[in_time], FrameFlag.FLAGGED)
    own = np.flatnonzero(seen.ends[seen.frame_experiment] != DIVERGED)
    strayed = seen.frame_words[own].reshape(len(own), sink.beats, sink.word_bytes)
    experiment = np.concatenate((experiment[first], seen.frame_experiment[own]))
    frame = np.concatenate((frame[first], seen.frame[own]))
    order = np.lexsort((frame, experiment))
    flags = np.concatenate((flags, seen.frame_flags[own]))[order]
    words = np.concatenate((words, strayed))[order]
    rows = experiment[order], frame[order], flags, words
    return Observed(seen.ends, seen.events, seen.end_cycle, seen.detected, *rows)
