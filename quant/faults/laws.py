"""Fault laws: how often tensors of a graph are hit, and what a hit does. They draw, nothing else.

A law draws a list of concrete faults (`records`); bit errors are here, biases of results in
`bias`, stuck cells of weights in `stuck`. docs/tensor_faults.md has every formula and source.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import ranges, shapes
from ..errors import InputError
from ..ir import (
    ArgMax,
    Conv2d,
    Dense,
    Flatten,
    Graph,
    IntArray,
    Node,
    Pad,
    TensorType,
)
from ..names import printable
from .records import Op, Tensor, TensorFaults

__all__ = ["BitErrors", "Columns", "Law", "Target", "draw", "hits", "targets"]

CHUNK_WORDS = 1 << 22  # of a layer that are drawn at a time

Columns = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A tensor as laws see it: its `node` (None for the graph's input), shape, type, and for
    convolutions and dense layers the width of the accumulator."""

    name: str
    node: Node | None
    shape: tuple[int, ...]
    kind: TensorType
    acc_bits: int

    @property
    def elements(self) -> int:
        """Elements of one image."""
        return math.prod(self.shape)

    @property
    def linear(self) -> Conv2d | Dense:
        """The node; InputError unless it multiplies."""
        if not isinstance(self.node, Conv2d | Dense):
            raise InputError(f"layer {self.name}: the law needs a convolution or a dense layer")
        return self.node

    @property
    def macs(self) -> int:
        """Products that one element of the result sums."""
        return int(self.linear.weight[0].size)


class Law:
    """A law draws the faults of one tensor for `count` inferences: columns of `TensorFaults`, with
    `experiment` counted from 0. `everywhere`: by default it strikes dense layers too."""

    everywhere: ClassVar[bool] = True

    def words(self, target: Target) -> int:
        """Words of the tensor that one inference may see hit."""
        return target.elements

    def draw(self, target: Target, rng: np.random.Generator, count: int) -> Columns:
        """The faults of `count` inferences."""
        raise AssertionError("defined by each law")

    def strikes(self, target: Target) -> bool:
        """Whether the tensor is one of those hit when no layers are named."""
        node = target.node
        return isinstance(node, Conv2d) or (self.everywhere and isinstance(node, Dense))


def draw(
    law: Law,
    graph: Graph,
    frame: IntArray,
    *,
    seed: int,
    layers: Iterable[str] | None = None,
    acc_bits: Mapping[str, int] | None = None,
) -> TensorFaults:
    """The faults of `law` in len(frame) inferences, inference i on input `frame[i]`.

    `layers` are those hit; by default all that the law strikes. `acc_bits` by layer as in the
    software engine. Each layer has its own stream of random numbers. Raises InputError for an
    unknown layer and where the law strikes none.
    """
    names = [graph.input_name, *(node.name for node in graph)]
    chosen = [t for t in targets(graph, acc_bits) if _wanted(law, t, layers)]
    for name in layers or ():
        if name not in names:
            raise InputError(f"fault law: no layer {printable(name)!r} in the graph")
    if not chosen:
        raise InputError(f"fault law: {type(law).__name__} strikes no layer; name some")
    parts = []
    for target in chosen:
        rng = np.random.default_rng([seed, names.index(target.name)])
        step = max(1, CHUNK_WORDS // law.words(target))
        for start in range(0, len(frame), step):
            found = law.draw(target, rng, min(step, len(frame) - start))
            found["experiment"] = found["experiment"] + start
            layer = np.full(len(found["experiment"]), names.index(target.name))
            parts.append(TensorFaults.build(names, frame, **found, layer=layer))
    columns = ("experiment", "layer", "tensor", "index", "op", "value")
    merged = {n: np.concatenate([getattr(part, n) for part in parts]) for n in columns}
    return TensorFaults.build(names, frame, **merged)


def _wanted(law: Law, target: Target, layers: Iterable[str] | None) -> bool:
    return law.strikes(target) if layers is None else target.name in layers


def targets(graph: Graph, acc_bits: Mapping[str, int] | None = None) -> list[Target]:
    """Every tensor of a graph, the input first; `acc_bits` as in `draw`."""
    sizes, kinds, found = shapes.infer(graph), ranges.types(graph), ranges.infer(graph)
    nodes: list[tuple[str, Node | None]] = [(graph.input_name, None)]
    nodes += [(node.name, node) for node in graph]
    return [
        Target(
            name, node, sizes[name], kinds[name],
            (acc_bits or {}).get(name, found[name].raw_bits),
        )
        for name, node in nodes
    ]  # fmt: skip


def hits(rng: np.random.Generator, words: int, rate: float) -> IntArray:
    """Which of `words` independent words are hit, each with probability `rate`; ascending.

    A binomial number of different words: the same as a Bernoulli draw for each.
    """
    if not 0 <= rate <= 1:
        raise InputError(f"fault law: rate {rate} must lie in 0..1")
    number = int(rng.binomial(words, rate))
    chosen = rng.choice(words, number, replace=False, shuffle=False)
    return np.sort(np.asarray(chosen, dtype=np.int64))


@dataclass(frozen=True)
class BitErrors(Law):
    """Every stored bit flips independently with probability `rate`: BER; on weights iBF.

    `tensor` is WEIGHT, BIAS (the bits of the accumulator) or ACTIVATION.
    """

    rate: float
    tensor: Tensor = Tensor.WEIGHT

    def strikes(self, target: Target) -> bool:
        """Activations: every tensor that is stored; else layers with weights."""
        if self.tensor == Tensor.ACTIVATION:
            return not isinstance(target.node, Flatten | Pad | ArgMax)
        return super().strikes(target)

    def size(self, target: Target) -> tuple[int, int]:
        """Words of the tensor, and bits of a word."""
        match self.tensor:
            case Tensor.WEIGHT:
                return int(target.linear.weight.size), target.linear.weight_bits
            case Tensor.BIAS:
                return target.linear.out_channels, target.acc_bits
            case Tensor.ACTIVATION:
                return target.elements, target.kind.bits
        raise InputError("fault law: bit errors strike weights, biases or activations")

    def words(self, target: Target) -> int:
        """Bits of the tensor."""
        return math.prod(self.size(target))

    def draw(self, target: Target, rng: np.random.Generator, count: int) -> Columns:
        """The faults of `count` inferences; flips of one word together."""
        words, bits = self.size(target)
        found = hits(rng, count * words * bits, self.rate)
        word, where = np.unique(found // bits, return_inverse=True)
        mask = np.zeros(len(word), np.int64)
        np.add.at(mask, where, np.int64(1) << found % bits)
        return {
            "experiment": word // words,
            "index": word % words,
            "tensor": int(self.tensor),
            "op": int(Op.FLIP),
            "value": mask,
        }
