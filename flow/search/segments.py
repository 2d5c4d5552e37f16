"""What one stage, or the head, of a network adds to every figure: a row of numbers.

A network is cut in front of each stage. What a piece costs depends on its own genes, on those of
the hardware and on the pool in front of it, so each piece is built behind a copy of that pool (the
*stub*) and goes through the exact estimator once.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, nan
from typing import Any

import numpy as np

from ...hw.config import LayerConfig, WindowedConfig
from ...hw.configure import Fold, unfitted
from ...hw.join_config import JoinConfig
from ...hw.linear_config import LinearConfig
from ...hw.skips import fit_skips
from ...hw.timing import initiation_interval, solved
from ...quant.errors import InputError
from ...quant.ir import Conv2d, Dense, Graph, IntArray, MaxPool
from ..costs.layer import forks, layer_resources, operand_lanes, resources
from ..design import prepare
from ..folding import meeting
from ..plan import Plan, Settings, Tmr, protect
from ..targets import Target
from . import topology
from .candidate import StageSpec
from .skeleton import Bits, Skeleton

__all__ = ["COLUMNS", "PACES", "Piece", "figures", "styled"]

RESOURCES = ("luts", "ffs", "dsps", "brams")
SUMS = ("macs", "parameters", "relevance", "elements", "bits", "adcr", "frames", "late", "beats")
COLUMNS = (*RESOURCES, "interval", *SUMS, "worst")
"""What a row holds, before three groups of `len(PACES)` times.

`relevance`, `elements`, `bits` are the sums of R, n and bits R over feature maps; `frames`, `late`
and `beats` what the watchdog counts.
"""

PACES = (1, 2, 4, 8, 16)
"""How far apart the stub's input words come, in cycles: where times are sampled."""

Row = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Piece:
    """A stage (`stage`) or the head (`head`) of a network: piece `number`, behind `width` channels.

    `size` (h, w) and `width` are those of its operand; `classes` outputs of a head.
    """

    family: str
    bits: Bits
    number: int
    size: tuple[int, int]
    width: int
    stage: StageSpec | None = None
    head: str = ""
    classes: int = 0

    @functools.cached_property
    def shape(self) -> Piece:
        """The piece without its widths in bits, which neither folding nor timing depends on."""
        return replace(self, bits=(8, 8, "scale"))

    @property
    def stubbed(self) -> bool:
        """Whether a pool is in front; in front of the first stage is the image."""
        return self.number > 1

    def graph(self) -> Graph:
        """The piece behind its stub."""
        (height, width), scale = self.size, 2 if self.stubbed else 1
        made = Skeleton(self.family, self.bits, (scale * height, scale * width, self.width))
        if self.stubbed:
            made.pool(f"s{self.number - 1}_pool")
        if self.stage is not None:
            made.stage(self.number, self.stage)
        else:
            made.head(self.head, self.classes)
        return made.graph()


def styled(graph: Graph, folding: Mapping[str, Fold], multiplier: str) -> dict[str, Fold]:
    """The folding with the multipliers of layers with weights out of "dsp" blocks or "lut"s."""
    return {
        name: replace(fold, multiplier=multiplier)
        if isinstance(graph.node(name), Conv2d | Dense)
        else fold
        for name, fold in folding.items()
    }


def figures(
    piece: Piece, graph: Graph, interval: int, multiplier: str, plan: Plan, target: Target
) -> Row:
    """The row of a piece: `COLUMNS`, then input spreads, delays and output spreads by pace.

    `graph` is the piece's. Figures of the circuit are NaN where it is refused (InputError).
    """
    known = _topology(graph)
    row = np.full(len(COLUMNS) + 3 * len(PACES), nan)
    try:
        layers = _layers(piece, graph, interval, multiplier, plan)
        known = known | _circuit(piece, layers, target)
        row[len(COLUMNS) :] = _times(piece.shape, interval, _Timed(layers))
    except InputError:
        pass  # the scalar estimate of a candidate names the reason
    row[: len(COLUMNS)] = [known.get(name, nan) for name in COLUMNS]
    return row


def _layers(
    piece: Piece, graph: Graph, interval: int, multiplier: str, plan: Plan
) -> tuple[LayerConfig, ...]:
    """The circuits of a piece and its stub."""
    folding = styled(graph, _folding(piece.shape, interval), multiplier)
    if plan.default.tmr is not None or plan.default.bound is not None:
        return prepare(graph, folding, *_scored(plan, graph)).layers
    layers = unfitted(graph, folding, protect(plan, graph, None))
    joins = [one for one in layers if isinstance(one, JoinConfig)]
    if not joins:
        return layers
    depths = iter(_depths(piece.shape, interval, _Timed(layers)))
    return tuple(
        replace(one, operands=tuple(replace(each, depth=next(depths)) for each in one.operands))
        if isinstance(one, JoinConfig)
        else one
        for one in layers
    )


@functools.lru_cache(maxsize=4096)
def _folding(shape: Piece, interval: int) -> dict[str, Fold]:
    """What a layer is folded to does not depend on any width in bits, nor on the plan."""
    return meeting(_shape_graph(shape), interval)


@functools.lru_cache(maxsize=8)
def _shape_graph(shape: Piece) -> Graph:
    return shape.graph()


class _Timed:
    """Layers of one shape and folding, equal where nothing tells them apart in time.

    A cache keeps the key, so whoever times the layers takes them out.
    """

    def __init__(self, layers: tuple[LayerConfig, ...]) -> None:
        self.layers = layers
        self.key = tuple(_timing_key(layer) for layer in layers)

    def take(self) -> tuple[LayerConfig, ...]:
        """The layers, once."""
        layers, self.layers = self.layers, ()
        return layers

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Timed) and self.key == other.key


