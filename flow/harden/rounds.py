"""From the predicted front to a plan whose budget, or ratio, was measured: a few rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...quant.errors import InputError
from ..plan import Plan
from .front import Point

__all__ = ["Measures", "Outcome", "within_budget", "within_ratio"]

ROUNDS = 4
CLOSE = 0.85
"""A plan that uses this much of the budget is not improved further."""
STRICTER = 0.9
"""Of the ratio that a round asks for, beyond what the one before missed."""

Json = dict[str, Any]


class Measures(Protocol):
    """What a round needs of `bench.Bench`."""

    def build(self, plan: Plan) -> None:
        """Write the design of a plan."""

    def overhead(self) -> Json:
        """Its measured area, `overhead` among it."""

    def ratio(self) -> Json:
        """Its campaign, `ratio` {value, low, high} among it."""


@dataclass
class Outcome:
    """The plan that was taken, what was measured of it, and every round: what was predicted and
    measured. `failure` says what claim the measurement did not bear out."""

    point: Point
    measured: Json
    rounds: list[Json] = field(default_factory=list)
    failure: str | None = None


def within_budget(points: Sequence[Point], budget: float, bench: Measures) -> Outcome:
    """The plan of the lowest predicted ratio whose measured overhead is within `budget`.

    Each round asks for what the round before says the estimate misjudges. Raises InputError naming
    the smallest overhead if no plan is within the budget.
    """
    smallest = points[1].predicted.overhead
    if smallest > budget:
        raise InputError(_unmet(budget, smallest, "estimated"))
    limit, best, rounds = budget, None, list[Json]()
    tried: dict[int, Json] = {}
    for number in range(ROUNDS):
        fitting = [i for i, p in enumerate(points) if i and p.predicted.overhead <= limit]
        place = fitting[-1] if fitting and number < ROUNDS - 1 else 1
        if place in tried or (place == 1 and best is not None):
            break
        tried[place] = _area(points[place], bench, rounds)
        overhead = tried[place]["overhead"]
        if overhead <= budget and (best is None or place > best):
            best = place
        if place == 1 or overhead <= 0 or CLOSE * budget <= overhead <= budget:
            break
        limit = points[place].predicted.overhead * budget / overhead
    if best is None:
        least = min(one["overhead"] for one in tried.values())
        raise InputError(_unmet(budget, least, "measured"))
    bench.build(points[best].plan)
    return Outcome(points[best], tried[best] | bench.ratio(), rounds)


def _unmet(budget: float, least: float, how: str) -> str:
    return (
        f"--budget {100 * budget:g}%: no protection is that small; the smallest possible overhead "
        f"is {least:.2%} ({how}); give --budget {100 * least + 0.05:.1f}% or more"
    )


def _area(point: Point, bench: Measures, rounds: list[Json]) -> Json:
    bench.build(point.plan)
    found = bench.overhead()
    rounds.append(_predicted(point) | {"measured_overhead": found["overhead"]})
    return found


def _predicted(point: Point) -> Json:
    one = point.predicted
    return {"predicted_overhead": one.overhead, "predicted_ratio": one.ratio}


def within_ratio(points: Sequence[Point], target: float, bench: Measures) -> Outcome:
    """The cheapest plan whose measured ratio, its upper limit, is at most `target`.

    If none is, the one of the lowest limit that was measured, and `failure` says how low it is and
    what it costs.
    """
    goal, rounds = target, list[Json]()
    tried: dict[int, Json] = {}
    met: int | None = None
    for _ in range(ROUNDS):
        reaching = [i for i, p in enumerate(points) if i and p.predicted.ratio <= goal]
        place = reaching[0] if reaching else len(points) - 1
        if place in tried:
            break
        bench.build(points[place].plan)
        tried[place] = found = bench.ratio()
        rounds.append(_predicted(points[place]) | {"measured_ratio": found["ratio"]})
        high = _limit(found)
        if high <= target:
            met = place
            break
        if place == len(points) - 1:
            break
        goal = min(goal, points[place].predicted.ratio * target / high) * STRICTER
    taken = min(tried, key=lambda i: _limit(tried[i])) if met is None else met
    bench.build(points[taken].plan)
    outcome = Outcome(points[taken], bench.overhead() | tried[taken], rounds)
    if met is None:
        outcome.failure = _missed(target, outcome.measured)
    return outcome


def _limit(found: Json) -> float:
    """The upper limit of a measured ratio; without one, as large as can be."""
    high = found["ratio"]["high"]
    return float("inf") if high is None else float(high)


def _missed(target: float, measured: Json) -> str:
    ratio = measured["ratio"]
    high, value = _limit(measured), ratio["value"]
    shown = "unknown" if value is None else f"{value:.4f}"
    enough = value is not None and value <= target
    hint = "; more --faults narrow the limit" if enough else ""
    return (
        f"--target-ratio {target:g}: the lowest ratio reached is {shown} ({ratio['confidence']:.0%}"
        f" limit {high:.4f}) at {measured['overhead']:+.1%} area{hint}"
    )
