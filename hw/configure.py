"""Graph, folding and protection -> the configuration of every layer's circuit. No Amaranth."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import gcd

from ..quant import ranges, shapes
from ..quant.errors import InputError
from ..quant.ir import (
    Add,
    ArgMax,
    AvgPool,
    Concat,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    Graph,
    MaxPool,
    Node,
    Pad,
    Requantize,
    TensorType,
)
from .average import by_count
from .config import (
    INPUT,
    ArgMaxConfig,
    LayerConfig,
    LinearConfig,
    PoolConfig,
    Tap,
    WindowConfig,
    WindowedConfig,
    clog2,
)
from .join_config import join
from .shift_config import shift_layer
from .skips import fit_skips
from .timing import sized

__all__ = [
    "Fold",
    "Protection",
    "circuit_nodes",
    "configure",
    "configure_layer",
    "out_lanes",
    "sources",
]

Size = tuple[int, int, int]

MULTIPLIERS = ("dsp", "dsp2", "lut", "shift")
"""How a layer multiplies: `*`, one `*` for two lanes, sums of shifted rows, or unrolled into shared
shift-adds."""


@dataclass(frozen=True)
class Fold:
    """How far a layer is folded: `pe` output lanes of `simd` multipliers, one of `MULTIPLIERS`.

    `weights` is where they lie: "block" RAM, "logic", or "auto": block RAM above
    `hw.config.BLOCK_BITS` bits a lane.

    Pools use `pe` only (channels a cycle), ArgMax neither.
    """

    pe: int = 1
    simd: int = 1
    multiplier: str = "dsp"
    weights: str = "auto"


@dataclass(frozen=True)
class Protection:
    """What hardens a layer.

    `modulus` of its checksum or None, output channels (`neurons`) under TMR, `control` "parity"
    when its control registers are checked, else "none".
    """

    modulus: int | None = None
    neurons: tuple[int, ...] = ()
    control: str = "none"


def circuit_nodes(graph: Graph) -> list[Node]:
    """The nodes that become circuits, in order: all but Flatten, which only renames a stream.

    Raises InputError when there are none.
    """
    found = [node for node in graph if not isinstance(node, Flatten)]
    if not found:
        raise InputError("the graph has no layer that becomes a circuit")
    return found


def sources(graph: Graph) -> dict[str, tuple[str, ...]]:
    """For each node that becomes a circuit the layers, or `INPUT`, that its operands come from."""
    stands_for = {graph.input_name: INPUT}
    found = {}
    for node in graph:
        operands = tuple(stands_for.get(name, name) for name in node.inputs)
        if isinstance(node, Flatten):
            stands_for[node.name] = operands[0]
        else:
            found[node.name] = operands
    return found


def configure(
    graph: Graph,
    folding: Mapping[str, Fold],
    protection: Mapping[str, Protection] | None = None,
) -> tuple[LayerConfig, ...]:
    """Configurations of the layers of `graph`, whose channels are already in stream order.

    The FIFOs of joins are as deep as the whole network needs (`hw.skips`). Raises InputError naming
    the layer: `pe` or `simd` that does not divide, a type that the circuits do not take.
    """
    protection = protection or {}
    layers = tuple(
        configure_layer(
            graph,
            node,
            folding.get(node.name, Fold()),
            protection.get(node.name, Protection()),
        )
        for node in circuit_nodes(graph)
    )
    return fit_skips(layers)


def configure_layer(
    graph: Graph, node: Node, fold: Fold, guard: Protection = Protection()
) -> LayerConfig:
    """Configuration of one node of `circuit_nodes`; as `configure`."""
    sizes, kinds, bounds = _analysed(graph)
    return _layer(
        node,
        _origins(graph)[node.name],
        tuple(sizes[operand] for operand in node.inputs),
        sizes[node.name],
        tuple(kinds[operand] for operand in node.inputs),
        kinds[node.name],
        bounds[node.name],
        fold,
        guard,
        bounds[node.inputs[0]],
    )


@functools.lru_cache(maxsize=2048)
def _layer(
    node: Node,
    origins: tuple[str, ...],
    operands: tuple[tuple[int, ...], ...],
    shape: tuple[int, ...],
    kinds: tuple[TensorType, ...],
    out: TensorType,
    found: ranges.Range,
    fold: Fold,
    guard: Protection,
    before: ranges.Range,
) -> LayerConfig:
    """One layer's configuration; candidates of a search share many."""
    size, checked = _size(operands[0]), guard.control == "parity"
    layer: WindowedConfig
    match node:
        case Conv2d() | Dense():
            layer = _linear(node, size, kinds[0], out, found.raw_bits, fold, guard)
            if fold.multiplier == "shift":
                zero = kinds[0].zero_point if layer.window.padded else before.lo
                layer = shift_layer(layer, (min(before.lo, zero), max(before.hi, zero)))
        case MaxPool() | AvgPool() | GlobalAvgPool():
            layer = _pool(node, size, shape, kinds[0], out, found, fold)
        case ArgMax():
            layer = _argmax(node, operands[0][-1], kinds[0], out)
        case _:
            assert isinstance(node, Add | Concat | Pad)
            channels = tuple(_size(one)[2] for one in operands)
            joined = join(node, channels, shape, kinds, out, found.acc_bits, fold.pe)
            return replace(joined, sources=origins, checked=checked)
    return sized(replace(layer, sources=origins, checked=checked))


