"""Choose one permutation for each block of tied channels, so that hardening costs least.

A layer puts channel q on lane q mod pe, in pass q // pe. Hardening a neuron in space costs its
lane, in time its pass (`Wanted.cost`), once for all neurons that share it. Rule: the channels of a
block are ranked by how many of its layers want them, each weighted by what a lane or pass of it
costs; in this order each takes the free position that hardens least beyond what is hardened
already, among equal ones where most room is left, then the lowest. A block moves only if that
costs less than to stay, and never to more hardened lanes and passes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ...quant.ir import IntArray
from .channel_ties import Ties

__all__ = ["Wanted", "place"]

Unit = tuple[str, int]
"""A layer, and one of its lanes (in space) or passes (in time)."""

Score = tuple[int, float, int]
"""Units more than with every channel in its place, cost of the units, channels that move."""


@dataclass(frozen=True)
class Wanted:
    """Chosen `neurons` of a layer with `pe` lanes; `temporal`: they share passes instead of lanes.

    `cost` of one hardened lane, or pass, in a unit common to all layers.
    """

    neurons: tuple[int, ...]
    pe: int
    temporal: bool = False
    cost: float = 1.0

    def unit(self, position: int) -> int:
        """The lane or the pass of a channel position."""
        return position // self.pe if self.temporal else position % self.pe


@dataclass
class _Block:
    """A block of `size` channels; `slots[channel]` are the runs (layer, start) that want it."""

    size: int
    slots: dict[int, list[Unit]] = field(default_factory=lambda: defaultdict(list))


def place(ties: Ties, wanted: Mapping[str, Wanted]) -> dict[int, IntArray]:
    """For each block that moves the channel at each of its positions."""
    search = _Search(_blocks(ties, wanted), wanted)
    free = [number for number in search.blocks if number not in ties.fixed]
    free.sort(key=lambda number: -len(search.blocks[number].slots))
    hard = search.hardened_beside(free)
    for number in free:
        search.put(number, search.arranged(number, hard))
        hard |= search.hardened[number]
    if search.score() > search.unmoved:
        search.stay(free)
    for number in free:
        search.improve(number)
    if search.score() >= search.unmoved:
        search.stay(free)
    return {n: order for n, order in search.orders.items() if _moved(order)}


def _blocks(ties: Ties, wanted: Mapping[str, Wanted]) -> dict[int, _Block]:
    """The blocks of which some channels are wanted."""
    blocks: dict[int, _Block] = {}
    for layer, want in wanted.items():
        for run in ties.runs[layer]:
            for neuron in want.neurons:
                if run.start <= neuron < run.start + run.size:
                    block = blocks.setdefault(run.block, _Block(run.size))
                    block.slots[neuron - run.start].append((layer, run.start))
    return blocks


def _moved(order: IntArray) -> int:
    """Channels that are not in their place."""
    return int((order != np.arange(len(order))).sum())


class _Search:
    """An order for each block, and the units that it hardens; first every channel stays."""

    def __init__(self, blocks: Mapping[int, _Block], wanted: Mapping[str, Wanted]) -> None:
        self.blocks, self.wanted = blocks, wanted
        self.orders: dict[int, IntArray] = {}
        self.hardened: dict[int, frozenset[Unit]] = {}
        self.limit = 0
        self.stay(blocks)
        self.limit, cost, _ = self.score()
        self.unmoved: Score = (0, cost, 0)

    def stay(self, numbers: Iterable[int]) -> None:
        """Channels of these blocks are in their place."""
        for number in numbers:
            self.put(number, np.arange(self.blocks[number].size))

    def put(self, number: int, order: IntArray) -> None:
        """Channel `order[p]` at position p of a block."""
        where = np.argsort(order)
        self.orders[number] = order
        self.hardened[number] = frozenset(
            self.unit(run, int(where[slot]))
            for slot, runs in self.blocks[number].slots.items()
            for run in runs
        )

    def unit(self, run: Unit, position: int) -> Unit:
        """What is hardened for the channel at `position` of a layer's run of a block."""
        layer, start = run
        return layer, self.wanted[layer].unit(start + position)

    def hardened_beside(self, numbers: Iterable[int]) -> frozenset[Unit]:
        """What the other blocks harden."""
        others = self.hardened.keys() - set(numbers)
        return frozenset(unit for number in others for unit in self.hardened[number])

    def cost(self, units: Iterable[Unit]) -> float:
        """Of units, each counted once."""
        return sum(self.wanted[layer].cost for layer, _ in units)

    def score(self) -> Score:
        """Of all orders together; the least is the best."""
        units = self.hardened_beside(())
        moved = sum(_moved(order) for order in self.orders.values())
        return max(0, len(units) - self.limit), self.cost(units), moved

    def improve(self, number: int) -> None:
        """The best of: the block's order, channels in place, the rule given all other blocks."""
        rule = self.arranged(number, self.hardened_beside([number]))
        found: list[tuple[Score, int, IntArray]] = []
        for order in (self.orders[number], np.arange(len(rule)), rule):
            self.put(number, order)
            found.append((self.score(), len(found), order))
        self.put(number, min(found)[2])

    def arranged(self, number: int, known: Iterable[Unit]) -> IntArray:
        """The rule's order for a block where `known` units are hardened already."""
        block, hard = self.blocks[number], set(known)
        dear = {s: sum(self.wanted[n].cost for n, _ in runs) for s, runs in block.slots.items()}
        free = np.ones(block.size, dtype=bool)
        order = np.empty(block.size, dtype=np.int64)
        for slot in sorted(dear, key=lambda slot: (-dear[slot], slot)):
            positions: dict[frozenset[Unit], list[int]] = defaultdict(list)
            for position in np.flatnonzero(free).tolist():
                units = frozenset(self.unit(run, position) for run in block.slots[slot])
                positions[units - hard].append(position)
            prices = [(self.cost(new), -len(at), at[0], new) for new, at in positions.items()]
            *_, position, new = min(prices, key=lambda price: price[:3])
            order[position], free[position] = slot, False
            hard |= new
        order[free] = [slot for slot in range(block.size) if slot not in block.slots]
        return order
