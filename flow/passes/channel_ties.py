"""Which channels of a graph must move together, and inside which bounds they may.

Tensors of which channel c is channel c of the other (operands and result of Add, depthwise
convolution, pools, spatial Pad) form one *bundle* (union-find). Concat, channel Pad and Flatten lay
a bundle into another one at an offset, Flatten once a pixel. Groups of a convolution cut the
channels that it reads and makes. Every cut reaches all bundles that it can be seen from; what lies
between two cuts is a *run*, and runs laid onto each other are one *block*: channels of a block may
be exchanged, in all of its runs alike. A block is fixed if one run belongs to the graph's input,
its output or to what ArgMax reads.
Source: channel groups of structured pruning (coupled channels, folklore); the cuts are ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from ...quant import shapes
from ...quant.ir import (
    Add,
    ArgMax,
    AvgPool,
    Concat,
    Conv2d,
    Flatten,
    GlobalAvgPool,
    Graph,
    MaxPool,
    Node,
    Pad,
)

__all__ = ["Run", "Ties", "channel_ties", "depthwise"]

Shapes = dict[str, tuple[int, ...]]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Run:
    """Channels `start` .. `start` + `size` - 1 of a tensor, which are those of `block` in order."""

    start: int
    size: int
    block: int


@dataclass(frozen=True)
class Ties:
    """The runs of each tensor, in order of channels, and the blocks that must stay."""

    runs: dict[str, tuple[Run, ...]]
    fixed: frozenset[int]


class _Laid(NamedTuple):
    """Bundle `inner` is channels `offset` and following of bundle `outer`."""

    inner: str
    outer: str
    offset: int


class _Classes(dict[Key, Key]):
    """Union-find: `self[key]` is the class of a key, after path compression."""

    def __missing__(self, key: Key) -> Key:
        self[key] = key
        return key

    def find(self, key: Key) -> Key:
        """The representative of a key."""
        while self[key] != key:
            self[key] = key = self[self[key]]
        return key

    def join(self, first: Key, second: Key) -> None:
        """Make two keys one class."""
        self[self.find(second)] = self.find(first)


def channel_ties(graph: Graph) -> Ties:
    """The blocks of channels of every tensor of `graph`, its input included."""
    sizes = shapes.infer(graph)
    bundles: _Classes[str] = _Classes()
    for node in graph:
        for name in node.inputs:
            if _same_channels(node, sizes):
                bundles.join(name, node.name)
    laid = [
        _Laid(bundles.find(inner), bundles.find(outer), offset)
        for node in graph
        for inner, outer, offset in _laid(node, sizes)
    ]
    cuts = _cuts(graph, bundles, sizes)
    _spread(cuts, laid)
    blocks: _Classes[tuple[str, int]] = _Classes()
    for inner, outer, offset in laid:
        for start in sorted(cuts[inner])[:-1]:
            blocks.join((inner, start), (outer, offset + start))
    return _numbered(graph, bundles, cuts, blocks)


def depthwise(node: Node) -> bool:
    """Whether output channel c reads input channel c alone."""
    return (
        isinstance(node, Conv2d) and node.groups == node.out_channels and node.weight.shape[3] == 1
    )


def _same_channels(node: Node, sizes: Shapes) -> bool:
    """Whether channel c of the result is made of channel c of each operand."""
    match node:
        case Add() | MaxPool() | AvgPool() | GlobalAvgPool():
            return True
        case Pad():
            return node.channels == (0, 0)
        case Flatten():
            return sizes[node.name][-1] == sizes[node.inputs[0]][-1]
    return depthwise(node)


def _laid(node: Node, sizes: Shapes) -> Iterator[tuple[str, str, int]]:
    """Operand, result and offset of each place that an operand has among the result's channels."""
    if _same_channels(node, sizes):
        return
    match node:
        case Concat():
            ends = itertools.accumulate((sizes[name][-1] for name in node.inputs), initial=0)
            for name, offset in zip(node.inputs, ends, strict=False):
                yield name, node.name, offset
        case Pad():
            yield node.inputs[0], node.name, node.channels[0]
        case Flatten():
            for offset in range(0, sizes[node.name][-1], sizes[node.inputs[0]][-1]):
                yield node.inputs[0], node.name, offset


def _cuts(graph: Graph, bundles: _Classes[str], sizes: Shapes) -> dict[str, set[int]]:
    """Ends of every bundle, bounds of the groups of convolutions, and ends of what is laid in."""
    cuts = {bundles.find(name): {0, size[-1]} for name, size in sizes.items()}
    for node in graph:
        if isinstance(node, Conv2d) and not depthwise(node):
            for name in (node.name, node.inputs[0]):
                channels = sizes[name][-1]
                cuts[bundles.find(name)].update(range(0, channels, channels // node.groups))
    return cuts


def _spread(cuts: dict[str, set[int]], laid: list[_Laid]) -> None:
    """Cuts of a bundle cut what it is laid into, and the other way round, until none is new."""
    moved = True
    while moved:
        moved = False
        for inner, outer, offset in laid:
            size = max(cuts[inner])
            within = {cut - offset for cut in cuts[outer] if offset <= cut <= offset + size}
            both = cuts[inner] | within
            shifted = {cut + offset for cut in both}
            moved |= not (both <= cuts[inner] and shifted <= cuts[outer])
            cuts[inner] |= both
            cuts[outer] |= shifted


def _numbered(
    graph: Graph,
    bundles: _Classes[str],
    cuts: dict[str, set[int]],
    blocks: _Classes[tuple[str, int]],
) -> Ties:
    """Blocks as numbers, in order of the tensors."""
    numbers: dict[tuple[str, int], int] = {}
    runs = {}
    for name in (graph.input_name, *(node.name for node in graph)):
        found = []
        for start, end in itertools.pairwise(sorted(cuts[bundles.find(name)])):
            root = blocks.find((bundles.find(name), start))
            found.append(Run(start, end - start, numbers.setdefault(root, len(numbers))))
        runs[name] = tuple(found)
    ordered = {graph.input_name, graph.output}
    ordered |= {node.inputs[0] for node in graph if isinstance(node, ArgMax)}
    fixed = {run.block for name in ordered for run in runs[name]}
    fixed |= {run.block for each in runs.values() for run in each if run.size == 1}
    return Ties(runs, frozenset(fixed))
