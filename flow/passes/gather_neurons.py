"""Permute channels so that chosen neurons share lanes, or passes, in any graph.

Before: the chosen neurons lie anywhere. After: they share as few hardened lanes (in space) or
passes (in time) as the ties between channels allow, and every reader's weights and tables follow.
`channel_ties` says what moves together, `place_neurons` where to. Exact: only the order of channels
changes; graph input, graph output and what ArgMax reads keep theirs.
Source: design, section 4 (S4 folded onto lanes).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...quant.ir import (
    AvgPool,
    Concat,
    Conv2d,
    Dense,
    GlobalAvgPool,
    Graph,
    IntArray,
    Node,
    Requantize,
    Thresholds,
)
from .channel_ties import Run, channel_ties, depthwise
from .place_neurons import Wanted, place

__all__ = ["Wanted", "gather_neurons"]


def gather_neurons(graph: Graph, wanted: Mapping[str, Wanted]) -> tuple[Graph, dict[str, IntArray]]:
    """The permuted graph, and for each permuted node the channel at each channel position.

    `wanted` names the chosen output channels of convolutions and dense layers. A node that is not
    in the result has its channels where they were.
    """
    if not any(want.neurons for want in wanted.values()):
        return graph, {}
    ties = channel_ties(graph)
    placed = place(ties, wanted)
    orders = {
        name: _order(runs, placed)
        for name, runs in ties.runs.items()
        if any(run.block in placed for run in runs)
    }
    if not orders:
        return graph, {}
    nodes = tuple(_follow(node, orders) for node in graph)
    return dataclasses.replace(graph, nodes=nodes), orders


def _order(runs: tuple[Run, ...], placed: Mapping[int, IntArray]) -> IntArray:
    """The channel at each position of a tensor."""
    return np.concatenate(
        [run.start + placed.get(run.block, np.arange(run.size)) for run in runs], dtype=np.int64
    )


def _follow(node: Node, orders: Mapping[str, IntArray]) -> Node:
    """The node with weights and tables in the new order of its operands and its result."""
    order = orders.get(node.name)
    fields: dict[str, Any] = {}
    match node:
        case Conv2d() | Dense():
            fields["weight"] = _read(node, orders.get(node.inputs[0]))
            if order is not None:
                fields["weight"] = fields["weight"][order]
                fields["bias"] = node.bias[order]
                fields["requantize"] = _table(node.requantize, order)
        case AvgPool() | GlobalAvgPool():
            fields["requantize"] = _table(node.requantize, order)
        case Concat():
            operands = zip(node.requantize, node.inputs, strict=True)
            fields["requantize"] = tuple(_table(t, orders.get(name)) for t, name in operands)
        case _:
            return node
    return dataclasses.replace(node, **fields)


def _read(node: Conv2d | Dense, incoming: IntArray | None) -> IntArray:
    """Weights for permuted operands; the blocks of a grouped convolution stay in place.

    A depthwise convolution has one weight a tap for each channel, which moves with its result.
    """
    weight = node.weight
    if incoming is None or depthwise(node):
        return weight
    if isinstance(node, Conv2d) and node.groups > 1:
        per_group = weight.shape[-1]
        inside = incoming.reshape(node.groups, per_group) % per_group
        rows = inside[np.arange(node.out_channels) // (node.out_channels // node.groups)]
        return np.take_along_axis(weight, rows[:, None, None, :], axis=3)
    return weight[..., incoming]


def _table(table: Any, order: IntArray | None) -> Any:
    """Per-channel vectors in the new order; vectors of one entry serve all channels."""
    if table is None or order is None:
        return table
    assert isinstance(table, Requantize | Thresholds)
    names = ("values",) if isinstance(table, Thresholds) else ("multiplier", "shift", "bound")
    moved = {}
    for name in names:
        vector = getattr(table, name)
        if vector is not None and len(vector) > 1:
            moved[name] = vector[order]
    return dataclasses.replace(table, **moved)
