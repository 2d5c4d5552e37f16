"""Foldings by multipliers alone: as fast as a number allows, as few as an interval allows."""

from __future__ import annotations

import functools

from ...hw.configure import Fold, circuit_nodes
from ...quant.ir import Conv2d, Dense, Graph
from .choices import Choice, shaped

__all__ = ["AUTO_MULTIPLIERS", "balance", "meeting"]

AUTO_MULTIPLIERS = 32
"""Multipliers that automatic folding spends on the whole network."""


def balance(graph: Graph, multipliers: int = AUTO_MULTIPLIERS) -> dict[str, Fold]:
    """The fastest folding within `multipliers` in all: every layer meets one common interval.

    For each interval a layer takes the fewest multipliers that meet it; the smallest interval whose
    sum fits is found by bisection. At least one multiplier a layer. Other layers get the channels
    that meet the interval.
    """
    choices = _choices(graph)
    linear = [node.name for node in circuit_nodes(graph) if isinstance(node, Conv2d | Dense)]

    def cost(interval: int) -> int:
        return sum(_within(choices[name], interval).multipliers for name in linear)

    low, high = 1, max(choice.cycles for found in choices.values() for choice in found)
    while low < high:
        middle = (low + high) // 2
        if cost(middle) <= multipliers:
            high = middle
        else:
            low = middle + 1
    return {name: _within(found, low).fold for name, found in choices.items()}


def meeting(graph: Graph, interval: int) -> dict[str, Fold]:
    """The folding of the fewest multipliers in which no layer needs more than `interval` cycles a
    frame; a layer that cannot be so fast is as fast as it can. Each layer for itself."""
    return {name: _within(found, interval).fold for name, found in _choices(graph).items()}


@functools.lru_cache(maxsize=8)
def _choices(graph: Graph) -> dict[str, list[Choice]]:
    return {node.name: shaped(graph, node) for node in circuit_nodes(graph)}


def _within(choices: list[Choice], interval: int) -> Choice:
    """The fewest multipliers that meet it, or the fastest."""
    return next((one for one in choices if one.cycles <= interval), choices[-1])
