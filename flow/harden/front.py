"""The front of cost against ratio: what the choice over all layers gives, predicted as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...hw.fold import UNPROTECTED, Protection
from ..plan import Checksum, Plan, Settings, Tmr
from .choose import Choice, choose
from .options import Group, candidates, plan_guards
from .predict import Prediction, Predictor

__all__ = ["Point", "front"]

POINTS = 160
"""Points of the choice that are predicted as whole designs; the rest lie between them."""

HALVES = 2
"""Areas are multiples of half a LUT: integers of this many to one."""


@dataclass(frozen=True)
class Point:
    """A plan and what is predicted for it: the option taken of each group, the protection of every
    layer that follows, and whether a watchdog guards the output."""

    groups: Sequence[Group]
    options: tuple[int, ...]
    guards: Mapping[str, Protection]
    watchdog: bool
    predicted: Prediction

    @property
    def plan(self) -> Plan:
        """The plan, with everything stated."""
        layers = {name: _settings(guard) for name, guard in self.guards.items()}
        return Plan(layers=layers, watchdog=self.watchdog)

    def to_json(self) -> dict[str, Any]:
        """{overhead, area, ratio, plan}."""
        return {**vars(self.predicted), "plan": self.plan.to_json()}


def front(predictor: Predictor) -> list[Point]:
    """Plans by rising overhead and falling ratio, the unprotected design first.

    With a watchdog and without, if its effect was measured.
    """
    points = _points(predictor)
    if predictor.coverage.watched:
        points += _points(predictor.watched())
    points.sort(key=lambda point: (point.predicted.overhead, point.predicted.ratio))
    found: list[Point] = []
    for point in points:
        if not found or point.predicted.ratio < found[-1].predicted.ratio:
            found.append(point)
    return found


def _points(predictor: Predictor) -> list[Point]:
    groups = candidates(predictor)
    pairs = [[(round(HALVES * o.area), o.left) for o in group.options] for group in groups]
    choices = _thinned(choose(pairs))
    every = dict.fromkeys(predictor.folding, UNPROTECTED)
    points = []
    for choice in choices:
        guards = every | plan_guards(groups, choice.options)
        predicted = predictor.predict(guards)
        points.append(Point(groups, choice.options, guards, predictor.watchdog, predicted))
    return points


def _thinned(choices: list[Choice]) -> list[Choice]:
    """Some `POINTS` of them, evenly by their number, the first two and the last among them."""
    spread = np.linspace(0, len(choices) - 1, POINTS).round().astype(int)
    chosen = sorted({0, min(1, len(choices) - 1), *spread.tolist()})
    return [choices[index] for index in chosen]


def _settings(guard: Protection) -> Settings:
    """What differs from no protection; control always, since a checksum changes its default."""
    checksum = tmr = None
    if guard.modulus is not None:
        checksum = Checksum(guard.modulus, guard.form, guard.retry)
    if guard.neurons:
        tmr = Tmr(guard.neurons, mode=guard.mode, voters=guard.voters)
    words = {
        key: value
        for key in ("stream", "post", "weights")
        if (value := getattr(guard, key)) != "none"
    }
    return Settings(checksum=checksum, tmr=tmr, control=guard.control, **words)
