"""Folding for an interval, or for a share of a device: the cheapest choice of every layer."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

from ...hw.configure import Fold, Protection, circuit_nodes, sources
from ...hw.fold import UNPROTECTED
from ...hw.linear_config import LinearConfig
from ...quant.errors import InputError
from ...quant.ir import Graph, Node
from ..costs import luts
from ..costs.families import FAMILIES
from ..costs.layer import resources
from ..targets import Target
from .choices import MOST_NEEDED_WEIGHTS, MOST_SHIFT_WEIGHTS, Choice, shaped, variants
from .knapsack import descend

__all__ = ["RESOURCES", "Solver", "fold_for_interval", "fold_to_fit", "margins"]

RESOURCES = ("luts", "ffs", "dsps", "brams")

WORTH, BLOCK_WORTH = (1.0, 0.5, 100.0), 200.0
"""What a LUT, a flip-flop, a DSP block and 18 kbit of block memory are worth, in LUTs."""

SPARE, ALWAYS = 1.25, 4
"""Choices with more than `SPARE` times the fewest multipliers that meet an interval are left out,
unless they have no more than `ALWAYS`."""

Vector = np.ndarray[tuple[int], np.dtype[np.float64]]
Chosen = dict[str, Choice]


@dataclass(frozen=True)
class Found:
    """Choices for an interval and what they need, in shares of what may be used."""

    chosen: Chosen
    used: Vector

    @property
    def fullest(self) -> float:
        """Share of the resource of which least is left; above 1 nothing fits."""
        return float(self.used.max())


class Solver:
    """The choices of a network's layers on a target; costs are computed once, when needed.

    Parameters: `graph`, `target`, `guards`: protection of layers, which takes room too. Raises
    InputError for a target that nobody measured, naming the layer that has no circuit.
    """

    def __init__(
        self, graph: Graph, target: Target, guards: Mapping[str, Protection] | None = None
    ) -> None:
        guards = guards or {}
        self.graph, self.target = graph, target
        self.nodes = circuit_nodes(graph)
        self.origins = sources(graph)
        self.guards = {node.name: guards.get(node.name, UNPROTECTED) for node in self.nodes}
        self.shapes = {
            node.name: shaped(graph, node, self.guards[node.name], broad=True)
            for node in self.nodes
        }
        self.margins = margins(target)
        self.worth = np.array([*WORTH, BLOCK_WORTH * target.bram_bits / 18432])
        self._costs: dict[Choice, Vector] = {}
        self._variants: dict[tuple[Choice, int], list[Choice]] = {}

    @functools.cached_property
    def intervals(self) -> list[int]:
        """Every interval at which a layer has another choice, from the fastest possible on."""
        fastest, _ = self.bottleneck
        every = {choice.cycles for found in self.shapes.values() for choice in found}
        return sorted(cycles for cycles in every if cycles >= fastest)

    @functools.cached_property
    def bottleneck(self) -> tuple[int, str]:
        """The fastest interval of any folding, and the layer that sets it."""
        return max(
            (min(choice.cycles for choice in found), name) for name, found in self.shapes.items()
        )

    def cost(self, choice: Choice) -> Vector:
        """LUTs, flip-flops, DSP and memory blocks of a choice, with `margins`, no converters."""
        found = self._costs.get(choice)
        if found is None:
            counted = resources(choice.layer, (), self.target.family.name)
            counts = [getattr(counted, key) for key in RESOURCES]
            if None in counts:
                raise InputError(
                    f"target {self.target.name}: no model of its LUTs, so nothing can be fitted; "
                    "choose another target or give --fold F.toml"
                )
            found = self._costs[choice] = np.array(counts, dtype=np.float64) * self.margins
        return found

    def _options(self, node: Node, interval: int, shifted: int) -> list[Choice]:
        """Choices of a node that meet an interval, without those of needlessly many multipliers.

        Nor needlessly broad ones: pixels go side by side only where one after the other is too
        slow; then twice as many are thought of as well, for the sake of the converters. Layers of
        at most `shifted` weights may become shift-adds.
        """
        meeting = [choice for choice in self.shapes[node.name] if choice.cycles <= interval]
        least = min(choice.breadth for choice in meeting)
        meeting = [choice for choice in meeting if choice.breadth <= 2 * least]
        most = max((2 if least else SPARE) * meeting[0].multipliers, ALWAYS)
        options = []
        for choice in meeting:
            unrolled = isinstance(choice.layer, LinearConfig) and choice.layer.constant_weights
            if choice.multipliers > most and not (unrolled and shifted > MOST_SHIFT_WEIGHTS):
                continue
            if (choice, shifted) not in self._variants:
                self._variants[choice, shifted] = variants(
                    choice,
                    self.graph,
                    node,
                    self.guards[node.name],
                    FAMILIES.get(self.target.family.name) if self.target.dsps else None,
                    shifted,
                )
            options += self._variants[choice, shifted]
        return options

    def _start(self, options: list[list[Choice]], interval: int) -> list[int]:
        """The cheapest option of each layer whose converters keep the interval."""
        lanes: dict[str, int] = {}
        state = []
        for node, found in zip(self.nodes, options, strict=True):
            before = [lanes[name] for name in self.origins[node.name] if name in lanes]
            fitting = [i for i, one in enumerate(found) if _converts(before, one, interval)]
            prices = [float(self.cost(one) @ self.worth) for one in found]
            best = min(fitting or range(len(found)), key=prices.__getitem__)
            state.append(best)
            lanes[node.name] = found[best].layer.out_lanes
        return state

    def total(self, chosen: Chosen) -> Vector:
        """Resources of all layers, in the order of `RESOURCES`."""
        return np.asarray(sum(self.cost(choice) for choice in chosen.values()))

    def solve(self, interval: int, share: float = 1.0, shifted: int = MOST_SHIFT_WEIGHTS) -> Found:
        """The cheapest folding found for an interval that stays within a share of the device.

        Where none was found, the one that overfills it least. Layers of at most `shifted` weights
        may become shift-adds: a search that takes its time.
        """
        room = np.maximum([self.target.capacity[key] * share for key in RESOURCES], 0.01)
        options = [self._options(node, interval, shifted) for node in self.nodes]
        needs = [np.array([self.cost(one) for one in found]) / room for found in options]
        place = {node.name: i for i, node in enumerate(self.nodes)}
        readers: list[list[int]] = [[] for _ in self.nodes]
        for name, operands in self.origins.items():
            for source in operands:
                if source in place:
                    readers[place[source]].append(place[name])

        def lanes_of(state: Sequence[int], group: int) -> list[int]:
            names = self.origins[self.nodes[group].name]
            found = [place[name] for name in names if name in place]
            return [options[i][state[i]].layer.out_lanes for i in found]

        def allowed(state: Sequence[int], group: int, option: int) -> bool:
            new = [*state[:group], option, *state[group + 1 :]]
            return all(
                _converts(lanes_of(new, i), options[i][new[i]], interval)
                for i in (group, *readers[group])
            )

        price = room * self.worth / (room * self.worth).sum()
        start = self._start(options, interval)
        state = descend(needs, start, price, allowed)
        chosen = {node.name: options[i][state[i]] for i, node in enumerate(self.nodes)}
        return Found(chosen, self.total(chosen) / room)


def margins(target: Target) -> Vector:
    """By what estimates are multiplied, in the order of `RESOURCES`: LUTs by what nine designs in
    ten, left out of the model's fit, needed more than estimated."""
    model = luts.model(target.family.name)
    error = max(0.0, model.errors["more"]) if model else 0.0
    return np.array([1 + error if key == "luts" else 1.0 for key in RESOURCES])


