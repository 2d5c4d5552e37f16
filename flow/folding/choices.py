"""What a layer may be folded to: configurations, cycles, multipliers; costs when they are asked."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from ...hw.config import LayerConfig
from ...hw.configure import Fold, Protection, configure_layer
from ...hw.fold import UNPROTECTED
from ...hw.linear_config import LinearConfig
from ...hw.pixels import side_by_side
from ...hw.reduce_config import PoolConfig
from ...hw.window_config import Size
from ...quant import shapes
from ...quant.errors import InputError
from ...quant.ir import ArgMax, AvgPool, Conv2d, Dense, Graph, MaxPool, Node
from ..costs.families import Blocks
from ..costs.packing import saves_blocks

__all__ = ["Choice", "multipliers", "shaped", "variants"]

MOST_SHIFT_WEIGHTS, MOST_NEEDED_WEIGHTS = 512, 4096
"""Weights up to which the search for shared shift-adds takes no more than a second or two; and no
more than a minute, where a frame rate does not fit otherwise."""

LEAST_BLOCK_BITS = 512
"""Bits of a lane's weights below which a memory block would be all but empty."""

MOST_LOGIC_BITS = 1 << 16
"""Bits of a lane's weights above which look-up tables are out of the question."""


MOST_UNROLLED_WEIGHTS = 1 << 16
"""Multipliers by a constant above which a layer is out of the question."""


@dataclass(frozen=True, eq=False)
class Choice:
    """One folding of a node with the circuit that it gives.

    `breadth` is 0 for what one pixel can be folded to, 1 for whole windows of a pool and whole
    pixels of a Concat or Pad in a cycle, else the pixels that are computed side by side.
    """

    fold: Fold
    layer: LayerConfig
    breadth: int = 0

    @property
    def cycles(self) -> int:
        """Cycles a frame of the layer alone."""
        return self.layer.cycles_per_frame

    @property
    def multipliers(self) -> int:
        """Multipliers; in other layers the channels a cycle."""
        return multipliers(self.layer)

    @property
    def ports(self) -> int:
        """Copies of the buffer in front of the layer."""
        return self.layer.window.ports if isinstance(self.layer, LinearConfig) else 1


def multipliers(layer: LayerConfig) -> int:
    """Multipliers of a layer with weights; in other layers the elements a cycle."""
    if isinstance(layer, LinearConfig):
        return layer.pe * layer.simd
    return layer.out_lanes * (layer.simd if isinstance(layer, PoolConfig) else 1)


def shaped(
    graph: Graph, node: Node, guard: Protection = UNPROTECTED, *, broad: bool = False
) -> list[Choice]:
    """Every `pe` and `simd` worth a thought, and `broad` ones beyond; fewest multipliers first.

    Of equal multipliers those with fewer copies of the buffer come first, then the most square.
    `simd` divides the channels of a group or is a multiple of them: else each multiplier reads
    words of few channels through a copy of the buffer of its own.
    """
    found = []
    folds = [(fold, 0) for fold in _foldings(graph, node)]
    for fold, breadth in [*folds, *(broad_foldings(graph, node) if broad else ())]:
        try:
            layer = configure_layer(graph, node, fold, _gathered(guard, node, fold))
        except InputError:
            continue  # the circuit does not take it
        found.append(Choice(fold, layer, breadth))
    if not found:  # the reason, in the words of the circuit
        configure_layer(graph, node, Fold(), guard)
    return sorted(found, key=_rank)


def _rank(choice: Choice) -> tuple[int, int, int]:
    fold = choice.fold
    return choice.multipliers, choice.ports, abs(fold.pe - fold.simd)


def _foldings(graph: Graph, node: Node) -> Iterator[Fold]:
    """Candidates; some may be refused by the circuit."""
    if isinstance(node, ArgMax):
        yield Fold()
        return
    if not isinstance(node, Conv2d | Dense):
        yield from (Fold(pe) for pe in _divisors(_sizes(graph)[node.name][-1]))
        return
    channels = node.weight.shape[-1]
    simds = [n for n in _divisors(node.weight[0].size) if channels % n == 0 or n % channels == 0]
    for pe in _divisors(node.out_channels):
        yield from (Fold(pe, simd) for simd in simds)


