"""Permute output channels so that chosen neurons share lanes.

A folded layer maps channel q to lane q mod pe. Before: the chosen neurons lie anywhere. After: they
fill the lowest lanes, and every consumer's weights follow. Exact: only the order of channels
changes; graph input and output keep theirs. Source: design, section 4 (S4 folded onto lanes).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...quant import shapes
from ...quant.ir import (
    ArgMax,
    Conv2d,
    Dense,
    Flatten,
    Graph,
    IntArray,
    Node,
    Requantize,
    Thresholds,
)

__all__ = ["gather_neurons"]


def gather_neurons(
    graph: Graph, neurons: Mapping[str, tuple[int, ...]], lanes: Mapping[str, int]
) -> tuple[Graph, dict[str, IntArray]]:
    """The permuted graph, and for each permuted layer the neuron at each channel position.

    `neurons` are the chosen output channels of each layer, `lanes` its `pe`. Layers
    whose order is fixed (the logits) are left as they are, and so is a graph that is not a chain.
    """
    if not any(neurons.values()) or not _is_chain(graph):
        return graph, {}
    sizes = shapes.infer(graph)
    order: dict[str, IntArray] = {}
    nodes: list[Node] = []
    for node in graph:
        incoming = order.get(node.inputs[0])
        if isinstance(node, Conv2d | Dense):
            node = _read(node, incoming)
            found = _order(graph, node, neurons.get(node.name, ()), lanes.get(node.name, 1))
            if found is not None:
                node = _write(node, found)
                order[node.name] = found
        elif incoming is not None:
            assert not isinstance(node, ArgMax), "the order of logits is fixed"
            order[node.name] = incoming
            if isinstance(node, Flatten):
                order[node.name] = _flat(incoming, sizes[node.inputs[0]])
            elif isinstance(getattr(node, "requantize", None), Requantize):
                fields: dict[str, Any] = {"requantize": _table(node.requantize, incoming)}  # type: ignore[attr-defined]
                node = dataclasses.replace(node, **fields)
        nodes.append(node)
    return dataclasses.replace(graph, nodes=tuple(nodes)), order


def _is_chain(graph: Graph) -> bool:
    """Whether every node reads the one before it."""
    names = (graph.input_name, *(node.name for node in graph))
    return all(node.inputs == (source,) for node, source in zip(graph, names, strict=False))


def _order(graph: Graph, node: Conv2d | Dense, chosen: tuple[int, ...], pe: int) -> IntArray | None:
    """Neuron at each position, or None when nothing moves or nothing may."""
    blocks = _blocks(graph, node)
    if not chosen or blocks is None:
        return None
    wanted = set(chosen)
    order = np.arange(node.out_channels, dtype=np.int64)
    for block in np.unique(blocks):
        members = np.flatnonzero(blocks == block)
        positions = sorted(members.tolist(), key=lambda q: (q % pe, q))
        here = wanted.intersection(positions)
        if {q % pe for q in here} <= {q % pe for q in positions[: len(here)]}:
            continue  # they share the lowest lanes already
        ranked = sorted(members.tolist(), key=lambda n: (n not in wanted, n))
        order[positions] = ranked
    return None if (order == np.arange(len(order))).all() else order


def _blocks(graph: Graph, node: Conv2d | Dense) -> IntArray | None:
    """Block of each channel inside which it may move; None when the order is fixed."""
    channels = np.arange(node.out_channels, dtype=np.int64)
    groups = node.groups if isinstance(node, Conv2d) else 1
    blocks = channels // (node.out_channels // groups)
    name = node.name
    while True:
        consumers = graph.consumers(name)
        if not consumers or isinstance(consumers[0], ArgMax):
            return None
        if isinstance(consumers[0], Conv2d):
            reader = consumers[0]
            return blocks * reader.groups + channels // (node.out_channels // reader.groups)
        if isinstance(consumers[0], Dense):
            return blocks
        name = consumers[0].name


def _read(node: Any, incoming: IntArray | None) -> Any:
    """Weights for permuted inputs; a grouped convolution's blocks stay in place."""
    if incoming is None:
        return node
    weight = node.weight
    if isinstance(node, Conv2d) and node.groups > 1:
        per_group = weight.shape[-1]
        rows = np.arange(node.out_channels) // (node.out_channels // node.groups)
        inside = incoming.reshape(node.groups, per_group) % per_group
        weight = np.stack([weight[o][..., inside[g]] for o, g in enumerate(rows)])
    else:
        weight = weight[..., incoming]
    return dataclasses.replace(node, weight=weight)


def _write(node: Any, order: IntArray) -> Any:
    """The node with its outputs in the new order."""
    table = node.requantize
    return dataclasses.replace(
        node,
        weight=node.weight[order],
        bias=node.bias[order],
        requantize=None if table is None else _table(table, order),
    )


def _table(table: Requantize | Thresholds, order: IntArray) -> Requantize | Thresholds:
    """Per-channel vectors in the new order; vectors of one entry serve all channels."""
    names = ("values",) if isinstance(table, Thresholds) else ("multiplier", "shift", "bound")
    moved = {}
    for name in names:
        vector = getattr(table, name)
        if vector is not None and len(vector) > 1:
            moved[name] = vector[order]
    return dataclasses.replace(table, **moved)


def _flat(order: IntArray, shape: tuple[int, ...]) -> IntArray:
    """Order of the features of a flattened image; of a vector the order itself."""
    if len(shape) == 1:
        return order
    pixels = np.arange(shape[0] * shape[1], dtype=np.int64) * shape[2]
    return (pixels[:, None] + order).ravel()
