"""The stages of the timing recurrence: when a layer's words are taken, started and seen.

Every time is the maximum of earlier times plus constants, so a whole layer is a running maximum
over an array. The stages start from zero and only ever raise their times: repeated until nothing
moves, the updates end in the least fixed point, which is exact.
"""

from __future__ import annotations

import functools
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from ..quant.ir import IntArray
from .config import LayerConfig, WindowConfig, WindowedConfig
from .join_config import JoinConfig, PadConfig
from .linear_config import LinearConfig

__all__ = ["Inlet", "JoinStage", "Link", "Port", "Stage", "outlet", "ratios", "stage"]


def ratios(lanes: int, word: int) -> tuple[int, int]:
    """Beats that a converter gathers, and parts that it sends, between two widths."""
    wide = lanes * word // gcd(lanes, word)
    return wide // lanes, wide // word


def _running(bound: IntArray, step: int = 1) -> IntArray:
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


class Port:
    """An operand of a stage: the cycle in which each word is taken, and how often these moved."""

    def __init__(self, words: int) -> None:
        self.accepted = np.zeros(words, dtype=np.int64)
        self.moves = 0


class Stage:
    """A layer in time: `started` of each group, `popped` of each beat of those that leave.

    `readers` links take the beats; a beat leaves once all have taken it.
    """

    def __init__(self, layer: LayerConfig, frames: int) -> None:
        self.layer, self.frames = layer, frames
        groups = frames * layer.groups_per_frame
        self.ports = [Port(frames * words) for words in layer.in_words]
        self.started = np.zeros(groups, dtype=np.int64)
        self.start_moves = 0
        leaves = np.resize(np.array(layer.leaving), groups)
        self.leaving = slice(None) if leaves.all() else np.flatnonzero(leaves)
        self.popped = np.zeros(int(leaves.sum()) * layer.beats, dtype=np.int64)
        self.pop_moves = 0
        self.left: list[IntArray] = []
        ahead = np.cumsum(leaves) + ~leaves  # each start asks for the room of one group more
        beats = ahead * layer.beats - layer.fifo_beats - 1
        self.credit_from = int(np.searchsorted(beats, 0))
        self.credit_beats = beats[self.credit_from :]
        self.seen: tuple[int, ...] = ()

    @property
    def lanes(self) -> int:
        """Elements of a beat."""
        return self.layer.out_lanes

    @property
    def visible(self) -> IntArray:
        """Cycle from which each beat stands at the FIFO's output, its predecessors gone."""
        layer = self.layer
        behind = layer.steps - 1 + layer.pipeline_cycles
        done = (self.started[self.leaving] + behind)[:, None]
        spread = np.arange(layer.beats)
        if isinstance(layer, LinearConfig) and layer.by_frame:
            seen: IntArray = done + spread
            groups = layer.beats_per_frame // layer.beats
            last = slice(groups - 1, None, groups)
            seen[last] = np.maximum(seen[last], done[last] + layer.commit_cycles)
            return seen.ravel()
        if layer.commit_cycles or (isinstance(layer, LinearConfig) and layer.modulus):
            spread = np.zeros_like(spread)
        beats: IntArray = (done + layer.commit_cycles + spread).ravel()
        return beats

    def bound(self) -> IntArray:
        """Cycle before which each group cannot start, output room aside."""
        raise AssertionError("defined by each kind of stage")

    def writable(self, port: int) -> IntArray:
        """Cycle from which each word of an operand is taken."""
        raise AssertionError("defined by each kind of stage")

    def depends(self) -> tuple[int, ...]:
        """What the starts depend on, as counts of changes."""
        return (self.pop_moves, *(port.moves for port in self.ports))

    def update(self) -> bool:
        """Recompute the starts; whether any moved."""
        seen = self.depends()
        if self.seen == seen:
            return False
        self.seen = seen
        bound = self.bound()
        if self.credit_from < len(bound):
            room = self.popped[self.credit_beats] + 1
            bound[self.credit_from :] = np.maximum(bound[self.credit_from :], room)
        started = np.maximum(self.started, _running(bound, self.layer.steps))
        changed = bool((started != self.started).any())
        self.started = started
        self.start_moves += changed
        return changed

    def leave(self: Stage | Inlet, reader: int, times: IntArray) -> bool:
        """Reader `reader` takes the beats at `times`; whether any beat leaves later than known."""
        self.left[reader] = times
        popped = functools.reduce(np.maximum, self.left)
        changed = bool((popped != self.popped).any())
        self.popped = popped
        self.pop_moves += changed
        return changed


