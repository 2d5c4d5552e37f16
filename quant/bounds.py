"""Bounds of results: values above what a calibration set showed are taken for errors.

The bound is the largest quantised result of a layer, or of each neuron, over the calibration
frames; the requantiser clips what exceeds it (docs/ir.md). A clean network changes only on frames
whose results exceed those of the calibration set.
Source: layer-wise and neuron-wise activation bounds as in FT-ClipAct (zero), Ranger (saturate) and
ProAct (arXiv 2406.06313); largest observed activation as the initial threshold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import InputError
from .ir import Graph, IntArray, Node, Requantize
from .reference import Reference

__all__ = ["bounded"]

BATCH = 128


def bounded(graph: Graph, x: IntArray, wanted: Mapping[str, tuple[str, str]]) -> Graph:
    """The graph whose requantisers clip what lies above the largest result seen on `x`.

    `x` is [n, *input_shape]; `wanted[layer]` is (kind, per): "saturate" or "zero", one bound per
    "layer" or "neuron". A bound that a layer has already is replaced. Raises InputError naming a
    layer whose results are not requantised by one table of multipliers.
    """
    for node in graph:
        if node.name in wanted and not isinstance(getattr(node, "requantize", None), Requantize):
            raise InputError(
                f"layer {node.name}: a bound needs a requantiser with a multiplier; "
                f'write bound = "none" for it'
            )
    largest = _largest(graph, x, set(wanted))
    nodes = tuple(
        _with_bound(node, largest[node.name], *wanted[node.name]) if node.name in wanted else node
        for node in graph
    )
    return dataclasses.replace(graph, nodes=nodes)


def _largest(graph: Graph, x: IntArray, names: set[str]) -> dict[str, IntArray]:
    """The largest result of each channel of the layers `names`, over all frames."""
    reference, found = Reference(graph), dict[str, IntArray]()
    for start in range(0, len(x), BATCH):
        tensors = reference.execute(x[start : start + BATCH])
        for name in names:
            values = tensors[name]
            most = values.reshape(-1, values.shape[-1]).max(axis=0)
            found[name] = np.maximum(found.get(name, most), most)
    return found


def _with_bound(node: Node, largest: IntArray, kind: str, per: str) -> Node:
    table: Requantize = node.requantize  # type: ignore[attr-defined]
    bound = largest if per == "neuron" else largest.max(keepdims=True)
    fields: dict[str, Any] = {
        "requantize": dataclasses.replace(table, bound=bound, bound_kind=kind)
    }
    return dataclasses.replace(node, **fields)
