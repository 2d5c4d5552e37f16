"""When every beat moves: one exact recurrence over beats (max-plus), in NumPy, without Amaranth.

Each event is the maximum of earlier events plus constants, so a whole layer is a running maximum
over an array. What depends on later layers (a full buffer, a full FIFO) is found by iteration to
the least fixed point, which is exact. Cycle 0 accepts the first beat; the source always has a beat,
the sink always takes one.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from dataclasses import dataclass
from math import gcd
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..quant.ir import IntArray
from .config import LayerConfig, LinearConfig, WindowConfig

__all__ = ["Timing", "initiation_interval", "recurrence", "sized"]

Layer = TypeVar("Layer", bound=LayerConfig)

LIMIT = 10_000
"""Iterations after which the recurrence counts as diverging."""

ACCEPTED, STARTED, POPPED = range(3)
"""What a stage counts the changes of, so that nothing is computed twice from equal inputs."""


@dataclass(frozen=True)
class Timing:
    """Cycle of the last output beat of each frame, and per layer the same at its output."""

    last_beat_cycles: tuple[int, ...]
    layers: dict[str, tuple[int, ...]]

    @property
    def latency_cycles(self) -> int:
        """First input beat accepted to last output beat delivered, first frame after reset."""
        return self.last_beat_cycles[0]

    @property
    def initiation_interval(self) -> int:
        """Spacing of the last two frames' last beats."""
        return self.last_beat_cycles[-1] - self.last_beat_cycles[-2]


def initiation_interval(layers: tuple[LayerConfig, ...]) -> int:
    """Closed form: the slowest layer's or converter's cycles for a frame.

    A layer's are its input words, steps or beats. A converter to the least common multiple takes
    `gather` - 1 beats before the word that it sends in `split` parts.
    """
    cycles = [layer.cycles_per_frame for layer in layers]
    for source, sink in itertools.pairwise(layers):
        gather, split = _ratios(source.out_lanes, sink.window.word)
        cycles.append(sink.window.frame_words // split * (gather - 1 + split))
    return max(cycles)


def _ratios(lanes: int, word: int) -> tuple[int, int]:
    """Beats that a converter gathers, and parts that it sends, between two widths."""
    wide = lanes * word // gcd(lanes, word)
    return wide // lanes, wide // word


def recurrence(layers: tuple[LayerConfig, ...], frames: int = 3) -> Timing:
    """Beat times of `frames` frames back to back, exact when nothing outside stalls.

    Raises ValueError for fewer than one frame.
    """
    if frames < 1:
        raise ValueError(f"frames must be >= 1, not {frames}")
    stages = [_Stage(layer, frames) for layer in layers]
    links = [_Link(None, stages[0])]
    links += [_Link(a, b) for a, b in itertools.pairwise(stages)]
    tail = _Sink(stages[-1])
    for _ in range(LIMIT):
        changed = False
        for link in links:
            changed |= link.update()
            changed |= link.sink.update()
        changed |= tail.update()
        if not changed:
            break
    else:
        raise AssertionError("the timing recurrence does not converge")
    ends = {s.layer.name: tuple(s.popped.reshape(frames, -1)[:, -1].tolist()) for s in stages}
    return Timing(ends[layers[-1].name], ends)


def sized(layer: Layer) -> Layer:
    """The layer with the smallest buffer that keeps its interval with an unhindered source."""
    bare = layer.window if layer.window.depth == 1 else dataclasses.replace(layer.window, depth=1)
    depth = _buffer_depth(bare, layer.beats)
    return dataclasses.replace(layer, window=dataclasses.replace(layer.window, depth=depth))


@functools.lru_cache(maxsize=4096)
def _buffer_depth(window: WindowConfig, beats: int) -> int:
    """Words, a power of two: a window, a row of outputs, and what hides the change of frames."""
    depth = window.least_depth
    while True:
        probe = _Probe(
            name="probe", op="", window=dataclasses.replace(window, depth=depth), beats=beats,
            out_shape=(), out_lanes=1, out_bits=1, out_signed=False,
        )  # fmt: skip
        if recurrence((probe,), 5).initiation_interval <= probe.cycles_per_frame:
            return depth
        depth *= 2


class _Probe(LayerConfig):
    """A layer of the least latency, to size a buffer."""

    @property
    def pipeline_cycles(self) -> int:
        return 1


def _chain(bound: IntArray, step: int = 1) -> IntArray:
    """t[n] = max(t[n - 1] + step, bound[n])."""
    ramp = step * np.arange(len(bound), dtype=np.int64)
    return np.asarray(np.maximum.accumulate(bound - ramp) + ramp, dtype=np.int64)


class _Reads(NamedTuple):
    """What a window's reads depend on; many foldings of a layer share it."""

    words_per_pixel: int
    depth: int
    height: int
    width: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]

    @classmethod
    def of(cls, window: WindowConfig) -> _Reads:
        """The part of a configuration that matters."""
        return cls(*(getattr(window, name) for name in cls._fields))


@functools.lru_cache(maxsize=1024)
def _reads(key: _Reads, frames: int) -> tuple[IntArray, IntArray]:
    """Last word that each window needs, and the window that frees the slot of each word."""
    window = WindowConfig(
        key.height, key.width, key.words_per_pixel, key.kernel, key.stride, key.padding,
        key.dilation, word=1, lane_bits=1, taps=((),), passes=(), depth=key.depth,
    )  # fmt: skip
    words = window.frame_words
    base = np.repeat(np.arange(frames, dtype=np.int64) * words, window.windows)
    starts = base + np.tile(window.window_starts, frames)
    need = base + np.tile(window.window_needs, frames) - 1
    # A word may enter once the first window that starts late enough is current.
    slots = np.searchsorted(
        np.maximum.accumulate(starts), np.arange(frames * words) - window.depth, side="right"
    )
    return need, slots