class _WindowStage(Stage):
    """A buffer of windows in front: a group starts when its window is complete."""

    layer: WindowedConfig

    def __init__(self, layer: WindowedConfig, frames: int) -> None:
        super().__init__(layer, frames)
        window = layer.window
        self.passes = len(window.passes)
        self.need, self.slot_window = _reads(_Reads.of(window), frames)
        self.frame_starts = np.arange(frames) * window.frame_words

    @property
    def finished(self) -> IntArray:
        """Cycle in which each window's last step is issued."""
        last: IntArray = self.started[self.passes - 1 :: self.passes] + self.layer.steps - 1
        return last

    @property
    def claims(self) -> IntArray:
        """Cycle in which the reader takes each frame."""
        windows = self.layer.window.windows
        before = np.concatenate(([0], self.finished[windows - 1 :: windows][:-1]))
        return np.maximum(self.ports[0].accepted[self.frame_starts] + 1, before)

    def writable(self, port: int) -> IntArray:
        """A word waits for its slot, a frame's first also for the claim before it."""
        finished = np.concatenate(([-1], self.finished + self.layer.window.hold))
        ready = finished[np.minimum(self.slot_window, len(finished) - 1)] + 1
        ready[self.frame_starts[1:]] = np.maximum(
            ready[self.frame_starts[1:]], self.claims[:-1] + 1
        )
        return ready

    def depends(self) -> tuple[int, ...]:
        """A claim follows the frame before: then the starts depend on the starts."""
        return (*super().depends(), self.start_moves if self.frames > 1 else 0)

    def bound(self) -> IntArray:
        """The last word of the window, and the claim of its frame."""
        bound = np.zeros_like(self.started)
        windows = bound[:: self.passes]
        windows[:] = self.ports[0].accepted[self.need] + 1
        per_frame = self.layer.window.windows
        windows[::per_frame] = np.maximum(windows[::per_frame], self.claims + 1)
        return bound


class _DirectStage(Stage):
    """No buffer in front: a word, which is a frame, starts in the cycle in which it is taken."""

    def writable(self, port: int) -> IntArray:
        """A word waits for room in the FIFO behind."""
        ready = np.zeros_like(self.started)
        ready[self.credit_from :] = self.popped[self.credit_beats] + 1
        return ready

    def bound(self) -> IntArray:
        """The word itself."""
        return self.ports[0].accepted.copy()


class JoinStage(Stage):
    """Operand FIFOs in front: a word starts when the words that it is made of are there."""

    layer: JoinConfig

    def __init__(self, layer: JoinConfig, frames: int) -> None:
        super().__init__(layer, frames)
        base = np.arange(frames)[:, None] * layer.groups_per_frame
        self.reads = [(base + reads).ravel() for reads in layer.reads]
        self.depths = [operand.depth for operand in layer.operands]

    def writable(self, port: int) -> IntArray:
        """A word waits until the one `depth` before it has left the FIFO."""
        reads, depth = self.reads[port], self.depths[port]
        ready = np.zeros(len(reads), dtype=np.int64)
        if depth < len(ready):
            ready[depth:] = self.started[reads[:-depth]] + 1
        return ready

    def bound(self) -> IntArray:
        """The words that are read; a padded frame's border waits for its first word."""
        bound = np.zeros_like(self.started)
        for reads, port in zip(self.reads, self.ports, strict=True):
            bound[reads] = np.maximum(bound[reads], port.accepted + 2)
        if isinstance(self.layer, PadConfig):
            words, groups = self.layer.in_words[0], self.layer.groups_per_frame
            bound[::groups] = np.maximum(bound[::groups], self.ports[0].accepted[::words] + 2)
        return bound


