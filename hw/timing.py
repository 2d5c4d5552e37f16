"""When every beat moves: one exact recurrence over beats (max-plus), in NumPy, without Amaranth.

The stages (`hw.beats`) are iterated to the least fixed point, which is exact. The first beat is
accepted in cycle 0; the source always has a beat, the sink always takes one.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from .beats import Inlet, JoinStage, Link, outlet, ratios, stage
from .config import INPUT, LayerConfig, WindowConfig, WindowedConfig

__all__ = ["Network", "Timing", "initiation_interval", "recurrence", "sized"]

Layer = TypeVar("Layer", bound=WindowedConfig)

LIMIT = 10_000
"""Iterations after which the recurrence counts as diverging."""


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
    lanes = {layer.name: layer.out_lanes for layer in layers}
    for sink in layers:
        for source, words in zip(sink.sources, sink.in_words, strict=True):
            gather, split = ratios(lanes.get(source, sink.in_lanes), sink.in_lanes)
            cycles.append(words // split * (gather - 1 + split))
    return max(cycles)


def recurrence(layers: tuple[LayerConfig, ...], frames: int = 3) -> Timing:
    """Beat times of `frames` frames back to back, exact when nothing outside stalls.

    Raises ValueError for fewer than one frame.
    """
    if frames < 1:
        raise ValueError(f"frames must be >= 1, not {frames}")
    timing = Network(layers, frames).solve()
    assert timing is not None, "without a limit it converges or raises"
    return timing


class Network:
    """The stages of a network and the links between them; times only ever grow.

    Layers are in topological order, the last one is the output.
    """

    def __init__(self, layers: tuple[LayerConfig, ...], frames: int) -> None:
        self.frames = frames
        self.stages = {layer.name: stage(layer, frames) for layer in layers}
        readers = [
            (source, sink, port)
            for sink in self.stages.values()
            for port, source in enumerate(sink.layer.sources)
        ]
        lanes, beats = next(
            (sink.layer.in_lanes, len(sink.ports[port].accepted))
            for source, sink, port in readers
            if source == INPUT
        )
        self.inlet = Inlet(lanes, beats)
        self.links = [
            Link(self.inlet if source == INPUT else self.stages[source], sink, port)
            for source, sink, port in readers
        ]
        self.tail = self.stages[layers[-1].name]

    def solve(self, latest: int | None = None) -> Timing | None:
        """Raise the times to the least fixed point; None once the output ends after `latest`.

        Room and data travel against each other, so the links are walked in both directions.
        """
        for _ in range(LIMIT):
            changed = False
            for link in itertools.chain(self.links, reversed(self.links)):
                changed |= link.update()
                changed |= link.sink.update()
            changed |= outlet(self.tail)
            if not changed:
                break
            if latest is not None and self.tail.popped[-1] > latest:
                return None
        else:
            raise AssertionError("the timing recurrence does not converge")
        accepted = self.inlet.popped[0]  # later than 0 where a slow reader shares the input
        ends = {
            name: tuple((found.popped.reshape(self.frames, -1)[:, -1] - accepted).tolist())
            for name, found in self.stages.items()
        }
        return Timing(ends[self.tail.layer.name], ends)

    def set_depth(self, join: str, port: int, depth: int) -> None:
        """Give an operand's FIFO another depth; times that are too early for it are raised."""
        stage = self.stages[join]
        assert isinstance(stage, JoinStage)
        stage.depths[port] = depth
        stage.start_moves += 1

    def held(self, join: str, port: int) -> int:
        """Words that an operand's FIFO must hold so that none of the known times moves."""
        stage = self.stages[join]
        assert isinstance(stage, JoinStage)
        taken = stage.ports[port].accepted
        left = np.searchsorted(stage.started[stage.reads[port]], taken)
        return int((np.arange(1, len(taken) + 1) - left).max())

    def save(self) -> list[Any]:
        """The times, to go back to."""
        return [link.save() for link in self.links]

    def restore(self, saved: list[Any]) -> None:
        """Go back to saved times."""
        for link, times in zip(self.links, saved, strict=True):
            link.restore(times)


def sized(layer: Layer) -> Layer:
    """The layer with the smallest buffer that keeps its interval with an unhindered source."""
    if layer.direct:
        return layer
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


class _Probe(WindowedConfig):
    """A layer of the least latency, to size a buffer."""

    @property
    def pipeline_cycles(self) -> int:
        return 1
