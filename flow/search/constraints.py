"""The constraints of a search: what no training is worth, what an evaluation breaks, and whether
anything can satisfy them at all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...quant.errors import InputError
from ...quant.ir import IntArray
from .. import targets
from ..plan import Tmr
from .batch import CIRCUIT, PREDICTED, estimate_batch
from .space import FIT, Space

__all__ = ["Constraints", "Limit", "broken", "check"]

MARGINS = {"luts": 0.05, "ffs": 0.05, "brams": 0.05, "dsps": 0.5, "latency_cycles": 0.1}
"""By what a prediction must exceed a limit before a candidate is refused unseen: trained weights
change these counts, and the latency of a batch is interpolated."""

SMALL = 512
"""Candidates up to which a space is searched whole for a contradiction."""

DRAWN, STARTS = (16, 112), 3
"""Else how many are drawn, in turns until one satisfies everything; and from how many of the
closest ones the search goes on, gene by gene."""

Vector = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Limit:
    """`column` must not exceed `most`; `name` is the constraint that says so."""

    name: str
    column: str
    most: float

    @property
    def text(self) -> str:
        """As a person would write it."""
        return f"{self.column} <= {self.most:g}"


def _limits(space: Space) -> tuple[Limit, ...]:
    found = []
    for name, most in space.constraints.items():
        if name == FIT:
            capacity = targets.find(space.target).capacity
            found += [Limit(FIT, key, most * have) for key, have in capacity.items()]
        else:
            found.append(Limit(name, name, most))
    return tuple(found)


def _known(space: Space, encodings: IntArray) -> dict[str, Vector]:
    """Estimates of encodings [n, genes]; -inf, which breaks nothing, where none is to be trusted.

    A plan with a share of neurons in triple has them where trained weights say.
    """
    columns = estimate_batch(space, encodings)
    tables = [space.plan(str(name)).default.tmr for name in space.gene("plan").choices]
    shares = np.array([isinstance(tmr, Tmr) and tmr.share is not None for tmr in tables])
    unsure = shares[encodings[:, space.columns["plan"]]]
    for name in CIRCUIT:
        columns[name][unsure] = -np.inf
    return columns


def broken(space: Space, columns: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which candidates break a constraint that `columns` [n], as of `estimate_batch`, tell: [n].

    NaN, what has no circuit, breaks nothing: its evaluation says why.
    """
    found = np.zeros(len(next(iter(columns.values()))), dtype=bool)
    for limit in _limits(space):
        if limit.column in columns:
            found |= np.asarray(columns[limit.column]) > limit.most
    return found


class Constraints:
    """The constraints of a space, for the loop of a search."""

    def __init__(self, space: Space) -> None:
        self.space, self.limits = space, _limits(space)

    def refused(self, encodings: IntArray) -> list[str | None]:
        """Why each of encodings [n, genes] is not worth training, or None.

        "NAME, predicted luts 23000 > 19430": beyond the limit by more than predictions err.
        """
        reasons: list[str | None] = [None] * len(encodings)
        told = [limit for limit in self.limits if limit.column in PREDICTED]
        if not told or not len(encodings):
            return reasons
        columns = _known(self.space, encodings)
        for limit in told:
            values = columns[limit.column]
            clear = values > limit.most * (1 + MARGINS.get(limit.column, 0.0))
            for index in np.flatnonzero(clear):
                if reasons[index] is None:
                    value = f"{limit.column} {values[index]:g} > {limit.most:g}"
                    reasons[index] = f"{limit.name}, predicted {value}"
        return reasons

    def broken(self, objectives: Mapping[str, float]) -> str | None:
        """The first constraint that an evaluated candidate breaks: "NAME, luts 20100 > 19430"."""
        for limit in self.limits:
            value = objectives.get(limit.column)
            if value is not None and not value <= limit.most:
                return f"{limit.name}, {limit.column} {value:g} > {limit.most:g}"
        return None


