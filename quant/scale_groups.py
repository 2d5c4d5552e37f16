"""Tensors that share one scale, so that a Concat passes its operands unchanged.

A Concat has one step for all its channels, so an operand gains nothing from a finer one of its own
there; with the same step it needs no requantisation, which would round a second time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .calibrate import BINS, Statistics
from .float_graph import (
    ArgMax,
    Concat,
    Flatten,
    FloatArray,
    FloatGraph,
    FloatNode,
    MaxPool,
    Pad,
)

__all__ = ["share_scales"]

KEEPING = (MaxPool, Flatten, Pad)  # their result has the operand's type


def share_scales(
    graph: FloatGraph, statistics: dict[str, Statistics], bits: Callable[[FloatNode], int]
) -> dict[str, Statistics]:
    """`statistics` with those of all members in place of each member's.

    Members are a Concat without clamp and the layers that make its operands, of the same `bits`
    and alike in having negative values or none: a sign would cost the others half their steps. The
    graph's input keeps its own scale.
    """
    groups: dict[str, list[str]] = {}
    for node in graph:
        if not isinstance(node, Concat) or node.clamped:
            continue
        for name in node.inputs:
            source = _source(graph, name)
            if source is not None and _alike(source, node, statistics, bits):
                _join(groups, source.name, node.name)
    merged = dict(statistics)
    for group in {id(g): g for g in groups.values()}.values():
        together = _merged([statistics[name] for name in group])
        merged.update(dict.fromkeys(group, together))
    return merged


def _source(graph: FloatGraph, name: str) -> FloatNode | None:
    """The layer that chose the type of `name`; None for the graph's input."""
    node = graph.node(name)
    while isinstance(node, KEEPING):
        node = graph.node(node.inputs[0])
    return None if isinstance(node, ArgMax) else node


def _alike(
    a: FloatNode,
    b: FloatNode,
    statistics: dict[str, Statistics],
    bits: Callable[[FloatNode], int],
) -> bool:
    negative = [statistics[node.name].lo < 0 for node in (a, b)]
    return bits(a) == bits(b) and negative[0] == negative[1]


def _join(groups: dict[str, list[str]], *names: str) -> None:
    """Make one group, the same list for each member, of those that hold `names`."""
    members = dict.fromkeys(m for name in names for m in groups.get(name, [name]))
    together = list(members)
    groups.update(dict.fromkeys(together, together))


def _merged(parts: list[Statistics]) -> Statistics:
    """Statistics of several tensors as of one; counts move to the bin that holds their centre."""
    lo, hi = min(part.lo for part in parts), max(part.hi for part in parts)
    if any(part.counts is None for part in parts):
        return Statistics(lo, hi)
    counts: FloatArray = np.zeros(BINS)
    width = (hi - lo) / BINS or 1.0
    for part in parts:
        index = np.clip((part.centres - lo) / width, 0, BINS - 1).astype(np.int64)
        counts += np.bincount(index, weights=part.counts, minlength=BINS)
    return Statistics(lo, hi, counts)
