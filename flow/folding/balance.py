"""The folding of no wish: as fast as a number of multipliers allows."""

from __future__ import annotations

from ...hw.configure import Fold, circuit_nodes
from ...quant.ir import Conv2d, Dense, Graph
from .choices import Choice, shaped

__all__ = ["AUTO_MULTIPLIERS", "balance"]

AUTO_MULTIPLIERS = 32
"""Multipliers that automatic folding spends on the whole network."""


def balance(graph: Graph, multipliers: int = AUTO_MULTIPLIERS) -> dict[str, Fold]:
    """The fastest folding within `multipliers` in all: every layer meets one common interval.

    For each interval a layer takes the fewest multipliers that meet it; the smallest interval whose
    sum fits is found by bisection. At least one multiplier a layer. Other layers get the channels
    that meet the interval.
    """
    nodes = circuit_nodes(graph)
    choices = {node.name: shaped(graph, node) for node in nodes}

    def pick(interval: int) -> dict[str, Choice]:
        return {
            name: next((c for c in found if c.cycles <= interval), found[-1])
            for name, found in choices.items()
        }

    def cost(chosen: dict[str, Choice]) -> int:
        linear = (node.name for node in nodes if isinstance(node, Conv2d | Dense))
        return sum(chosen[name].multipliers for name in linear)

    low, high = 1, max(choice.cycles for found in choices.values() for choice in found)
    while low < high:
        middle = (low + high) // 2
        if cost(pick(middle)) <= multipliers:
            high = middle
        else:
            low = middle + 1
    return {name: choice.fold for name, choice in pick(low).items()}
