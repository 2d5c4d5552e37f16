"""Graph, folding and protection -> the configuration of every layer's circuit. No Amaranth."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

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
    TensorType,
)
from .code_words import encode_int
from .config import INPUT, LayerConfig, WindowedConfig, stream_codes
from .fold import UNPROTECTED, Fold, Protection
from .join_layer import join_layer
from .linear_layer import formed, linear_layer, out_lanes
from .reduce_layer import argmax_layer, pool_layer
from .shift_config import shift_layer
from .skips import fit_skips
from .timing import sized
from .window_config import Size

__all__ = [
    "Fold",
    "Protection",
    "circuit_nodes",
    "configure",
    "configure_layer",
    "out_lanes",
    "sources",
    "unfitted",
]


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
    return fit_skips(unfitted(graph, folding, protection))


def unfitted(
    graph: Graph,
    folding: Mapping[str, Fold],
    protection: Mapping[str, Protection] | None = None,
) -> tuple[LayerConfig, ...]:
    """As `configure`, the FIFOs of joins as shallow as can be."""
    protection = protection or {}
    layers = tuple(
        configure_layer(
            graph,
            node,
            folding.get(node.name, Fold()),
            protection.get(node.name, UNPROTECTED),
        )
        for node in circuit_nodes(graph)
    )
    return _coded(layers)


def _coded(layers: tuple[LayerConfig, ...]) -> tuple[LayerConfig, ...]:
    """The layers with the codes that their operands bring."""
    codes = stream_codes(layers)
    if not any(code != "none" for code in codes.values()):
        return layers
    return tuple(_reading(layer, tuple(codes[name] for name in layer.sources)) for layer in layers)


def _reading(layer: LayerConfig, codes: tuple[str, ...]) -> LayerConfig:
    """A layer whose operands bring these codes."""
    layer = replace(layer, in_codes=codes)
    if not isinstance(layer, WindowedConfig) or codes[0] == "none":
        return layer
    window = layer.window
    code = encode_int(codes[0], window.pad_value, window.lane_bits)
    window = replace(window, code_bits=layer.in_code_bits(0), pad_code=code)
    return replace(layer, window=window)


def configure_layer(
    graph: Graph, node: Node, fold: Fold, guard: Protection = UNPROTECTED
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
    size = _size(operands[0])
    layer: WindowedConfig
    match node:
        case Conv2d() | Dense():
            layer = linear_layer(node, size, kinds[0], out, found.raw_bits, fold, guard)
            if fold.multiplier == "shift":
                zero = kinds[0].zero_point if layer.window.padded else before.lo
                layer = shift_layer(layer, (min(before.lo, zero), max(before.hi, zero)))
            layer = formed(layer)
            if layer.retry:
                window = replace(layer.window, hold=layer.verdict_delay)
                layer = replace(layer, window=window)
        case MaxPool() | AvgPool() | GlobalAvgPool():
            layer = pool_layer(node, size, shape, kinds[0], out, found, fold)
        case ArgMax():
            if fold.pixels != 1:
                raise InputError(f"layer {node.name}: arg-max has one pixel; set pixels = 1")
            layer = argmax_layer(node, operands[0][-1], kinds[0], out)
        case _:
            assert isinstance(node, Add | Concat | Pad)
            channels = tuple(_size(one)[2] for one in operands)
            joined = join_layer(node, channels, shape, kinds, out, found.acc_bits, fold)
            return replace(joined, sources=origins, **_kept(guard))
    return sized(replace(layer, sources=origins, **_kept(guard)))


def _kept(guard: Protection) -> dict[str, Any]:
    """What every kind of layer has of its protection."""
    return {"control": guard.control, "post": guard.post, "stream": guard.stream}


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


def _size(shape: tuple[int, ...]) -> Size:
    """(h, w, c); features are the channels of one pixel."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (1, 1, shape[0])
