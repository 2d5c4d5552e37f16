"""Batch norms and scalings per channel move into the weights around them.

Exact in real arithmetic: Jacob et al. 2018, "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", section 3.2.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .errors import InputError
from .float_graph import (
    Affine,
    AvgPool,
    Concat,
    Conv,
    Dense,
    FloatArray,
    FloatGraph,
    FloatNode,
    GlobalAvgPool,
    MaxPool,
    Sum,
)
from .names import printable

__all__ = ["fold_affine"]

Channels = tuple[FloatArray, FloatArray]  # gain and offset


def fold_affine(graph: FloatGraph) -> FloatGraph:
    """Before: conv|dense -> batch norm. After: conv|dense.

    Pools, sums and concats between the two let it pass where every path ends in weights. A batch
    norm in front of a dense layer or an unpadded convolution folds forward; any other on an image
    becomes a depthwise 1x1 convolution. Raises InputError for one alone on a vector.
    """
    while (folded := _fold_one(graph)) is not None:
        graph = folded
    rest = {node.name: _depthwise(node) for node in graph.nodes if isinstance(node, Affine)}
    return graph.rewired(rest, {})


def _fold_one(graph: FloatGraph) -> FloatGraph | None:
    for node in graph.nodes:
        if not isinstance(node, Affine):
            continue
        absorbed = _absorbed(graph, node.inputs[0], node, (node.gain, node.offset))
        if absorbed is not None:
            return graph.rewired(absorbed, {node.name: node.inputs[0]})
        after = graph.sole_consumer(node.name)
        if isinstance(after, Dense) or (
            isinstance(after, Conv) and (not any(after.padding) or not node.offset.any())
        ):
            merged = _scale_inputs(after, node)
            return graph.rewired({merged.name: merged}, {node.name: node.inputs[0]})
    return None


def _absorbed(
    graph: FloatGraph, name: str, reader: FloatNode, channels: Channels
) -> dict[str, FloatNode] | None:
    """The nodes to change so that `name`, read by `reader` alone, comes out scaled; None if none
    can be."""
    node = graph.node(name)
    if node is None or node.clamped or graph.sole_consumer(name) is not reader:
        return None
    match node:
        case Conv() | Dense() | Affine():
            return {name: _scale_outputs(node, channels)}
        case Concat() | Sum() if len(set(node.inputs)) == len(node.inputs):
            return _all_absorbed(graph, node, _shares(graph, node, channels))
        case MaxPool() if (channels[0] > 0).all():
            return _all_absorbed(graph, node, [channels])
        case AvgPool() if not node.count_include_pad or not any(node.padding):
            return _all_absorbed(graph, node, [channels])
        case GlobalAvgPool():
            return _all_absorbed(graph, node, [channels])
    return None


def _all_absorbed(
    graph: FloatGraph, node: FloatNode, shares: list[Channels]
) -> dict[str, FloatNode] | None:
    found: dict[str, FloatNode] = {}
    for name, share in zip(node.inputs, shares, strict=True):
        part = _absorbed(graph, name, node, share)
        if part is None:
            return None
        found |= part
    return found


def _shares(graph: FloatGraph, node: Concat | Sum, channels: Channels) -> list[Channels]:
    """What each operand gets: its own channels; of a sum all the gain, and one the offset."""
    gain, offset = channels
    if isinstance(node, Sum):
        return [(gain, offset), (gain, np.zeros_like(offset))]
    ends = np.cumsum([graph.shape(name)[0] for name in node.inputs])[:-1]
    return list(zip(np.split(gain, ends), np.split(offset, ends), strict=True))


def _scale_outputs(node: Conv | Dense | Affine, channels: Channels) -> FloatNode:
    gain, offset = channels
    if isinstance(node, Affine):
        gains = node.gain * gain
        return dataclasses.replace(node, gain=gains, offset=node.offset * gain + offset)
    tail = (1,) * (node.weight.ndim - 1)
    weight = node.weight * gain.reshape(-1, *tail)
    return dataclasses.replace(node, weight=weight, bias=node.bias * gain + offset)


def _scale_inputs(node: Conv | Dense, affine: Affine) -> FloatNode:
    groups = node.groups if isinstance(node, Conv) else 1
    outs, ins = node.weight.shape[:2]

    def per_input(values: FloatArray) -> FloatArray:
        rows = np.repeat(values.reshape(groups, ins), outs // groups, axis=0)
        return rows.reshape(outs, ins, *(1,) * (node.weight.ndim - 2))

    axes = tuple(range(1, node.weight.ndim))
    bias = node.bias + (node.weight * per_input(affine.offset)).sum(axis=axes)
    return dataclasses.replace(node, weight=node.weight * per_input(affine.gain), bias=bias)


def _depthwise(node: Affine) -> FloatNode:
    if len(node.shape) != 3:
        raise InputError(
            f"layer {printable(node.path)}: a batch norm or scaling of a vector must stand "
            "directly behind or in front of a Linear layer"
        )
    return Conv(
        name=node.name,
        inputs=node.inputs,
        shape=node.shape,
        path=node.path,
        lo=node.lo,
        hi=node.hi,
        weight=node.gain.reshape(-1, 1, 1, 1),
        bias=node.offset,
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        dilation=(1, 1),
        groups=node.shape[0],
    )