def broad_foldings(graph: Graph, node: Node) -> Iterator[tuple[Fold, int]]:
    """Candidates beyond a pixel, or an element of a pool's window, a cycle, with their breadth.

    Some may be refused by the circuit.
    """
    if isinstance(node, ArgMax | Dense):
        return
    whole = _whole(graph, node)
    if not isinstance(node, Conv2d):
        yield whole, 1
    counts = side_by_side(node, _image(graph, node.inputs[0]), _image(graph, node.name))
    for pixels in counts[1:]:
        if not isinstance(node, Conv2d) or pixels * node.weight.size <= MOST_UNROLLED_WEIGHTS:
            yield replace(whole, pixels=pixels), pixels


def _whole(graph: Graph, node: Node) -> Fold:
    """Everything of a pixel in a cycle."""
    channels = _sizes(graph)[node.name][-1]
    if isinstance(node, Conv2d):
        return Fold(channels, node.weight[0].size)
    if isinstance(node, MaxPool | AvgPool):
        height, width, _ = _image(graph, node.inputs[0])
        if (height, width) != node.kernel or any(node.padding):
            return Fold(channels, node.kernel[0] * node.kernel[1])
    return Fold(channels)


def _image(graph: Graph, name: str) -> Size:
    """Shape of a tensor; features are the channels of one pixel."""
    shape = _sizes(graph)[name]
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (1, 1, shape[0])


def variants(
    choice: Choice,
    graph: Graph,
    node: Node,
    guard: Protection,
    family: Blocks | None,
    most_shifted: int = MOST_SHIFT_WEIGHTS,
) -> list[Choice]:
    """The choice with its products in DSP blocks or LUTs and its weights in block RAM or logic.

    Lanes share DSP blocks where that saves some in a `family`; None has no blocks. A fully
    unrolled layer has constants for weights; one of at most `most_shifted` weights (of a pixel) may
    be made of shift-adds.
    """
    layer = choice.layer
    if not isinstance(layer, LinearConfig):
        return [choice]
    if layer.constant_weights:
        return [choice, *_shifted(choice, graph, node, guard, most_shifted)]
    bits = layer.weight.shape[0] * layer.weight.shape[2] * layer.simd * layer.weight_bits
    places = ["block"] * (bits >= LEAST_BLOCK_BITS) + ["logic"] * (bits <= MOST_LOGIC_BITS)
    found = []
    for multiplier in ("dsp", "dsp2", "lut") if family else ("dsp",):
        for place in places:
            fold = replace(choice.fold, multiplier=multiplier, weights=place)
            guarded = _gathered(guard, node, fold)
            made = configure_layer(graph, node, fold, guarded)
            if multiplier != "dsp2" or (family and saves_blocks(made, family)):
                found.append(Choice(fold, made, choice.breadth))
    return found


def _shifted(
    choice: Choice, graph: Graph, node: Node, guard: Protection, most: int
) -> list[Choice]:
    layer = choice.layer
    if not isinstance(layer, LinearConfig) or layer.weight.size > most * layer.pixels:
        return []
    fold = replace(choice.fold, multiplier="shift")
    try:
        return [Choice(fold, configure_layer(graph, node, fold, guard), choice.breadth)]
    except InputError:
        return []  # protected neurons, or a group at a time


def _gathered(guard: Protection, node: Node, fold: Fold) -> Protection:
    """Protected neurons as they will lie: on as few lanes, or in as few passes, as hold them."""
    if not guard.neurons or not isinstance(node, Conv2d | Dense):
        return guard
    together = 1 if guard.mode == "temporal" else max(1, node.out_channels // fold.pe)
    return replace(guard, neurons=tuple(range(ceil(len(guard.neurons) / together))))


@functools.lru_cache(maxsize=8)
def _sizes(graph: Graph) -> dict[str, tuple[int, ...]]:
    return shapes.infer(graph)


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