def _converts(lanes: list[int], choice: Choice, interval: int) -> bool:
    """Whether the converters from streams of `lanes` to a choice's words keep the interval."""
    layer = choice.layer
    for source, word, words in zip(lanes, layer.in_lanes, layer.in_words, strict=False):
        common = gcd(source, word)
        gather, split = word // common, source // common
        if words // split * (gather - 1 + split) > max(interval, words):
            return False
    return True


def fold_for_interval(solver: Solver, interval: int) -> dict[str, Fold]:
    """The cheapest folding whose layers take at most `interval` cycles a frame.

    Raises InputError naming the layer that cannot be as fast, or the resource that runs out.
    """
    fastest, slowest_layer = solver.bottleneck
    if interval < fastest:
        raise InputError(
            f"layer {slowest_layer}: takes {fastest} cycles a frame when fully parallel, more than "
            f"the {interval} asked for"
        )
    found = solver.solve(interval)
    if found.fullest > 1:
        found = solver.solve(interval, shifted=MOST_NEEDED_WEIGHTS)
    if found.fullest > 1:
        raise InputError(f"an interval of {interval} cycles {_overfull(solver, found, 1.0)}")
    return _folds(found.chosen)


def fold_to_fit(solver: Solver, share: float) -> dict[str, Fold]:
    """The fastest folding found that needs at most a share of each of the target's resources.

    Raises InputError naming the resource that runs out at the slowest folding, and the largest
    layer.
    """
    found = solver.solve(solver.intervals[-1], share)
    if found.fullest > 1:
        raise InputError(f"the smallest folding {_overfull(solver, found, share)}")
    low, high = 0, len(solver.intervals) - 1
    while low < high:
        middle = (low + high) // 2
        trial = solver.solve(solver.intervals[middle], share)
        if trial.fullest <= 1:
            found, high = trial, middle
        else:
            low = middle + 1
    return _folds(found.chosen)


def _folds(chosen: Chosen) -> dict[str, Fold]:
    return {name: choice.fold for name, choice in chosen.items()}


def _overfull(solver: Solver, found: Found, share: float) -> str:
    """What does not fit: the resource, the figure, and the layer that needs most of it."""
    index = int(found.used.argmax())
    key = RESOURCES[index]
    need = float(solver.total(found.chosen)[index])
    have = solver.target.capacity[key] * share
    name, largest = max(
        ((name, float(solver.cost(one)[index])) for name, one in found.chosen.items()),
        key=lambda item: item[1],
    )
    limit = f"{have:.0f}" if share == 1 else f"{have:.0f} ({share:.0%})"
    return (
        f"needs {need:.0f} {key} of the {limit} of {solver.target.name}, {need - have:.0f} too "
        f"many; the largest layer is {name} with {largest:.0f}: choose a larger target, fewer "
        "channels or fewer weight bits"
    )
