"""Ranges of activations, measured on calibration data.

Every tensor's minimum and maximum, and a histogram between them where a method needs it. Methods:
`minmax`; `percentile`, which cuts outliers (McKinstry et al. 2018); `mse`, which searches the range
with the least squared quantisation error (Banner et al. 2019, section 3; Nagel et al. 2021, 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InputError
from .float_graph import FloatArray, FloatGraph, execute
from .ir import TensorType
from .names import printable

__all__ = ["METHODS", "Statistics", "check_calibration", "collect", "squared_error"]

METHODS = ("minmax", "percentile", "mse")
BINS = 4096
BATCH = 64
MSE_STEPS = np.linspace(0.3, 1.0, 71)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Values of one tensor: `lo`, `hi`, and `counts` [BINS] of equal bins between them."""

    lo: float
    hi: float
    counts: FloatArray | None = None

    @property
    def centres(self) -> FloatArray:
        """Middle of every bin."""
        width = (self.hi - self.lo) / BINS
        return self.lo + width * (np.arange(BINS, dtype=np.float64) + 0.5)

    def percentile(self, percentile: float) -> tuple[float, float]:
        """The range that holds `percentile` % of the values at either end, zero included.

        It is the whole range where the cut would leave nothing but zero.
        """
        assert self.counts is not None
        share = np.cumsum(self.counts) / self.counts.sum()
        edges = np.linspace(self.lo, self.hi, BINS + 1)
        tail = 1.0 - percentile / 100.0
        hi = float(edges[min(int(np.searchsorted(share, 1.0 - tail)) + 1, BINS)])
        lo = float(edges[int(np.searchsorted(share, tail, side="right"))])
        lo, hi = min(lo, 0.0), max(hi, 0.0)
        narrow = hi - lo <= 2 * (self.hi - self.lo) / BINS
        return (min(self.lo, 0.0), max(self.hi, 0.0)) if narrow else (lo, hi)

    def candidates(self) -> Iterator[tuple[float, float]]:
        """Ranges to try in a search, from narrow to whole."""
        for part in MSE_STEPS.tolist():
            yield min(self.lo, 0.0) * part, max(self.hi, 0.0) * part


def check_calibration(graph: FloatGraph, x: Any) -> np.ndarray[Any, Any]:
    """`x` as an array [n, *input_shape] of finite numbers; InputError says what is wrong."""
    array = np.asarray(x)
    name = printable(graph.input_name)
    if array.dtype.kind not in "fiub":
        raise InputError(f"calibration data for {name} must hold numbers, not {array.dtype}")
    if array.ndim != len(graph.input_shape) + 1 or array.shape[1:] != graph.input_shape:
        wanted = ", ".join(map(str, ("n", *graph.input_shape)))
        raise InputError(f"calibration data has shape {array.shape}; input {name} needs [{wanted}]")
    if not len(array):
        raise InputError("calibration data is empty; give at least one input")
    if not np.isfinite(array).all():
        raise InputError("calibration data holds NaN or infinity")
    return array


def collect(graph: FloatGraph, x: Any, *, histogram: bool = False) -> dict[str, Statistics]:
    """Statistics of every tensor, the input included, over all of `x` [n, *input_shape].

    Raises InputError for bad data and, naming the layer, for a tensor that is not finite.
    """
    data = check_calibration(graph, x)
    limits: dict[str, tuple[float, float]] = {}
    for values in _batches(graph, data):
        for name, tensor in values.items():
            lo, hi = float(tensor.min()), float(tensor.max())
            if not np.isfinite([lo, hi]).all():
                raise InputError(f"layer {printable(name)}: overflows on the calibration data")
            old_lo, old_hi = limits.get(name, (lo, hi))
            limits[name] = min(old_lo, lo), max(old_hi, hi)
    if not histogram:
        return {name: Statistics(lo, hi) for name, (lo, hi) in limits.items()}
    counts = {name: np.zeros(BINS) for name in limits}
    for values in _batches(graph, data):
        for name, tensor in values.items():
            counts[name] += _histogram(tensor, *limits[name])
    return {name: Statistics(lo, hi, counts[name]) for name, (lo, hi) in limits.items()}


def _batches(
    graph: FloatGraph, data: np.ndarray[Any, Any]
) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
    for start in range(0, len(data), BATCH):
        yield execute(graph, data[start : start + BATCH])


def _histogram(tensor: np.ndarray[Any, Any], lo: float, hi: float) -> FloatArray:
    width = (hi - lo) / BINS
    if width == 0.0:  # one value, or subnormal
        index = np.zeros(tensor.size, dtype=np.int64)
    else:
        index = np.minimum((tensor.astype(np.float64).ravel() - lo) / width, BINS - 1).astype(int)
    return np.bincount(index, minlength=BINS).astype(np.float64)


def squared_error(statistics: Statistics, kind: TensorType) -> float:
    """Summed squared error of the tensor's values when stored as `kind` (with its scale)."""
    assert statistics.counts is not None
    assert kind.scale is not None
    centres = statistics.centres
    steps = np.rint(centres / kind.scale) + kind.zero_point
    stored = (np.clip(steps, kind.lo, kind.hi) - kind.zero_point) * kind.scale
    return float((statistics.counts * (stored - centres) ** 2).sum())