class _Stage:
    """A layer's reader: groups start, beats become visible."""

    def __init__(self, layer: LayerConfig, frames: int) -> None:
        self.layer = layer
        window = layer.window
        words, windows = window.frame_words, window.windows
        self.steps, self.passes = window.steps, len(window.passes)
        self.need, self.slot_window = _reads(_Reads.of(window), frames)
        groups = frames * windows * self.passes
        beats = np.arange(1, groups + 1) * layer.beats - layer.fifo_beats - 1
        self.credit_from = int(np.searchsorted(beats, 0))
        self.credit_beats = beats[self.credit_from :]
        self.moves = [0, 0, 0]
        # A claim follows the frame before: only then do a stage's starts depend on its starts.
        self.own = frames > 1
        self.seen: tuple[int, ...] = ()
        self.accepted = np.zeros(frames * words, dtype=np.int64)
        self.started = np.zeros(groups, dtype=np.int64)
        self.popped = np.zeros(groups * layer.beats, dtype=np.int64)
        self.frame_starts = np.arange(frames) * words

    @property
    def finished(self) -> IntArray:
        """Cycle in which each window's last step is issued."""
        last: IntArray = self.started[self.passes - 1 :: self.passes] + self.steps - 1
        return last

    @property
    def claims(self) -> IntArray:
        """Cycle in which the reader takes each frame."""
        ends = self.finished[self.layer.window.windows - 1 :: self.layer.window.windows]
        before = np.concatenate(([0], ends[:-1]))
        return np.maximum(self.accepted[self.frame_starts] + 1, before)

    @property
    def visible(self) -> IntArray:
        """Cycle from which each beat stands at the FIFO's output, its predecessors gone."""
        layer = self.layer
        done = self.started + self.steps - 1 + layer.pipeline_cycles + layer.commit_cycles
        spread = np.arange(layer.beats)
        if layer.commit_cycles or (isinstance(layer, LinearConfig) and layer.modulus):
            spread = np.zeros_like(spread)
        beats: IntArray = (done[:, None] + spread).ravel()
        return beats

    @property
    def writable(self) -> IntArray:
        """Cycle from which the buffer takes each word."""
        finished = np.concatenate(([-1], self.finished))
        ready = finished[np.minimum(self.slot_window, len(finished) - 1)] + 1
        ready[self.frame_starts[1:]] = np.maximum(
            ready[self.frame_starts[1:]], self.claims[:-1] + 1
        )
        return ready

    def update(self) -> bool:
        """Recompute the starts; whether any moved."""
        seen = (self.moves[ACCEPTED], self.moves[POPPED], self.own * self.moves[STARTED])
        if self.seen == seen:
            return False
        self.seen = seen
        bound = np.zeros_like(self.started)
        windows = bound[:: self.passes]
        windows[:] = self.accepted[self.need] + 1
        per_frame = self.layer.window.windows
        windows[::per_frame] = np.maximum(windows[::per_frame], self.claims + 1)
        if self.credit_from < len(bound):
            room = self.popped[self.credit_beats] + 1
            bound[self.credit_from :] = np.maximum(bound[self.credit_from :], room)
        started = np.maximum(self.started, _chain(bound, self.steps))
        changed = bool((started != self.started).any())
        self.started = started
        self.moves[STARTED] += changed
        return changed


class _Link:
    """Converters between two layers, or from the source: when words enter the next buffer."""

    def __init__(self, source: _Stage | None, sink: _Stage) -> None:
        self.source, self.sink = source, sink
        word = sink.layer.window.word
        lanes = word if source is None else source.layer.out_lanes
        self.gather, self.split = _ratios(lanes, word)
        self.seen: tuple[int, ...] = ()

    def update(self) -> bool:
        """Recompute the arrivals; whether any moved."""
        sink = self.sink
        seen: tuple[int, ...] = (sink.own * sink.moves[ACCEPTED], sink.moves[STARTED])
        if self.source is not None:
            seen += (self.source.moves[STARTED],)
        if self.seen == seen:
            return False
        self.seen = seen
        ready = sink.writable
        count = len(ready) // self.split
        events = np.zeros((count, self.gather - 1 + self.split), dtype=np.int64)
        events[:, self.gather - 1 :] = ready.reshape(count, self.split)
        if self.source is not None:
            visible = self.source.visible.reshape(count, self.gather)
            events[:, : self.gather] = np.maximum(events[:, : self.gather], visible)
        times = _chain(events.ravel()).reshape(events.shape)
        accepted = times[:, self.gather - 1 :].ravel()
        moved = bool((accepted != sink.accepted).any())
        sink.accepted = accepted
        sink.moves[ACCEPTED] += moved
        if self.source is None:
            return moved
        popped = np.concatenate((times[:, : self.gather - 1], times[:, -1:]), axis=1).ravel()
        left = bool((popped != self.source.popped).any())
        self.source.popped = popped
        self.source.moves[POPPED] += left
        return moved or left


class _Sink:
    """The network's output: a beat a cycle."""

    def __init__(self, source: _Stage) -> None:
        self.source = source

    def update(self) -> bool:
        """Recompute the departures; whether any moved."""
        popped: Any = _chain(self.source.visible)
        changed = bool((popped != self.source.popped).any())
        self.source.popped = popped
        self.source.moves[POPPED] += changed
        return changed
