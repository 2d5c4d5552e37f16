"""Who survives a generation: pymoo's NSGA-II and NSGA-III survival, without its algorithm objects.

What they need between generations goes in and comes out as JSON.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...quant.ir import IntArray

__all__ = ["FloatArray", "survive"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Json = dict[str, Any]


def survive(
    kind: str,
    objectives: FloatArray,
    count: int,
    rng: np.random.Generator,
    normal: Mapping[str, Any] | None,
) -> tuple[IntArray, IntArray, Json]:
    """(indices of at most `count` survivors, their order in a tournament: less is better, `normal`
    of the next call) of objectives [n, m].

    Objectives are divided by their largest magnitudes in the first call: pymoo's NSGA-III compares
    with absolute thresholds.
    """
    from pymoo.core.population import Population
    from pymoo.core.problem import Problem

    known = dict(normal) if normal else {"scale": _scale(objectives)}
    scaled = objectives / np.array(known["scale"])
    people = Population.new(F=scaled, index=np.arange(len(scaled)))
    survival = _nsga3(scaled.shape[1], count, known) if kind == "nsga3" else _nsga2()
    problem = Problem(n_var=1, n_obj=scaled.shape[1])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        kept = survival.do(problem, people, n_survive=count, random_state=rng)
    rank = kept.get("rank").astype(np.int64)
    if kind == "nsga3":
        known |= _normal(survival.norm)
        order = rank
    else:
        crowding = kept.get("crowding").astype(float)
        pairs = np.stack([rank, -crowding], axis=1)
        order = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
    return kept.get("index").astype(np.int64), order, known


def _scale(objectives: FloatArray) -> list[float]:
    largest = np.abs(objectives).max(axis=0)
    return [float(value) if value > 0 else 1.0 for value in largest]


def _nsga2() -> Any:
    from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

    return RankAndCrowding()


def _nsga3(objectives: int, count: int, known: Mapping[str, Any]) -> Any:
    """The survival with what it knew: ideal, worst, nadir and extreme points."""
    from pymoo.algorithms.moo.nsga3 import ReferenceDirectionSurvival
    from pymoo.util.ref_dirs import get_reference_directions

    partitions = 1
    while objectives > 1 and math.comb(partitions + objectives, objectives - 1) <= count:
        partitions += 1
    directions = get_reference_directions("das-dennis", objectives, n_partitions=partitions)
    survival = ReferenceDirectionSurvival(directions)
    for name in _POINTS:
        if name in known:
            setattr(survival.norm, name, np.array(known[name], dtype=float))
    return survival


_POINTS = ("ideal_point", "worst_point", "nadir_point", "extreme_points")


def _normal(norm: Any) -> Json:
    return {name: getattr(norm, name).tolist() for name in _POINTS}
