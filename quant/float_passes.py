"""Exact simplifications of a float graph, run by every importer before quantisation.

Each pass takes a FloatGraph and returns a new one that computes the same function (up to float
rounding). `simplify` runs them in the order of PASSES.
"""

from __future__ import annotations

import dataclasses
import math

from .affine_passes import fold_affine
from .float_graph import (
    AvgPool,
    Clamp,
    Concat,
    Conv,
    Dense,
    Flatten,
    FloatGraph,
    FloatNode,
    GlobalAvgPool,
    MaxPool,
    Pad,
    Sum,
)
from .names import sanitize

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
            return fuse_padding(graph.rewired({conv.name: conv}, {node.name: node.inputs[0]}))
    return graph


def fuse_clamps(graph: FloatGraph) -> FloatGraph:
    """Before: op -> [max pool, flatten ->] relu. After: op with a clamp. Exact."""
    for node in graph.nodes:
        if not isinstance(node, Clamp):
            continue
        target = graph.node(node.inputs[0])
        reader: FloatNode | None = node
        while target is not None and graph.sole_consumer(target.name) is reader:
            if isinstance(target, CLAMPING):
                fused = _clamped(target, node)
                return fuse_clamps(graph.rewired({fused.name: fused}, {node.name: node.inputs[0]}))
            if not isinstance(target, MONOTONE):
                break
            reader, target = target, graph.node(target.inputs[0])
    return graph


def push_clamps(graph: FloatGraph) -> FloatGraph:
    """Before: ops -> concat with a clamp. After: ops with a clamp -> concat. Exact.

    The operands then have the result's range, and pass a concat of one scale unchanged.
    """
    for node in graph.nodes:
        if not isinstance(node, Concat) or not node.clamped:
            continue
        operands = [graph.node(name) for name in node.inputs]
        alone = all(graph.sole_consumer(name) is node for name in node.inputs)
        if not alone or not all(isinstance(operand, CLAMPING) for operand in operands):
            continue
        clamped = {x.name: _clamped(x, node) for x in operands if x is not None}
        joined = dataclasses.replace(node, lo=-math.inf, hi=math.inf)
        return push_clamps(graph.rewired({**clamped, node.name: joined}, {}))
    return graph


def _clamped(target: FloatNode, clamp: FloatNode) -> FloatNode:
    """`target` with the clamp of `clamp` behind its own."""
    lo = max(min(target.lo, clamp.hi), clamp.lo)
    hi = min(max(target.hi, clamp.lo), clamp.hi)
    return dataclasses.replace(target, lo=lo, hi=hi)


def merge_strides(graph: FloatGraph) -> FloatGraph:
    """Before: strided slice of rows -> strided slice of columns. After: one 1x1 max pool."""
    for node in graph.nodes:
        reader = graph.sole_consumer(node.name)
        if not (isinstance(node, MaxPool) and isinstance(reader, MaxPool)):
            continue
        if node.kernel == reader.kernel == (1, 1) and not node.clamped:
            stride = (node.stride[0] * reader.stride[0], node.stride[1] * reader.stride[1])
            merged = dataclasses.replace(reader, stride=stride)
            return merge_strides(graph.rewired({merged.name: merged}, {node.name: node.inputs[0]}))
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
            return pool_to_vector(graph.rewired({pool.name: pool}, {reader.name: pool.name}))
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


PASSES = (
    prune,
    fuse_padding,
    fold_affine,
    fuse_clamps,
    push_clamps,
    merge_strides,
    pool_to_vector,
    rename,
)
