"""Graph, folding and protection -> the configuration of every layer's circuit. No Amaranth."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import gcd

from ..quant import ranges, shapes
from ..quant.errors import InputError
from ..quant.ir import (
    ArgMax,
    AvgPool,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    Graph,
    MaxPool,
    Node,
    Requantize,
    TensorType,
    Thresholds,
)
from .config import (
    ArgMaxConfig,
    LayerConfig,
    LinearConfig,
    PoolConfig,
    Tap,
    WindowConfig,
    clog2,
)
from .timing import sized

__all__ = ["Fold", "Protection", "chain", "configure", "out_lanes"]

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Fold:
    """How far a layer is folded: `pe` output lanes of `simd` multipliers, out of DSPs or LUTs.

    Pools use `pe` only (channels a cycle), ArgMax neither.
    """

    pe: int = 1
    simd: int = 1
    multiplier: str = "dsp"


@dataclass(frozen=True)
class Protection:
    """What hardens a layer.

    `modulus` of its checksum or None, output channels (`neurons`) under TMR, `control` "parity"
    when its control registers are checked, else "none".
    """

    modulus: int | None = None
    neurons: tuple[int, ...] = ()
    control: str = "none"


def chain(graph: Graph) -> list[Node]:
    """The nodes that become circuits, in order of the data.

    Raises InputError, naming the layer, when the graph is not a chain of supported operators.
    """
    previous = graph.input_name
    found: list[Node] = []
    for node in graph:
        if not isinstance(
            node, Conv2d | Dense | MaxPool | AvgPool | GlobalAvgPool | ArgMax | Flatten
        ):
            raise InputError(
                f"layer {node.name}: {type(node).__name__} has no circuit yet; "
                "build chains of Conv2d, Dense, pools, Flatten and ArgMax"
            )
        if node.inputs[0] != previous:
            raise InputError(
                f"layer {node.name}: reads {node.inputs[0]}, not the layer before it ({previous}); "
                "only chains have a circuit yet"
            )
        previous = node.name
        if not isinstance(node, Flatten):
            found.append(node)
    if not found:
        raise InputError("the graph has no layer that becomes a circuit")
    return found


def configure(
    graph: Graph,
    folding: Mapping[str, Fold],
    protection: Mapping[str, Protection] | None = None,
) -> tuple[LayerConfig, ...]:
    """Configurations of the layers of `graph`, whose channels are already in stream order.

    Raises InputError naming the layer: no circuit for it, `pe` or `simd` that does not divide, a
    type the circuits do not take.
    """
    nodes = chain(graph)
    sizes, kinds, bounds = _analysed(graph)
    protection = protection or {}
    layers: list[LayerConfig] = []
    for node in nodes:
        source, name = node.inputs[0], node.name
        if kinds[source].bipolar or kinds[name].bipolar:
            raise InputError(f"layer {name}: bipolar activations have no circuit yet")
        fold, guard = folding.get(name, Fold()), protection.get(name, Protection())
        shapes_of = (sizes[source], sizes[name])
        layers.append(
            _layer(node, shapes_of, kinds[source], kinds[name], bounds[name], fold, guard)
        )
    return tuple(layers)


@functools.lru_cache(maxsize=2048)
def _layer(
    node: Node,
    sizes: tuple[tuple[int, ...], tuple[int, ...]],
    kind: TensorType,
    out: TensorType,
    found: ranges.Range,
    fold: Fold,
    guard: Protection,
) -> LayerConfig:
    """One layer's configuration; candidates of a search share many."""
    size = _size(sizes[0])
    layer: LayerConfig
    match node:
        case Conv2d() | Dense():
            layer = _linear(node, size, kind, out, found.raw_bits, fold, guard)
        case MaxPool() | AvgPool() | GlobalAvgPool():
            layer = _pool(node, size, sizes[1], kind, out, found, fold)
        case _:
            assert isinstance(node, ArgMax), "chain lets nothing else through"
            layer = _argmax(node, sizes[0][-1], kind, out)
    return sized(replace(layer, checked=guard.control == "parity"))


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
    _divides(node.name, "pe", pe, node.out_channels // groups, "output channels of a group")
    _divides(node.name, "simd", simd, inner, "inputs of a neuron")
    if fold.multiplier not in ("dsp", "lut"):
        raise InputError(f"layer {node.name}: multiplier {fold.multiplier!r} is not dsp or lut")
    if isinstance(node.requantize, Thresholds):
        raise InputError(f"layer {node.name}: thresholds have no circuit yet; use a requantize")
    per_group, passes, steps = channels // groups, node.out_channels // pe, inner // simd
    word = gcd(simd, per_group)
    taps = _taps(steps, simd, word, kernel[1], per_group)
    bases = tuple(
        p * pe // (node.out_channels // groups) * (per_group // word) for p in range(passes)
    )
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
        weight=weight.reshape(passes, pe, steps, simd),
        weight_bits=max(2, node.weight_bits),
        bias=bias.reshape(passes, pe),
        # A flip that wraps would be 0 modulo 3: one guard bit under a checksum.
        acc_bits=acc_bits + (guard.modulus is not None),
        multiplier=fold.multiplier,
        requantize=node.requantize,
        replicated=tuple(sorted({n % pe for n in guard.neurons})),
        modulus=guard.modulus,
        macs=window.windows * weight.size,
    )


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
    if isinstance(node, AvgPool) and any(padding) and not node.count_include_pad:
        raise InputError(
            f"layer {node.name}: an average over a varying count has no circuit; "
            "set count_include_pad or drop the padding"
        )
    average: Requantize | None = None if isinstance(node, MaxPool) else node.requantize
    taps = tuple(((kh, kw, 0),) for kh in range(kernel[0]) for kw in range(kernel[1]))
    window = WindowConfig(
        height, width, channels, kernel, stride, padding, (1, 1),
        word=fold.pe, lane_bits=kind.bits, taps=taps, passes=tuple(range(channels // fold.pe)),
        depth=1, pad_value=kind.lo if average is None else kind.zero_point,
    )  # fmt: skip
    return PoolConfig(
        name=node.name,
        op=type(node).__name__,
        window=window,
        out_shape=out_shape,
        out_lanes=fold.pe,
        out_bits=out.bits,
        out_signed=out.signed,
        act_signed=kind.signed,
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
        in_signed=kind.signed,
        elements=elements,
    )
