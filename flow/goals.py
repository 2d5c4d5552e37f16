"""From a wish (frames a second, a share of the device) to a design that was checked against it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..quant.errors import InputError
from ..quant.ir import Graph, IntArray
from .design import Design, arrange
from .estimator import estimate_design
from .folding import Goal, Solver, balance, fold_for_interval, fold_to_fit, load_folding
from .folding.solve import RESOURCES, margins
from .plan import Plan, clip, protect
from .targets import Target

__all__ = ["folded_design"]

TRIES, STRICTER = 4, 0.99
"""Foldings that are tried, each stricter by what the one before missed and a little more."""


def folded_design(
    graph: Graph, target: Target, goal: Goal, plan: Plan, select_x: IntArray | None
) -> Design:
    """The design of a graph that reaches a goal on a target, hardening included.

    The interval is checked with the exact recurrence, the share with the whole estimate. Raises
    InputError naming the layer, the resource or the option.
    """
    graph = clip(plan, graph, select_x)
    guards = protect(plan, graph, select_x)
    interval = goal.interval(target)
    if interval is None and goal.fit is None:
        folding = balance(graph) if goal.fold == "auto" else load_folding(Path(goal.fold), graph)
        return arrange(graph, folding, plan, guards)
    solver = Solver(graph, target, guards)
    aim = float(interval or goal.fit or 0)
    for _ in range(TRIES):
        try:
            if interval is not None:
                folding = fold_for_interval(solver, int(aim))
            else:
                folding = fold_to_fit(solver, aim)
        except InputError as error:
            raise InputError(f"{goal.text(target)}: {error}") from None
        design = arrange(graph, folding, plan, guards)
        excess = _excess(design, target, goal, interval)
        if excess <= 1:
            _check_room(design, target, goal)
            return design
        aim *= STRICTER / excess
    raise InputError(
        f"{goal.text(target)}: layers that meet it wait for each other or for converters, "
        f"{excess - 1:.1%} is missing; ask for less, or give --fold F.toml"
    )


def _excess(design: Design, target: Target, goal: Goal, interval: int | None) -> float:
    """By what factor a design misses the interval or the share; at most 1 if it does not."""
    if interval is not None:
        return design.timing().initiation_interval / interval
    need = _need(estimate_design(design, target), target)
    room = {key: target.capacity[key] * (goal.fit or 1) for key in RESOURCES}
    return max((need[key] / max(room[key], 0.01) for key in RESOURCES), default=0.0)


def _need(cost: Mapping[str, Any], target: Target) -> dict[str, float]:
    """What to keep room for."""
    pairs = zip(RESOURCES, margins(target).tolist(), strict=True)
    return {key: cost[key] * margin for key, margin in pairs}


def _check_room(design: Design, target: Target, goal: Goal) -> None:
    """InputError if the device has too little of something, FIFOs and converters included."""
    cost = estimate_design(design, target)
    for key, need in _need(cost, target).items():
        have = target.capacity[key]
        if need > have:
            largest = max(cost["layers"], key=lambda layer: layer[key])
            raise InputError(
                f"{goal.text(target)}: needs {need:.0f} {key} of the {have} of {target.name}; "
                f"the largest layer is {largest['name']} with {largest[key]:.0f}: "
                "choose a larger target or ask for less"
            )