@functools.lru_cache(maxsize=8)
def _origins(graph: Graph) -> dict[str, tuple[str, ...]]:
    """`sources` of a graph; foldings of one graph share them."""
    return sources(graph)


@functools.lru_cache(maxsize=8)
def _analysed(
    graph: Graph,
) -> tuple[dict[str, tuple[int, ...]], dict[str, TensorType], dict[str, ranges.Range]]:
    """Shapes, types and ranges of a graph; foldings of one graph share them."""
    return shapes.infer(graph), ranges.types(graph), ranges.infer(graph)


def out_lanes(pe: int, steps: int) -> int:
    """Lanes that leave side by side: the fewest that drain `pe` results in fewer than `steps`."""
    for lanes in range(1, pe):
        if pe % lanes == 0 and pe // lanes < steps:
            return lanes
    return pe


def _size(shape: tuple[int, ...]) -> Size:
    """(h, w, c); features are the channels of one pixel."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (1, 1, shape[0])


def _divides(layer: str, name: str, value: int, total: int, what: str) -> None:
    if value < 1 or total % value:
        raise InputError(
            f"layer {layer}: {name} = {value} does not divide {total} ({what}); "
            f"choose one of {[n for n in range(1, total + 1) if total % n == 0]}"
        )


def _linear(
    node: Conv2d | Dense,
    size: Size,
    kind: TensorType,
    out: TensorType,
    acc_bits: int,
    fold: Fold,
    guard: Protection,
) -> LinearConfig:
    height, width, channels = size
    weight = node.weight.reshape(node.out_channels, -1)
    groups, kernel, stride, padding, dilation = 1, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)
    if isinstance(node, Conv2d):
        groups, kernel, stride = node.groups, node.kernel, node.stride
        padding, dilation = node.padding, node.dilation
    inner = weight.shape[1]
    pe, simd = fold.pe, fold.simd
    _divides(node.name, "simd", simd, inner, "inputs of a neuron")
    per_group, outputs = channels // groups, node.out_channels // groups
    side_by_side = _groups_side_by_side(node.name, pe, simd, groups, outputs, per_group)
    if fold.multiplier not in MULTIPLIERS:
        raise InputError(
            f"layer {node.name}: multiplier {fold.multiplier!r} is not {', '.join(MULTIPLIERS)}"
        )
    if fold.weights not in ("auto", "block", "logic"):
        raise InputError(f"layer {node.name}: weights {fold.weights!r} is not auto, block or logic")
    passes, steps = node.out_channels // pe, inner // simd
    part = gcd(simd, per_group)
    word = part * side_by_side
    taps = _taps(steps, simd, part, kernel[1], per_group)
    bases = tuple(p * pe // outputs * per_group // word for p in range(passes))
    window = WindowConfig(
        height, width, channels, kernel, stride, padding, dilation,
        word=word, lane_bits=kind.bits, taps=taps, passes=bases, depth=1, pad_value=kind.zero_point,
    )  # fmt: skip
    bias = node.bias - kind.zero_point * weight.sum(axis=1)
    lanes = out_lanes(pe, steps)
    rows, columns = window.out_size
    return LinearConfig(
        name=node.name,
        op=type(node).__name__,
        window=window,
        out_shape=(rows, columns, node.out_channels)
        if isinstance(node, Conv2d)
        else (node.out_channels,),
        out_lanes=lanes,
        out_bits=out.bits,
        out_signed=out.signed,
        beats=pe // lanes,
        pe=pe,
        simd=simd,
        act_signed=kind.signed,
        act_bipolar=kind.bipolar,
        weight=weight.reshape(passes, pe, steps, simd),
        weight_bits=node.weight_bits,
        bias=bias.reshape(passes, pe),
        # A flip that wraps would be 0 modulo 3: one guard bit under a checksum.
        acc_bits=acc_bits + (guard.modulus is not None),
        group_lanes=pe // side_by_side,
        multiplier=fold.multiplier,
        weights=fold.weights,
        requantize=node.requantize,
        replicated=tuple(sorted({n % pe for n in guard.neurons})),
        modulus=guard.modulus,
        macs=window.windows * weight.size,
    )


def _groups_side_by_side(
    layer: str, pe: int, simd: int, groups: int, outputs: int, per_group: int
) -> int:
    """Groups that `pe` lanes compute at once: part of one group, or several whole groups."""
    if pe <= outputs:
        _divides(layer, "pe", pe, outputs, "output channels of a group")
        return 1
    _divides(layer, "pe", pe, groups * outputs, "output channels")
    if pe % outputs:
        raise InputError(
            f"layer {layer}: pe = {pe} lanes hold no whole number of groups of {outputs} output "
            f"channels; choose a multiple or a divisor of {outputs}"
        )
    if simd % per_group:
        raise InputError(
            f"layer {layer}: pe = {pe} computes {pe // outputs} groups side by side, which read "
            f"whole pixels of a group: simd = {simd} must be a multiple of {per_group}"
        )
    return pe // outputs


@functools.lru_cache(maxsize=1024)
def _taps(
    steps: int, simd: int, word: int, columns: int, per_group: int
) -> tuple[tuple[Tap, ...], ...]:
    """What each port reads in each step: `simd` elements, `word` a port."""
    return tuple(
        tuple(
            _tap(step * simd + port * word, columns, per_group, word)
            for port in range(simd // word)
        )
        for step in range(steps)
    )


def _tap(index: int, columns: int, per_group: int, word: int) -> Tap:
    """Where element `index` of a window in (row, column, channel) order lies."""
    pixel, channel = divmod(index, per_group)
    return pixel // columns, pixel % columns, channel // word


def _pool(
    node: MaxPool | AvgPool | GlobalAvgPool,
    size: Size,
    out_shape: tuple[int, ...],
    kind: TensorType,
    out: TensorType,
    found: ranges.Range,
    fold: Fold,
) -> PoolConfig:
    height, width, channels = size
    _divides(node.name, "pe", fold.pe, channels, "channels")
    kernel, stride, padding = (height, width), (1, 1), (0, 0, 0, 0)
    if not isinstance(node, GlobalAvgPool):
        kernel, stride, padding = node.kernel, node.stride, node.padding
    average: Requantize | None = None if isinstance(node, MaxPool) else node.requantize
    taps = tuple(((kh, kw, 0),) for kh in range(kernel[0]) for kw in range(kernel[1]))
    window = WindowConfig(
        height, width, channels, kernel, stride, padding, (1, 1),
        word=fold.pe, lane_bits=kind.bits, taps=taps, passes=tuple(range(channels // fold.pe)),
        depth=1, pad_value=kind.zero_point if average else kind.lo * (not kind.bipolar),
        counted=isinstance(node, AvgPool) and not node.count_include_pad,
    )  # fmt: skip
    if isinstance(node, AvgPool) and window.counted:
        average = by_count(node, window)
    return PoolConfig(
        name=node.name,
        op=type(node).__name__,
        window=window,
        out_shape=out_shape,
        out_lanes=fold.pe,
        out_bits=out.bits,
        out_signed=out.signed,
        act_signed=kind.signed,
        act_bipolar=kind.bipolar,
        requantize=average,
        acc_bits=found.raw_bits,
        zero_point=kind.zero_point,
    )


def _argmax(node: ArgMax, elements: int, kind: TensorType, out: TensorType) -> ArgMaxConfig:
    taps = tuple(((0, 0, i),) for i in range(elements))
    window = WindowConfig(
        1, 1, elements, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1),
        word=1, lane_bits=kind.bits, taps=taps, passes=(0,), depth=1,
    )  # fmt: skip
    return ArgMaxConfig(
        name=node.name,
        op="ArgMax",
        window=window,
        out_shape=(1,),
        out_lanes=1,
        out_bits=max(out.bits, clog2(elements)),
        out_signed=False,
        in_bits=kind.bits,
        in_signed=kind.signed and not kind.bipolar,
        elements=elements,
    )
