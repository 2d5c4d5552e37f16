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
from ...quant import shapes
from ...quant.errors import InputError
from ...quant.ir import ArgMax, Conv2d, Dense, Graph, Node
from ..costs.families import Blocks
from ..costs.packing import saves_blocks

__all__ = ["Choice", "multipliers", "shaped", "variants"]

MOST_SHIFT_WEIGHTS = 512
"""Weights up to which the search for shared shift-adds takes no more than a second or two."""

LEAST_BLOCK_BITS = 512
"""Bits of a lane's weights below which a memory block would be all but empty."""

MOST_LOGIC_BITS = 1 << 16
"""Bits of a lane's weights above which look-up tables are out of the question."""


@dataclass(frozen=True, eq=False)
class Choice:
    """One folding of a node with the circuit that it gives."""

    fold: Fold
    layer: LayerConfig

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
    """Multipliers of a layer with weights; in other layers the channels a cycle."""
    return layer.pe * layer.simd if isinstance(layer, LinearConfig) else layer.out_lanes


def shaped(graph: Graph, node: Node, guard: Protection = UNPROTECTED) -> list[Choice]:
    """Every `pe` and `simd` worth a thought, fewest multipliers first.

    Of equal multipliers those with fewer copies of the buffer come first, then the most square.
    `simd` divides the channels of a group or is a multiple of them: else each multiplier reads
    words of few channels through a copy of the buffer of its own.
    """
    found = []
    for fold in _foldings(graph, node):
        try:
            layer = configure_layer(graph, node, fold, _gathered(guard, node, fold))
        except InputError:
            continue  # the circuit does not take it
        found.append(Choice(fold, layer))
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


def variants(
    choice: Choice, graph: Graph, node: Node, guard: Protection, family: Blocks | None
) -> list[Choice]:
    """The choice with its products in DSP blocks or LUTs and its weights in block RAM or logic.

    Lanes share DSP blocks where that saves some in a `family`; None has no blocks. A fully
    unrolled layer has constants for weights; a small one may be made of shift-adds.
    """
    layer = choice.layer
    if not isinstance(layer, LinearConfig):
        return [choice]
    if layer.constant_weights:
        return [choice, *_shifted(choice, graph, node, guard)]
    bits = layer.weight.shape[0] * layer.weight.shape[2] * layer.simd * layer.weight_bits
    places = ["block"] * (bits >= LEAST_BLOCK_BITS) + ["logic"] * (bits <= MOST_LOGIC_BITS)
    found = []
    for multiplier in ("dsp", "dsp2", "lut") if family else ("dsp",):
        for place in places:
            fold = replace(choice.fold, multiplier=multiplier, weights=place)
            guarded = _gathered(guard, node, fold)
            made = configure_layer(graph, node, fold, guarded)
            if multiplier != "dsp2" or (family and saves_blocks(made, family)):
                found.append(Choice(fold, made))
    return found


def _shifted(choice: Choice, graph: Graph, node: Node, guard: Protection) -> list[Choice]:
    layer = choice.layer
    if not isinstance(layer, LinearConfig) or layer.weight.size > MOST_SHIFT_WEIGHTS:
        return []
    fold = replace(choice.fold, multiplier="shift")
    try:
        return [Choice(fold, configure_layer(graph, node, fold, guard))]
    except InputError:
        return []  # protected neurons, or a group at a time


def _gathered(guard: Protection, node: Node, fold: Fold) -> Protection:
    """Protected neurons as they will lie: side by side on as few lanes as hold them."""
    if not guard.neurons or not isinstance(node, Conv2d | Dense):
        return guard
    passes = max(1, node.out_channels // fold.pe)
    return replace(guard, neurons=tuple(range(ceil(len(guard.neurons) / passes))))


@functools.lru_cache(maxsize=8)
def _sizes(graph: Graph) -> dict[str, tuple[int, ...]]:
    return shapes.infer(graph)


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
