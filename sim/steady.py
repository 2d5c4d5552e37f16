"""The fault-free run of a campaign: frames back to back until the steady state, then the window.

Back-to-back frames, not single ones: what an upset can reach depends on how many inferences are in
flight.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..quant import reference, serialize
from ..quant.errors import ClaimError, InputError
from ..quant.ir import IntArray
from ..quant.npz import load_array
from . import expected, manifest, native_model
from .engines import native
from .manifest import Manifest, Words
from .native_model import NativeModel

__all__ = ["Prepared", "Stimulus", "prepare", "stimulus"]

FURTHER_FRAMES = 4


@dataclass(frozen=True)
class Stimulus:
    """The frames of a campaign, back to back: `warm` to reach the steady state, one for each of
    `inputs` (indices into the file), and a tail. `words` uint8 [frames, beats, word_bytes]."""

    words: Words
    frames: IntArray
    inputs: IntArray
    warm: int
    timing: native.Timing

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


def stimulus(found: Manifest, frames: IntArray, inputs: IntArray) -> Stimulus:
    """The stream of a campaign over frames [n, *shape] whose indices in the file are `inputs`."""
    interval = found.initiation_interval
    in_flight = -(-found.latency_cycles // interval)
    bound, warm = in_flight + FURTHER_FRAMES, max(3, in_flight + 2)
    order = np.arange(-warm, len(inputs) + 2 * bound + 2) % len(inputs)
    cycles = 2 * (found.latency_cycles + len(order) * interval) + 1000
    timing = native.Timing(bound, 3 * interval + found.latency_cycles, cycles)
    packed = found.input.pack(frames.reshape(-1, *found.input.shape))
    return Stimulus(packed[order], frames[order], inputs, warm, timing)


def prepare(directory: Path, path: Path | None, inputs: int, first: int) -> Prepared:
    """Compile the design in `directory` and run it without a fault on `inputs` frames of `path`
    (default: its vectors.npz) from frame `first` on.

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
        play = stimulus(found, frames[indices], indices)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    model = native_model.build(found)
    if model.design.ff_bits != found.ff_bits:
        raise InputError(
            f"{directory / 'manifest.json'}: lists {found.ff_bits} flip-flop bits, the Verilog has "
            f"{model.design.ff_bits}; build the directory again"
        )
    golden = native.golden(model, play.words, play.timing)
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
