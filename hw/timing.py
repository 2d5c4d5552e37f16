"""When every beat moves: one exact recurrence over beats (max-plus), in NumPy, without Amaranth.

The stages (`hw.beats`) are iterated to the least fixed point, which is exact. The first beat is
accepted in cycle 0; the source always has a beat, the sink always takes one.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..quant.ir import IntArray
from .beats import Inlet, JoinStage, Link, outlet, ratios, stage
from .config import INPUT, LayerConfig, WindowConfig, WindowedConfig

__all__ = ["Network", "Timing", "initiation_interval", "recurrence", "sized", "solved"]

Layer = TypeVar("Layer", bound=WindowedConfig)

LIMIT = 1_000_000
"""Updates of a link after which the recurrence counts as diverging."""


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
        """Spacing of the last frames' last beats; the larger one where two alternate."""
        return max(b - a for a, b in itertools.pairwise(self.last_beat_cycles[-3:]))

    @property
    def spacings(self) -> tuple[int, ...]:
        """Every spacing of last beats from the third frame on, in ascending order."""
        ends = self.last_beat_cycles[1:]
        return tuple(sorted({b - a for a, b in itertools.pairwise(ends)}))


def initiation_interval(layers: tuple[LayerConfig, ...]) -> int:
    """Closed form: the slowest layer's or converter's cycles for a frame.

    A layer's are its input words, steps or beats. A converter to the least common multiple takes
    `gather` - 1 beats before the word that it sends in `split` parts.
    """
    cycles = [layer.cycles_per_frame for layer in layers]
    lanes = {layer.name: layer.out_lanes for layer in layers}
    for sink in layers:
        operands = zip(sink.sources, sink.in_lanes, sink.in_words, strict=True)
        for source, word, words in operands:
            gather, split = ratios(lanes.get(source, word), word)
            cycles.append(words // split * (gather - 1 + split))
    return max(cycles)


def recurrence(layers: tuple[LayerConfig, ...], frames: int = 3) -> Timing:
    """Beat times of `frames` frames back to back, exact when nothing outside stalls.

    Raises ValueError for fewer than one frame.
    """
    if frames < 1:
        raise ValueError(f"frames must be >= 1, not {frames}")
    return solved(layers, frames).timing()


def solved(
    layers: tuple[LayerConfig, ...],
    frames: int,
    prepare: Callable[[Network], None] = lambda network: None,
) -> Network:
    """The network with its least times; `prepare` may set depths and the input's pace.

    Frame after frame, so that what stands still is not computed again.
    """
    network: Network | None = None
    for count in range(1, frames + 1):
        larger = Network(layers, count)
        prepare(larger)
        if network is not None:
            larger.start_from(network)
        larger.solve()
        network = larger
    assert network is not None
    return network


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
            (sink.layer.in_lanes[port], len(sink.ports[port].accepted))
            for source, sink, port in readers
            if source == INPUT
        )
        self.inlet = Inlet(lanes, beats)
        self.links = [
            Link(self.inlet if source == INPUT else self.stages[source], sink, port)
            for source, sink, port in readers
        ]
        self.tail = self.stages[layers[-1].name]
        self.feeders: dict[int, set[int]] = defaultdict(set)  # links into a stage, out of a source
        self.readers: dict[int, set[int]] = defaultdict(set)
        for index, link in enumerate(self.links):
            self.feeders[id(link.sink)].add(index)
            self.readers[id(link.source)].add(index)

    def start_from(self, known: Network) -> None:
        """Begin with the times of one frame less.

        A frame comes at least as long after the one before it as any event of that one came after
        its own predecessor: every constraint on it is at least that much later.
        """
        frames = known.frames
        pairs = list(zip(known._times(), self._times(), strict=True))
        shift = 0
        if frames > 1:
            blocks = (times.reshape(frames, -1) for times, _ in pairs)
            shift = min(int((block[-1] - block[-2]).min()) for block in blocks)
        for times, mine in pairs:
            last = times.reshape(frames, -1)[-1]
            mine[:] = np.concatenate((times, last + shift))

    def _times(self) -> list[IntArray]:
        """Every array of times that an update starts from."""
        found: list[IntArray] = [self.inlet.popped]
        for each in self.stages.values():
            found += [each.started, each.popped, *(port.accepted for port in each.ports)]
        return found

    def solve(self, latest: int | None = None) -> bool:
        """Raise the times to the least fixed point; False once the output ends after `latest`.

        Of the links that may move the one nearest to the input goes first: what is behind it is
        computed once it stands still. With `latest` they take turns, for the output to be seen.
        """
        waiting = list(range(len(self.links)))
        queued = set(waiting)
        for _ in range(LIMIT):
            if not waiting:
                break
            index = waiting.pop(0)
            queued.remove(index)
            for other in sorted(self._update(index) - queued):
                place = bisect.bisect(waiting, other) if latest is None else len(waiting)
                waiting.insert(place, other)
                queued.add(other)
            if latest is not None and self.tail.popped[-1] > latest:
                return False
        else:
            raise AssertionError("the timing recurrence does not converge")
        return True

    def timing(self) -> Timing:
        """The ends of the frames, counted from the first accepted beat."""
        accepted = self.inlet.popped[0]  # later than 0 where a slow reader shares the input
        ends = {
            name: tuple((found.popped.reshape(self.frames, -1)[:, -1] - accepted).tolist())
            for name, found in self.stages.items()
        }
        return Timing(ends[self.tail.layer.name], ends)

    def _update(self, index: int) -> set[int]:
        """Update a link and the layer behind it; the links that what moved may move."""
        link = self.links[index]
        source, sink = link.source, link.sink
        before = (sink.start_moves, link.port.moves)
        left = source.pop_moves
        link.update()
        sink.update()
        moved: set[int] = set()
        if (sink.start_moves, link.port.moves) != before:
            moved |= self.readers[id(sink)] | self.feeders[id(sink)]
            if sink is self.tail and outlet(sink):
                moved |= self.feeders[id(sink)]
        if source.pop_moves != left:
            moved |= self.feeders[id(source)] | self.readers[id(source)]
        return moved

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
