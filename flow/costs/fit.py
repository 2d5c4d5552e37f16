"""Prices from measured layers: least squares of relative errors, no price below zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Equations", "cross_validate", "solve"]

Floats = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

SMALL = 50.0
"""LUTs added to a layer's size in its weight: small layers would rule otherwise."""

SWEEPS = 2000

FLOORS = {"weight_rom": 0.5, "sum_bits": 0.5}
"""Least prices of what cannot be had for nothing, however small the sample: a table, an adder."""


@dataclass
class Equations:
    """One equation a layer: amounts . prices = LUTs; `sizes` weigh them."""

    designs: list[int] = field(default_factory=list)
    amounts: list[Mapping[str, float]] = field(default_factory=list)
    luts: list[float] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)

    def add(self, design: int, amounts: Mapping[str, float], luts: float, size: float) -> None:
        """Layer of a design with its measured LUTs, those that hold words left out."""
        self.designs.append(design)
        self.amounts.append(amounts)
        self.luts.append(luts)
        self.sizes.append(size)

    @property
    def names(self) -> list[str]:
        """Every kind of logic, in order."""
        return sorted({name for row in self.amounts for name in row})

    def matrix(self) -> Floats:
        """Amounts, shape (layers, kinds)."""
        names = self.names
        return np.array([[row.get(name, 0.0) for name in names] for row in self.amounts])


def solve(equations: Equations) -> dict[str, float]:
    """Price of each kind of logic in LUTs; kinds without influence are left out."""
    found = _prices(equations.matrix(), equations, np.ones(len(equations.luts), dtype=bool))
    prices = zip(equations.names, found.tolist(), strict=True)
    return {name: round(price, 4) for name, price in prices if price > 0}


def cross_validate(equations: Equations, folds: int) -> list[float]:
    """Price sum of each design, in order of first mention, by fits that left its part out."""
    matrix, designs = equations.matrix(), np.array(equations.designs)
    order = list(dict.fromkeys(equations.designs))
    part = np.array([order.index(design) % folds for design in equations.designs])
    predicted = np.zeros(len(designs))
    for fold in range(folds):
        out = part == fold
        predicted[out] = matrix[out] @ _prices(matrix, equations, ~out)
    return [float(predicted[designs == design].sum()) for design in order]


def _prices(
    matrix: Floats, equations: Equations, used: np.ndarray[Any, np.dtype[np.bool_]]
) -> Floats:
    """Least squares with no price below its floor, by coordinate descent."""
    weight = 1 / (np.array(equations.sizes) + SMALL)
    scale = np.maximum(matrix.max(axis=0), 1e-9)
    floor = np.array([FLOORS.get(name, 0.0) for name in equations.names])
    a = (matrix / scale * weight[:, None])[used]
    b = ((np.array(equations.luts) - matrix @ floor) * weight)[used]
    gram, target = a.T @ a, a.T @ b
    x: Floats = np.zeros(len(target))
    for _ in range(SWEEPS):
        for j in np.flatnonzero(np.diag(gram) > 0):
            x[j] = max(0.0, x[j] + (target[j] - gram[j] @ x) / gram[j, j])
    return np.asarray(x / scale + floor, dtype=np.float64)