def stage(layer: LayerConfig, frames: int) -> Stage:
    """The stage of a layer."""
    if isinstance(layer, JoinConfig):
        return JoinStage(layer, frames)
    assert isinstance(layer, WindowedConfig)
    return _DirectStage(layer, frames) if layer.direct else _WindowStage(layer, frames)


class Inlet:
    """The graph's input: a beat is always there."""

    def __init__(self, lanes: int, beats: int) -> None:
        self.lanes = lanes
        self.visible = np.zeros(beats, dtype=np.int64)
        self.popped = np.zeros(beats, dtype=np.int64)
        self.left: list[IntArray] = []
        self.start_moves = self.pop_moves = 0

    leave = Stage.leave

    def pace(self, interval: int, frames: int) -> None:
        """Let a frame's beats arrive spread over `interval` cycles."""
        per_frame = len(self.visible) // frames
        self.visible = np.arange(len(self.visible)) * interval // per_frame
        self.start_moves += 1


class Link:
    """Converters from a source to an operand: when words enter the operand's buffer."""

    def __init__(self, source: Stage | Inlet, sink: Stage, port: int) -> None:
        self.source, self.sink, self.index = source, sink, port
        self.port = sink.ports[port]
        self.gather, self.split = ratios(source.lanes, sink.layer.in_lanes[port])
        self.reader = len(source.left)
        source.left.append(source.popped)
        self.seen: tuple[int, ...] = ()

    def update(self) -> bool:
        """Recompute the arrivals; whether any moved."""
        source, port = self.source, self.port
        forked = len(source.left) > 1
        seen = (
            port.moves,
            self.sink.start_moves,
            source.start_moves,
            source.pop_moves if forked else 0,
        )
        if self.seen == seen:
            return False
        self.seen = seen
        ready = self.sink.writable(self.index)
        count = len(ready) // self.split
        events = np.zeros((count, self.gather - 1 + self.split), dtype=np.int64)
        events[:, self.gather - 1 :] = ready.reshape(count, self.split)
        offered = source.visible
        if forked:  # the next beat is offered once every reader has this one
            offered = np.maximum(offered, np.concatenate(([0], source.popped[:-1] + 1)))
        offered = offered.reshape(count, self.gather)
        events[:, : self.gather] = np.maximum(events[:, : self.gather], offered)
        times = _running(events.ravel()).reshape(events.shape)
        accepted = times[:, self.gather - 1 :].ravel()
        moved = bool((accepted != port.accepted).any())
        port.accepted = accepted
        port.moves += moved
        gone = np.concatenate((times[:, : self.gather - 1], times[:, -1:]), axis=1).ravel()
        return source.leave(self.reader, gone) or moved

    def save(self) -> tuple[Any, ...]:
        """The times of the operand, of the layer behind it, and of the beats that it took."""
        source, sink = self.source, self.sink
        left = source.left[self.reader]
        return self.port.accepted, sink.started, left, source.popped, sink.popped

    def restore(self, times: tuple[Any, ...]) -> None:
        """Go back to saved times; everything is computed again."""
        source, sink = self.source, self.sink
        self.port.accepted, sink.started, left, source.popped, sink.popped = times
        source.left[self.reader] = left
        self.port.moves += 1
        sink.start_moves += 1
        source.pop_moves += 1
        sink.pop_moves += 1


def outlet(source: Stage) -> bool:
    """The network's output takes a beat a cycle; whether any beat leaves later than known."""
    if not source.left:
        source.left.append(source.popped)
    return source.leave(0, _running(source.visible))
