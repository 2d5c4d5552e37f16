"""Objectives of a network's topology alone: no weights' values, no images, no circuit.

R-ASI and R-ADCR are our reconstruction of two indices that Schorn et al. 2020 (Neural Computing and
Applications, arXiv 1909.13844) name and use, an architecture sensitivity index and an accumulated
data-computation ratio: their formulas were not at hand. docs/search.md states ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ...quant import shapes
from ...quant.ir import Add, ArgMax, Concat, Conv2d, Dense, Flatten, Graph

__all__ = [
    "Asi",
    "FeatureMap",
    "adcr",
    "asi",
    "depth",
    "feature_maps",
    "macs",
    "parameters",
    "peak_activation_bytes",
    "tensor_bits",
    "weight_bytes",
]


@dataclass(frozen=True)
class FeatureMap:
    """A tensor that a layer makes: `elements` of `bits` bits, and its `relevance` R."""

    elements: int
    bits: int
    relevance: float


@dataclass(frozen=True)
class Asi:
    """R-ASI in three forms, from relevance R, elements n and bits of every feature map.

    `per_fault`: sum R / sum n, what one random corrupted element disturbs. `per_ber`:
    sum bits R, the same at a fixed rate of bit errors. `worst`: max R / n.
    """

    per_fault: float
    per_ber: float
    worst: float


def asi(graph: Graph) -> Asi:
    """R-ASI of a graph (a reconstruction, see the module)."""
    maps = feature_maps(graph).values()
    return Asi(
        per_fault=sum(one.relevance for one in maps) / sum(one.elements for one in maps),
        per_ber=sum(one.bits * one.relevance for one in maps),
        worst=max(one.relevance / one.elements for one in maps),
    )


def feature_maps(graph: Graph) -> dict[str, FeatureMap]:
    """Every tensor that a layer makes, by the layer's name.

    The output has relevance 1 and each layer passes its own on to its operand; m branches of a sum
    take 1 / m each, operands of a Concat a share by their channels. The input, which all networks
    have in common, Flatten (it renames) and ArgMax (it reads the logits) make no feature map.
    """
    sizes, widths, found = shapes.infer(graph), tensor_bits(graph), _relevance(graph)
    return {
        node.name: FeatureMap(math.prod(sizes[node.name]), widths[node.name], found[node.name])
        for node in graph
        if not isinstance(node, Flatten | ArgMax)
    }


def _relevance(graph: Graph) -> dict[str, float]:
    sizes, branches = shapes.infer(graph), _branches(graph)
    found = dict.fromkeys((graph.input_name, *(node.name for node in graph)), 0.0)
    found[graph.output] = 1.0
    for node in reversed(graph.nodes):
        for name in node.inputs:
            share = 1.0
            if isinstance(node, Add):
                share = branches[name] / sum(branches[each] for each in node.inputs)
            elif isinstance(node, Concat):
                share = sizes[name][-1] / sizes[node.name][-1]
            found[name] += found[node.name] * share
    return found


def _branches(graph: Graph) -> dict[str, int]:
    """Branches that a tensor brings to a sum: more than one where it is a sum nobody else reads."""
    found = {graph.input_name: 1}
    for node in graph:
        alone = isinstance(node, Add) and len(graph.consumers(node.name)) == 1
        found[node.name] = sum(found[name] for name in node.inputs) if alone else 1
    return found


def tensor_bits(graph: Graph) -> dict[str, int]:
    """Bits of an element of every tensor, by name.

    An accumulator that leaves as it is (logits) counts as wide as the largest weights of its bits
    could make it, whatever the weights are.
    """
    sizes, declared = shapes.infer(graph), shapes.declared_types(graph)
    found: dict[str, int] = {graph.input_name: graph.input_type.bits}
    for node in graph:
        kind = declared[node.name]
        before = found[node.inputs[0]]
        if kind is not None:
            found[node.name] = kind.bits
        elif isinstance(node, Conv2d | Dense):
            terms = math.prod(node.weight.shape[1:])
            found[node.name] = before + node.weight_bits + (terms - 1).bit_length()
        elif isinstance(node, ArgMax):
            found[node.name] = max(1, (sizes[node.inputs[0]][0] - 1).bit_length())
        else:
            found[node.name] = before
    return found


def _layer_macs(graph: Graph) -> Mapping[str, int]:
    """Multiplications for one image, by Conv2d or Dense layer; padding counts as an element."""
    sizes = shapes.infer(graph)
    return {
        node.name: math.prod(sizes[node.name][:-1]) * node.weight.size
        for node in graph
        if isinstance(node, Conv2d | Dense)
    }


def adcr(graph: Graph) -> float:
    """R-ADCR: bytes that each layer with weights moves for one of its MACs, summed over them.

    (|inputs| + |weights| + |outputs|) * bits / 8 / MACs (a reconstruction, see the module).
    """
    sizes, widths, work = shapes.infer(graph), tensor_bits(graph), _layer_macs(graph)
    total = 0.0
    for node in graph:
        if isinstance(node, Conv2d | Dense):
            moved = node.weight.size * node.weight_bits
            for name in (*node.inputs, node.name):
                moved += math.prod(sizes[name]) * widths[name]
            total += moved / 8 / work[node.name]
    return total


def macs(graph: Graph) -> int:
    """Multiplications for one image."""
    return sum(_layer_macs(graph).values())


def parameters(graph: Graph) -> int:
    """Weights and biases."""
    linear = (node for node in graph if isinstance(node, Conv2d | Dense))
    return sum(node.weight.size + node.bias.size for node in linear)


def weight_bytes(graph: Graph) -> float:
    """Bytes of all weights, packed."""
    linear = (node for node in graph if isinstance(node, Conv2d | Dense))
    return sum(node.weight.size * node.weight_bits for node in linear) / 8


def peak_activation_bytes(graph: Graph) -> float:
    """The most bytes of tensors that are alive at once, packed, layers one after the other.

    A tensor lives from the layer that makes it to the last one that reads it; Flatten copies none.
    """
    sizes, widths = shapes.infer(graph), tensor_bits(graph)
    nodes = [node for node in graph if not isinstance(node, Flatten)]
    stands_for = {name: name for name in sizes}
    for node in graph:
        if isinstance(node, Flatten):
            stands_for[node.name] = stands_for[node.inputs[0]]
    last = {stands_for[graph.output]: len(nodes)}
    for step, node in enumerate(nodes):
        for name in node.inputs:
            last[stands_for[name]] = max(step, last.get(stands_for[name], 0))
    alive, peak = {stands_for[graph.input_name]}, 0
    for step, node in enumerate(nodes):
        alive.add(node.name)
        peak = max(peak, sum(math.prod(sizes[name]) * widths[name] for name in alive))
        alive = {name for name in alive if last[name] > step}
    return peak / 8


def depth(graph: Graph) -> int:
    """Layers with weights on the longest way from input to output."""
    found = {graph.input_name: 0}
    for node in graph:
        before = max(found[name] for name in node.inputs)
        found[node.name] = before + isinstance(node, Conv2d | Dense)
    return found[graph.output]