def _timing_key(layer: LayerConfig) -> tuple[object, ...]:
    """Everything in time that shape and folding do not say: widths, codes and checks."""
    window = layer.window if isinstance(layer, WindowedConfig) else None
    modulus = layer.modulus is not None if isinstance(layer, LinearConfig) else False
    return (
        layer.pipeline_cycles,
        layer.commit_cycles,
        layer.fifo_beats,
        layer.leaving,
        modulus,
        isinstance(layer, LinearConfig) and layer.by_frame,
        None if window is None else (window.depth, window.hold),
        tuple(one.depth for one in layer.operands) if isinstance(layer, JoinConfig) else (),
    )


@functools.lru_cache(maxsize=1 << 16)
def _depths(shape: Piece, interval: int, timed: _Timed) -> tuple[int, ...]:
    """Depths of all operand FIFOs, in order, as `hw.skips` finds them for the piece alone."""
    fitted = fit_skips(timed.take())
    joins = (one for one in fitted if isinstance(one, JoinConfig))
    return tuple(operand.depth for one in joins for operand in one.operands)


@functools.lru_cache(maxsize=8)
def _topology(graph: Graph) -> dict[str, float]:
    """Sums over the layers behind the stub; relevance is 1 between any two pieces."""
    maps = topology.feature_maps(graph)
    first = graph.nodes[0]
    if isinstance(first, MaxPool):
        del maps[first.name]
    return {
        "macs": topology.macs(graph),
        "parameters": topology.parameters(graph),
        "relevance": sum(one.relevance for one in maps.values()),
        "elements": sum(one.elements for one in maps.values()),
        "bits": sum(one.bits * one.relevance for one in maps.values()),
        "adcr": topology.adcr(graph),
        "worst": max(one.relevance / one.elements for one in maps.values()),
    }


def _scored(plan: Plan, graph: Graph) -> tuple[Plan, IntArray]:
    """The plan without shares, and frames for its bounds.

    Which neurons score best only training tells: the first ones of each layer stand for them.
    """
    shape = (4, *graph.input_shape)
    frames = np.random.default_rng(0).integers(0, graph.input_type.hi + 1, shape)
    tmr = plan.default.tmr
    if not isinstance(tmr, Tmr) or tmr.share is None:
        return plan, frames
    layers = {}
    for node in graph:
        if isinstance(node, Conv2d | Dense):
            neurons = tuple(range(round(tmr.share * node.out_channels)))
            layers[node.name] = Settings(tmr=replace(tmr, neurons=neurons, share=None))
    return replace(plan, default=replace(plan.default, tmr=None), layers=layers), frames


def _circuit(piece: Piece, layers: tuple[LayerConfig, ...], target: Target) -> dict[str, float]:
    found = layer_resources(layers, target.family.name)[piece.stubbed :]
    sums = {key: _total([getattr(one, key) for one in found]) for key in RESOURCES}
    if piece.stubbed:
        sums["ffs"] += _fork_ffs(layers, target)
    own = layers[piece.stubbed :]
    return sums | {
        "interval": initiation_interval(layers),
        "frames": sum(
            ceil(one.fifo_beats / (one.groups_per_frame * one.beats)) + 2 * len(one.sources)
            for one in own
        ),
        "late": sum(getattr(one, "retry_cycles", 0) for one in own),
        "beats": 0 if piece.stage else own[-1].groups_per_frame * own[-1].beats,
    }


def _total(counts: list[float | None]) -> float:
    return nan if None in counts else float(sum(count or 0 for count in counts))


def _fork_ffs(layers: tuple[LayerConfig, ...], target: Target) -> float:
    """Flip-flops of the fork behind the stub, which the piece's own shape asks for."""
    behind = forks(layers)[0]
    if not behind:
        return 0.0
    lanes, family = operand_lanes(layers)[0], target.family.name
    with_fork = resources(layers[0], lanes, family, forks=behind).ffs
    without = resources(layers[0], lanes, family).ffs
    return nan if with_fork is None or without is None else float(with_fork - without)


@functools.lru_cache(maxsize=1 << 16)
def _times(shape: Piece, interval: int, timed: _Timed) -> Row:
    """By pace: cycles from the first to the last word that comes in; from the first that comes in
    to the first that leaves; and from the first to the last that leaves.

    What comes in is timed behind the stub alone: whatever the piece does to its source counts as
    its own.
    """
    layers, count = timed.take(), len(PACES)
    if not shape.stubbed:
        first, last = _ends(layers, 1)
        return np.concatenate((np.arange(count), [first] * count, [last - first] * count))
    before = np.array([_ends(layers[:1], pace) for pace in PACES])
    behind = np.array([_ends(layers, pace) for pace in PACES])
    spread_in, spread_out = (ends[:, 1] - ends[:, 0] for ends in (before, behind))
    return np.concatenate((spread_in, behind[:, 0] - before[:, 0], spread_out))


def _ends(layers: tuple[LayerConfig, ...], pace: int) -> tuple[float, float]:
    """Cycles of the first and last beat of the first frame, its words `pace` cycles apart."""
    words = max(layers[0].in_words)
    network = solved(layers, 1, lambda one: one.inlet.pace(pace * words, 1))
    popped = network.tail.popped - network.inlet.popped[0]
    return float(popped[0]), float(popped[-1])
