"""How long an upset goes unnoticed: cycles from the strike to the first flagged output beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..quant.ir import IntArray
from .outcomes import Outcome

if TYPE_CHECKING:
    from .store import Table

__all__ = ["GROUPS", "quantiles", "report"]

Json = dict[str, Any]

#: What a flag was worth: in time, too late, without need, or of a result that came right.
GROUPS: dict[str, tuple[Outcome, ...]] = {
    "detected": (Outcome.DUE,),
    "late": (Outcome.HANG, Outcome.SDC_CRITICAL, Outcome.SDC_TOLERABLE),
    "mended": (Outcome.RECOVERED, Outcome.CORRECTED),
    "false_alarm": (Outcome.FALSE_ALARM, Outcome.LATENT, Outcome.MASKED),
}


def report(table: Table) -> Json | None:
    """The flagged experiments by the cycles until their first flagged beat; None if the campaign
    did not record them.

    `bins` are {from, to, and a count for each of `GROUPS`}: 0, 1, 2..3, 4..7, .. cycles. Of the
    group `detected`: `median`, `p95`, `p99` and `largest` number of cycles, None without any.
    """
    if table.detection_cycles is None:
        return None
    cycles = np.asarray(table.detection_cycles, np.int64)
    flagged = cycles >= 0
    place = np.ceil(np.log2(cycles[flagged] + 1)).astype(np.int64)  # 0, 1, 2..3, 4..7
    size = int(place.max()) + 1 if len(place) else 0
    outcome = table.outcome[flagged]
    counts = {
        name: np.bincount(place[np.isin(outcome, kinds)], minlength=size).tolist()
        for name, kinds in GROUPS.items()
    }
    bins = [
        {"from": 1 << n >> 1, "to": (1 << n) - 1} | {name: counts[name][n] for name in GROUPS}
        for n in range(size)
    ]
    detected = cycles[flagged][np.isin(outcome, GROUPS["detected"])]
    return {"flagged": int(flagged.sum()), "bins": bins} | quantiles(detected)


def quantiles(cycles: IntArray) -> Json:
    """`median`, `p95`, `p99` and `largest` of numbers of cycles, None without any."""
    shares = {"median": 0.5, "p95": 0.95, "p99": 0.99, "largest": 1.0}
    if not len(cycles):
        return dict.fromkeys(shares)
    values = np.quantile(cycles, list(shares.values()), method="inverted_cdf")
    return dict(zip(shares, map(int, values), strict=True))
