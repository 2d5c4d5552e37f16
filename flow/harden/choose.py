"""One option of each group so that little is left at every cost: multiple-choice knapsack, exact.

Dynamic programming over integer costs: best[c] is the least that can be left at a cost of at most
c, group by group. Source: K. Dudzinski and S. Walukiewicz, "Exact methods for the knapsack problem
and its generalizations", EJOR 28, 1987; the dominance of options within a group is the usual one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Choice", "choose", "undominated"]

STEPS = 1 << 19
"""Costs that are told apart; larger sums are counted in coarser units, rounded up."""

Pair = tuple[int, float]
"""What an option costs, and what it leaves."""
Costs = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Choice:
    """A point of the front: the option of each group, the sum of costs, the sum of what is left."""

    options: tuple[int, ...]
    cost: int
    left: float


def undominated(group: Sequence[Pair]) -> list[int]:
    """Options of a group than which none is cheaper and leaves no more, by rising cost."""
    found: list[int] = []
    for index in sorted(range(len(group)), key=lambda i: group[i]):
        if not found or group[index][1] < group[found[-1]][1]:
            found.append(index)
    return found


def choose(groups: Sequence[Sequence[Pair]], steps: int = STEPS) -> list[Choice]:
    """The whole front: what is left falls, cost rises; the first point is the cheapest choice.

    Each of `groups` holds (cost, left) of its options, at least one, costs 0 or more. Exact while
    the largest total is below `steps`; beyond, each cost is rounded up to the next 1/`steps` of it.
    Raises ValueError for an empty group or a negative cost.
    """
    if any(not group or min(cost for cost, _ in group) < 0 for group in groups):
        raise ValueError("every group needs an option, and costs must not be negative")
    largest = sum(max(cost for cost, _ in group) for group in groups)
    unit = max(1, -(-largest // steps))
    kept = [undominated(group) for group in groups]
    scaled = [
        [(-(-group[i][0] // unit), group[i][1]) for i in indices]
        for group, indices in zip(groups, kept, strict=True)
    ]
    size = sum(max(cost for cost, _ in group) for group in scaled) + 1
    best, taken = np.zeros(size), []
    for group in scaled:
        best, picks = _with_group(best, group)
        taken.append(picks)
    drops = np.flatnonzero(best < np.concatenate(([np.inf], best[:-1])))
    return [_choice(groups, scaled, kept, taken, int(cost)) for cost in drops]


def _with_group(best: Costs, group: Sequence[Pair]) -> tuple[Costs, Any]:
    """`best` after one more group, and the option taken at each cost."""
    found = np.full(len(best), np.inf)
    picks = np.zeros(len(best), dtype=np.uint16)
    for option, (cost, left) in enumerate(group):
        value = best[: len(best) - cost] + left
        better = value < found[cost:]
        found[cost:][better] = value[better]
        picks[cost:][better] = option
    return found, picks


def _choice(
    groups: Sequence[Sequence[Pair]],
    scaled: Sequence[Sequence[Pair]],
    kept: Sequence[Sequence[int]],
    taken: Sequence[Any],
    cost: int,
) -> Choice:
    """The options behind one value of the table, last group first."""
    options = []
    for number in range(len(groups) - 1, -1, -1):
        pick = int(taken[number][cost])
        cost -= scaled[number][pick][0]
        options.append(kept[number][pick])
    options.reverse()
    pairs = [group[option] for group, option in zip(groups, options, strict=True)]
    return Choice(tuple(options), sum(p[0] for p in pairs), sum(p[1] for p in pairs))
