"""The front of a search, its hypervolume, and which of its members show its spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .archive import Record
from .survival import FloatArray

__all__ = ["front", "hypervolume", "matrix", "reference_point", "spread"]

MARGIN = 0.1
"""Of the reference point, over the worst of the first generation."""


def matrix(records: Sequence[Record], names: Sequence[str]) -> FloatArray:
    """Objectives of records that have them, [n, objectives], in the order of `names`."""
    rows = [[(record.objectives or {})[name] for name in names] for record in records]
    return np.array(rows, dtype=float).reshape(len(records), len(names))


def front(records: Sequence[Record], names: Sequence[str]) -> list[Record]:
    """The records that no other one dominates, by their first objective, then the others."""
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    values = matrix(records, names)
    best = NonDominatedSorting().do(values, only_non_dominated_front=True)
    ordered = sorted(best.tolist(), key=lambda index: (*values[index], records[index].number))
    return [records[index] for index in ordered]


def reference_point(values: FloatArray) -> list[float]:
    """The worst of each objective [n, objectives] and a tenth more; 1 where that is 0."""
    worst = values.max(axis=0)
    point = worst + MARGIN * np.abs(worst)
    return [float(value) if value else 1.0 for value in point]


def hypervolume(
    records: Sequence[Record], names: Sequence[str], reference: Mapping[str, float]
) -> float:
    """Volume between the records and the reference point, each objective divided by the point's.

    1 is the volume between the point and the origin. Source: C. M. Fonseca et al., An improved
    dimension-sweep algorithm for the hypervolume indicator, CEC 2006, in pymoo.
    """
    from pymoo.indicators.hv import HV

    if not records:
        return 0.0
    point = np.array([reference[name] for name in names])
    scale = np.where(point == 0, 1.0, np.abs(point))
    return float(HV(ref_point=point / scale)(matrix(records, names) / scale))


def spread(records: Sequence[Record], names: Sequence[str], count: int) -> list[Record]:
    """`count` members of a front: its knee (the nearest to the ideal point when every objective
    runs from 0 to 1 over the front), the best of each objective, then the farthest from those."""
    values = matrix(records, names)
    low, high = values.min(axis=0), values.max(axis=0)
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    distance = np.linalg.norm(scaled, axis=1)
    order = [int(distance.argmin())]
    order += [int(np.lexsort((distance, column))[0]) for column in scaled.T]
    chosen = list(dict.fromkeys(order))[:count]
    while len(chosen) < min(count, len(records)):
        gaps = np.linalg.norm(scaled[:, None] - scaled[chosen], axis=2).min(axis=1)
        gaps[chosen] = -1.0
        chosen.append(int(gaps.argmax()))
    return [records[index] for index in chosen]
