"""Exact simplifications of a float graph, run by every importer before quantisation.

Each pass takes a FloatGraph and returns a new one that computes the same function (up to float
rounding). `simplify` runs them in the order of PASSES.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from .errors import InputError
from .float_graph import (
    Affine,
    AvgPool,
    Clamp,
    Concat,
    Conv,
    Dense,
    Flatten,
    FloatArray,
    FloatGraph,
    FloatNode,
    GlobalAvgPool,
    MaxPool,
    Pad,
    Sum,
)
from .names import printable, sanitize

__all__ = ["simplify"]

CLAMPING = (Conv, Dense, Sum, Concat, AvgPool, GlobalAvgPool, Clamp)  # end in a requantisation
MONOTONE = (MaxPool, Flatten)  # a clamp commutes with them


def simplify(graph: FloatGraph) -> FloatGraph:
    """Run every pass; raises InputError naming a layer that cannot be expressed."""
    for run in PASSES:
        graph = run(graph)
    return graph


def prune(graph: FloatGraph) -> FloatGraph:
    """Drop the nodes that the output does not need."""
    needed = {graph.output}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    kept = tuple(node for node in graph.nodes if node.name in needed)
    return dataclasses.replace(graph, nodes=kept)


def fuse_padding(graph: FloatGraph) -> FloatGraph:
    """Before: pad -> conv. After: conv with more padding, where that stays below the window."""
    for node in graph.nodes:
        reader = graph.sole_consumer(node.name)
        if not isinstance(node, Pad) or not isinstance(reader, Conv) or any(node.channels):
            continue
        top, left, bottom, right = (
            a + b for a, b in zip(node.padding, reader.padding, strict=True)
        )
        if max(top, bottom) < reader.extent[0] and max(left, right) < reader.extent[1]:
            conv = dataclasses.replace(reader, padding=(top, left, bottom, right))
            return fuse_padding(_replace(graph, {conv.name: conv}, {node.name: node.inputs[0]}))
    return graph


def fold_affine(graph: FloatGraph) -> FloatGraph:
    """Before: conv|dense -> batch norm. After: conv|dense. Exact (Jacob et al. 2018, section 3.2).

    A batch norm in front of a dense layer or an unpadded convolution folds forward; any other on an
    image becomes a depthwise 1x1 convolution. Raises InputError for one alone on a vector.
    """
    for node in graph.nodes:
        if not isinstance(node, Affine):
            continue
        before, after = graph.node(node.inputs[0]), graph.sole_consumer(node.name)
        if (
            isinstance(before, Conv | Dense | Affine)
            and graph.sole_consumer(before.name) is node
            and not before.clamped
        ):
            merged = _scale_outputs(before, node)
            return fold_affine(_replace(graph, {merged.name: merged}, {node.name: merged.name}))
        if isinstance(after, Dense) or (
            isinstance(after, Conv) and (not any(after.padding) or not node.offset.any())
        ):
            merged = _scale_inputs(after, node)
            return fold_affine(_replace(graph, {merged.name: merged}, {node.name: node.inputs[0]}))
    rest = {node.name: _depthwise(node) for node in graph.nodes if isinstance(node, Affine)}
    return _replace(graph, rest, {})


def _scale_outputs(node: Conv | Dense | Affine, affine: Affine) -> FloatNode:
    gain, offset = affine.gain, affine.offset
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


def fuse_clamps(graph: FloatGraph) -> FloatGraph:
    """Before: op -> [max pool, flatten ->] relu. After: op with a clamp. Exact."""
    for node in graph.nodes:
        if not isinstance(node, Clamp):
            continue
        target = graph.node(node.inputs[0])
        reader: FloatNode | None = node
        while target is not None and graph.sole_consumer(target.name) is reader:
            if isinstance(target, CLAMPING):
                lo = max(min(target.lo, node.hi), node.lo)
                hi = min(max(target.hi, node.lo), node.hi)
                fused = dataclasses.replace(target, lo=lo, hi=hi)
                return fuse_clamps(
                    _replace(graph, {fused.name: fused}, {node.name: node.inputs[0]})
                )
            if not isinstance(target, MONOTONE):
                break
            reader, target = target, graph.node(target.inputs[0])
    return graph


def merge_strides(graph: FloatGraph) -> FloatGraph:
    """Before: strided slice of rows -> strided slice of columns. After: one 1x1 max pool."""
    for node in graph.nodes:
        reader = graph.sole_consumer(node.name)
        if not (isinstance(node, MaxPool) and isinstance(reader, MaxPool)):
            continue
        if node.kernel == reader.kernel == (1, 1) and not node.clamped:
            stride = (node.stride[0] * reader.stride[0], node.stride[1] * reader.stride[1])
            merged = dataclasses.replace(reader, stride=stride)
            return merge_strides(
                _replace(graph, {merged.name: merged}, {node.name: node.inputs[0]})
            )
    return graph


def pool_to_vector(graph: FloatGraph) -> FloatGraph:
    """Before: average pool of the whole image -> flatten. After: global average pool."""
    for node in graph.nodes:
        reader = graph.sole_consumer(node.name)
        if not isinstance(node, AvgPool) or not isinstance(reader, Flatten) or any(node.padding):
            continue
        if node.kernel == graph.shape(node.inputs[0])[1:]:
            pool = GlobalAvgPool(
                name=node.name,
                inputs=node.inputs,
                shape=reader.shape,
                path=node.path,
                lo=node.lo,
                hi=node.hi,
            )
            return pool_to_vector(_replace(graph, {pool.name: pool}, {reader.name: pool.name}))
    return graph


def rename(graph: FloatGraph) -> FloatGraph:
    """Name every node after its module path, made safe for Verilog and unique."""
    taken: set[str] = set()
    names = {graph.input_name: sanitize(graph.input_name, taken)}
    taken.add(names[graph.input_name])
    for node in graph.nodes:
        names[node.name] = sanitize(node.path, taken)
        taken.add(names[node.name])
    nodes = tuple(
        dataclasses.replace(n, name=names[n.name], inputs=tuple(names[i] for i in n.inputs))
        for n in graph.nodes
    )
    return dataclasses.replace(
        graph,
        name=sanitize(graph.name, set()),
        input_name=names[graph.input_name],
        nodes=nodes,
        output=names[graph.output],
    )


def _replace(
    graph: FloatGraph, new: Mapping[str, FloatNode], drop: Mapping[str, str]
) -> FloatGraph:
    """Put `new` nodes in place of those of the same name; a dropped name means its stand-in."""
    nodes = (new.get(node.name, node) for node in graph.nodes if node.name not in drop)
    rewired = tuple(
        dataclasses.replace(node, inputs=tuple(drop.get(name, name) for name in node.inputs))
        for node in nodes
    )
    output = drop.get(graph.output, graph.output)
    return dataclasses.replace(graph, nodes=rewired, output=output)


PASSES = (
    prune,
    fuse_padding,
    fold_affine,
    fuse_clamps,
    merge_strides,
    pool_to_vector,
    rename,
)