def check(space: Space) -> None:
    """Look for a candidate that satisfies every constraint that estimates tell.

    A small space is looked at whole, else candidates are drawn and the closest ones are changed
    gene by gene. Raises InputError naming the constraint, else the pair, else all that nothing
    satisfied, with the least value that was seen.
    """
    limits = [limit for limit in _limits(space) if limit.column in PREDICTED]
    if not limits:
        return
    seen = _Seen(space)
    if seen.satisfy(limits):
        return
    for count in (1, 2, len(limits)):
        for some in itertools.combinations(limits, count):
            if not seen.satisfy(some):
                raise InputError(seen.complaint(some))


class _Seen:
    """Candidates looked at so far and what they need, in shares of the limits."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.rng = np.random.default_rng(space.search.seed)
        self.whole = space.size <= SMALL
        self.encodings = space.sample(self.rng, space.size if self.whole else DRAWN[0])
        self.columns = _known(space, self.encodings)
        self.drawn = 1

    def look(self, encodings: IntArray) -> None:
        """Estimate more candidates."""
        rows = np.unique(self.space.canonical(encodings), axis=0)
        known = {row.tobytes() for row in self.encodings}
        new = np.array([row for row in rows if row.tobytes() not in known], dtype=np.int64)
        if not len(new):
            return
        found = _known(self.space, new)
        self.encodings = np.concatenate((self.encodings, new))
        self.columns = {
            name: np.concatenate((values, found[name])) for name, values in self.columns.items()
        }

    def excess(self, limits: Sequence[Limit]) -> Vector:
        """For each candidate the largest share of a limit that it needs: above 1 it breaks one."""
        shares = [self.columns[one.column] / max(one.most, 1e-9) for one in limits]
        worst: Vector = np.max(shares, axis=0)
        return np.where(np.isnan(worst), np.inf, worst)

    def satisfy(self, limits: Sequence[Limit]) -> bool:
        """Whether a candidate that satisfies all of `limits` was seen, or can be found.

        Also where no candidate has a circuit: evaluations will say why.
        """
        if np.isposinf(self.excess(limits)).all():
            return True
        if self.excess(limits).min() <= 1:
            return True
        if self.whole:
            return False
        for count in DRAWN[self.drawn :]:
            self.drawn += 1
            self.look(self.space.sample(self.rng, min(count, self.space.size)))
            if self.excess(limits).min() <= 1:
                return True
        return self._descend(limits)

    def _descend(self, limits: Sequence[Limit]) -> bool:
        """Change the closest candidates gene by gene until none of the changes is closer."""
        least = math.inf
        while (best := float(self.excess(limits).min())) < least:
            if best <= 1:
                return True
            least = best
            closest = np.argsort(self.excess(limits), kind="stable")[:STARTS]
            self.look(np.concatenate([self._neighbours(self.encodings[i]) for i in closest]))
        return False

    def _neighbours(self, encoding: IntArray) -> IntArray:
        """Every encoding that differs in one gene."""
        found = []
        for column, size in enumerate(self.space.sizes.tolist()):
            for choice in range(size):
                if choice != encoding[column]:
                    changed = encoding.copy()
                    changed[column] = choice
                    found.append(changed)
        return np.array(found, dtype=np.int64).reshape(-1, len(encoding))

    def complaint(self, limits: Sequence[Limit]) -> str:
        """The message for limits that nothing satisfies."""
        how = f"all {len(self.encodings):,}" if self.whole else f"{len(self.encodings):,} tried"
        every = "both" if len(limits) == 2 else "all of them"
        best = int(np.argmin(self.excess(limits)))
        values = [float(self.columns[one.column][best]) for one in limits]
        wanted = " and ".join(
            f"{one.name}: {one.text}" if one.name == FIT else one.text for one in limits
        )
        needs = " and ".join(
            f"{value:g} {one.column}" for value, one in zip(values, limits, strict=True)
        )
        if len(limits) == 1:
            return (
                f"[constraints] {wanted}: the smallest of {how} candidates needs {needs}; "
                "raise the limit or add smaller choices"
            )
        return (
            f"[constraints] {wanted}: no candidate of {how} satisfies {every}; the closest has "
            f"{needs}; relax one"
        )
