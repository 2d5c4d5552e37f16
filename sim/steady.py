"""The fault-free run of a campaign: frames one after the other until the steady state, then the
window.

A stream of frames, not single ones: what an upset can reach depends on how many inferences are in
flight. It runs back to back, or with stalls on both sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..quant import reference, serialize
from ..quant.errors import ClaimError, InputError
from ..quant.ir import IntArray
from ..quant.npz import load_array
from . import expected, manifest, native_model
from .engines import native
from .faults import PERMANENT, Faults
from .manifest import Manifest, Words
from .native_model import NativeModel

__all__ = ["Pattern", "Prepared", "Stalls", "Stimulus", "prepare", "stimulus"]

FURTHER_FRAMES = 4
STALL_PERIOD = 4093

Pattern = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Stalls:
    """Random stalls: the probabilities that a beat is offered and that the output is ready."""

    offer: float = 1.0
    ready: float = 1.0
    seed: int = 0

    def patterns(self) -> tuple[Pattern | None, Pattern | None]:
        """The two patterns of a `Stimulus`; None for one that never stalls.

        Raises InputError for a probability outside (0, 1].
        """
        if not (0 < self.offer <= 1 and 0 < self.ready <= 1):
            raise InputError("the probabilities of stalls must lie in (0, 1]; 1 never stalls")
        draws = np.random.default_rng(self.seed).random((2, STALL_PERIOD))
        offer, ready = draws < np.array([[self.offer], [self.ready]])
        return (offer if self.offer < 1 else None), (ready if self.ready < 1 else None)


@dataclass(frozen=True)
class Stimulus:
    """The frames of a campaign: `warm` to reach the steady state, one for each of `inputs`
    (indices into the file), and a tail. `words` uint8 [frames, beats, word_bytes].

    In cycle t (0 is the first after reset) a beat is offered if `offer[t % len(offer)]`, and the
    output is ready if `ready[t % len(ready)]`; None is always. A beat that was offered and not
    taken may be withdrawn.
    """

    words: Words
    frames: IntArray
    inputs: IntArray
    warm: int
    timing: native.Timing
    offer: Pattern | None = None
    ready: Pattern | None = None

    def window(self, golden: native.Golden) -> tuple[int, int]:
        """First cycle of the faults and the one after the last: the cycles in which the frame of
        some input is the next to be delivered."""
        end = self.warm + len(self.inputs)
        return int(golden.done[self.warm - 1]) + 1, int(golden.done[end - 1]) + 1


@dataclass(frozen=True)
class Prepared:
    """A compiled design, its stimulus and its fault-free run."""

    model: NativeModel
    stimulus: Stimulus
    golden: native.Golden

    @property
    def initiation_interval(self) -> float:
        """Cycles of one inference, measured over the window."""
        start, stop = self.stimulus.window(self.golden)
        return (stop - start) / len(self.stimulus.inputs)

    def watched(self, faults: Faults) -> tuple[IntArray, IntArray]:
        """First frame [n] that an experiment can change, and the one after the last [n] that is
        watched.

        The first is the next to be delivered at the first event. The watch ends `bound_frames`
        frames after the next to be delivered at the last flip, at the end of a stuck-at, or at
        the start of one that outlasts the stream; at the latest with the stream.
        """
        done, cycles = self.golden.done, self.golden.cycles
        endless = (faults.stop == PERMANENT) | (faults.stop > cycles)
        lasts = np.where(endless, faults.start, faults.stop - 1)
        last = np.maximum.reduceat(lasts, faults.first[:-1]) if len(faults) else lasts
        stop = np.searchsorted(done, last) + self.stimulus.timing.bound_frames
        return np.searchsorted(done, faults.cycle), np.minimum(stop, len(done))

    def check(self, faults: Faults) -> None:
        """InputError for faults that cannot be run (`Faults.check`)."""
        faults.check(self.model.design.space, int(self.golden.done[-1]) + 1)


def stimulus(
    found: Manifest, frames: IntArray, inputs: IntArray, stalls: Stalls | None = None
) -> Stimulus:
    """The stream of a campaign over frames [n, *shape] whose indices in the file are `inputs`."""
    offer, ready = (stalls or Stalls()).patterns()
    slowdown = math.prod(1 / float(p.mean()) for p in (offer, ready) if p is not None)
    interval = math.ceil(found.initiation_interval * slowdown)
    latency = math.ceil(found.latency_cycles * slowdown)
    in_flight = -(-found.latency_cycles // found.initiation_interval)
    bound, warm = in_flight + FURTHER_FRAMES, max(3, in_flight + 2)
    order = np.arange(-warm, len(inputs) + 2 * bound + 2) % len(inputs)
    cycles = 2 * (latency + len(order) * interval) + 1000
    timing = native.Timing(bound, 3 * interval + latency, cycles)
    packed = found.input.pack(frames.reshape(-1, *found.input.shape))
    return Stimulus(packed[order], frames[order], inputs, warm, timing, offer, ready)


def prepare(
    directory: Path, path: Path | None, inputs: int, first: int, stalls: Stalls | None = None
) -> Prepared:
    """Compile the design in `directory` and run it without a fault on `inputs` frames of `path`
    (default: its vectors.npz) from frame `first` on, back to back or with `stalls`.

    Raises InputError for a directory or file that does not fit, ClaimError if the run stalls or
    differs from the integer reference (where there is a graph.json).
    """
    found = manifest.load(directory)
    graph_path = directory / "graph.json"
    graph = serialize.load(graph_path) if graph_path.is_file() else None
    path = path or directory / "vectors.npz"
    frames = expected.load_frames(path, graph) if graph else load_array(path)
    if not 0 <= first < len(frames):
        raise InputError(f"{path}: first input {first} is not one of its {len(frames)} frames")
    indices = np.arange(first, min(first + inputs, len(frames)))
    try:
        play = stimulus(found, frames[indices], indices, stalls)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    model = native_model.build(found)
    if model.design.ff_bits != found.ff_bits:
        raise InputError(
            f"{directory / 'manifest.json'}: lists {found.ff_bits} flip-flop bits, the Verilog has "
            f"{model.design.ff_bits}; build the directory again"
        )
    golden = native.golden(model, play)
    if graph is not None:
        _check_golden(found, golden, reference.run(graph, play.frames))
    return Prepared(model, play, golden)


def _check_golden(found: Manifest, golden: native.Golden, wanted: IntArray) -> None:
    got = found.output.unpack(golden.words).reshape(len(wanted), -1)
    wrong = np.flatnonzero((got != wanted.reshape(len(wanted), -1)).any(axis=1))
    if len(wrong):
        raise ClaimError(
            f"{found.directory}: without a fault {len(wrong)} of {len(wanted)} frames differ from "
            "the integer reference; run `tercet verify`"
        )
