"""One option of each group so that the sums fit in several resources: descent by single changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["Needs", "descend", "excess"]

Needs = np.ndarray[Any, np.dtype[np.float64]]
"""What options need of each resource, as shares of the room there is: [options, resources]."""

OVERFULL = 1000.0
"""What a share too much weighs against a share less: first it has to fit."""

CHANGES = 1000


def excess(used: Needs) -> Any:
    """Shares too much, summed over the resources in the last axis."""
    return np.maximum(used - 1, 0).sum(axis=-1)


def descend(
    groups: Sequence[Needs],
    start: Sequence[int],
    price: Needs,
    allowed: Callable[[Sequence[int], int, int], bool],
) -> list[int]:
    """Options, one of each group, that no single allowed change improves.

    Better is less in excess, then less at the `price` of each resource's room.
    `allowed(state, group, option)` tells whether the group may change to the option.
    """
    state = list(start)
    used = np.asarray(sum(needs[i] for needs, i in zip(groups, state, strict=True)))
    value = _value(used, price)
    for _ in range(CHANGES):
        best: tuple[float, int, int] | None = None
        for group, needs in enumerate(groups):
            values = _value(used - needs[state[group]] + needs, price)
            for option in np.argsort(values).tolist():
                if values[option] >= (value if best is None else best[0]) - 1e-9:
                    break
                if allowed(state, group, option):
                    best = (float(values[option]), group, option)
                    break
        if best is None:
            break
        value, group, option = best
        used = used - groups[group][state[group]] + groups[group][option]
        state[group] = option
    return state


def _value(used: Needs, price: Needs) -> Any:
    return OVERFULL * excess(used) + used @ price
